"""The league table: how well a linear probe of each backbone does, kept in the study."""

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
    """One backbone's linear probe.

    Args:
        backbone: its label.
        metrics: of the validation split, those of the task's that are numbers; {} where it was not
            probed.
        l2: the regularisation that did best there.
        seconds: of the probe itself, the outputs of the backbone being known.
        images: probed on.
        head: SHA-256 of the head, so that others can tell it from another probe's.
        why: it was not probed.
    """

    backbone: str
    metrics: dict[str, float]
    l2: float = 0.0
    seconds: float = 0.0
    images: int = 0
    head: str = ""
    why: str = ""


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
