"""The league table: what a linear probe and other cheap predictors say of each backbone, kept in
the study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from sqlalchemy import text

from tunesvc.study.stored import Study, set_once

_PREFIX = "tunesvc:league:"


class _Sql:
    ENTRIES = text("""
        SELECT key, value_json FROM study_user_attributes
        WHERE study_id = :study_id AND key LIKE 'tunesvc:league:%'
    """)


@dataclass(frozen=True)
class Probed:
    """One backbone's linear probe, and what else foretells how well it can be fine-tuned.

    Args:
        backbone: its label.
        metrics: of the validation split, those of the task's that are numbers; {} where it was not
            probed.
        l2: the regularisation that did best there.
        seconds: of the probe itself, the outputs of the backbone being known.
        images: probed on.
        head: SHA-256 of the head, so that others can tell it from another probe's.
        why: it was not probed.
        logme: log evidence of an image, nats.
        h_score: shrunk, between 0 and the number of classes less one; None: nothing is classified.
        transfer_seconds: that both took.
        imagenet_top1: of the weights, as torchvision tells it, percent; None for other weights.
        pretraining: where the weights' `meta.json` tells of their own training: its `name`, the
            `epoch` after which they were taken, and the `value` of a `metric` on its validation
            split then.
    """

    backbone: str
    metrics: dict[str, float]
    l2: float = 0.0
    seconds: float = 0.0
    images: int = 0
    head: str = ""
    why: str = ""
    logme: float | None = None
    h_score: float | None = None
    transfer_seconds: float = 0.0
    imagenet_top1: float | None = None
    pretraining: Mapping[str, Any] | None = None


def league(study: Study) -> dict[str, Probed]:
    """Return what is known of each backbone, by label, in the order of the study file."""
    with study.store.engine.connect() as connection:
        found = connection.execute(_Sql.ENTRIES, {"study_id": study.id}).all()
    known: Mapping[str, Any] = {row.key.removeprefix(_PREFIX): row.value_json for row in found}
    labels = (label for label in study.spec.backbone_labels if label in known)
    return {label: Probed(**json.loads(known[label])) for label in labels}


def enter(study: Study, entry: Probed) -> None:
    """Keep one backbone's probe, without metrics that are NaN; the first that is entered stays."""
    metrics = {name: value for name, value in entry.metrics.items() if isfinite(value)}
    with study.store.engine.begin() as connection:
        set_once(connection, study, _PREFIX + entry.backbone, asdict(entry) | {"metrics": metrics})
