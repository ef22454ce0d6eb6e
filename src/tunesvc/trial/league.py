"""A linear probe of every backbone, before the first trial: the league table.

LogME and the H-score of the same features are entered with it, and what is known of the weights.

Its heads are kept beside the checkpoints; trials under `lp_ft` start from them.

    {study}-{uid}/league-00-{sha256}/{mark}.ckpt       of the study file's first backbone

Why: 2026-11: a probe costs one pass over the images with a frozen backbone, whose outputs later
head-only trials want anyway, and a second or so for the head. A host's workers divide the backbones
among themselves. Two hosts may probe the same one at once: the first that is entered counts, its
head is the one that trials start from, on whichever machine.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from tunesvc import checkpoint, hostcache, study
from tunesvc.backbones import has_plain_head
from tunesvc.checkpoint import Mark
from tunesvc.errors import StorageError
from tunesvc.spec import Knobs, TrialConfig
from tunesvc.study import Probed, artifact_folder
from tunesvc.train import Placement, Run
from tunesvc.train.probe import probe
from tunesvc.train.transferability import transferability
from tunesvc.trial import facts
from tunesvc.trial.desk import Desk

log = logging.getLogger(__name__)

_MARK = Mark(0, 0, 0)


def complete(desk: Desk, placement: Placement, tick: Callable[[], None]) -> None:
    """Probe every pretrained backbone of the study that nobody has probed yet.

    Args:
        tick: called after every batch; what it raises passes, and leaves nothing behind.
    """
    spec, known = desk.study.spec, study.league(desk.study)
    if not spec.league:
        return
    pretrained = (name for name in spec.backbone_labels if spec.backbone(name).weights != "none")
    missing = [label for label in pretrained if label not in known]
    others = [label for label in missing if not _complete(desk, label, placement, tick, wait=False)]
    for label in others:
        _complete(desk, label, placement, tick, wait=True)


def _complete(
    desk: Desk, label: str, placement: Placement, tick: Callable[[], None], *, wait: bool
) -> bool:
    """Probe a backbone, unless it was meanwhile; return False where another is at it.

    Args:
        wait: for that other, which may die.
    """
    number = desk.study.spec.backbone_labels.index(label)
    file = desk.cache / "league" / f"{desk.study.uid}-{number:02d}.lock"
    with ExitStack() as held:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            is_free = held.enter_context(hostcache.alone(file, tick, wait=wait))
            if is_free:
                held.callback(file.unlink, missing_ok=True)  # who waits for it finds the entry
        except OSError as error:  # a full disk: then two may be at it
            log.info("%s may be probed twice: %s", label, error)
            is_free = True
        if is_free and label not in study.league(desk.study):
            _probe(desk, label, placement, tick)
    return is_free


def head(desk: Desk, label: str) -> tuple[Tensor, Tensor] | None:
    """Return the head of a backbone's probe, (C, D) and (C,) float32; None where it has none.

    Raises:
        StorageError: it has one, which is not here: another would make another trial.
    """
    entry = study.league(desk.study).get(label)
    if entry is None or not entry.head:
        return None
    kept = checkpoint.load(desk.shelf, _folder(desk, label, entry.head))
    if kept is None:
        raise StorageError(
            f"the linear probe of {label} is not here",
            f"{desk.shelf.location} does not hold it, and trials with lp_ft start from its head",
            "workers on several hosts need one place for checkpoints (TUNESVC_ARTIFACTS)",
        )
    return kept["weight"], kept["bias"]


def start(desk: Desk, label: str, knobs: Knobs) -> tuple[Tensor, Tensor] | None:
    """Return the head that a run starts from under `lp_ft`, as `head`; None: it is drawn.

    Raises:
        StorageError: as `head`.
    """
    return head(desk, label) if "lp_epochs" in knobs.acting() and desk.study.spec.league else None


def seed_head(desk: Desk, label: str, training: Run) -> None:
    """Have a run under `lp_ft` start from its backbone's probe.

    Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", section 3.
    """
    found = start(desk, label, training.config.knobs)
    if found is None:
        return
    with torch.no_grad():
        for name, value in zip(training.backbone.head.parameters, found, strict=True):
            training.module.get_parameter(name).copy_(value)


def _probe(desk: Desk, label: str, placement: Placement, tick: Callable[[], None]) -> None:
    try:
        _fit(desk, label, placement, tick)
    except (RuntimeError, MemoryError) as error:  # no room on the device, or no solution
        why = next(iter(str(error).splitlines()), type(error).__name__)
        log.warning("no linear probe of %s: %s", label, why)
        why = f"it could not be probed: {why}"
        study.enter(desk.study, Probed(label, {}, why=why, **_of_weights(desk, label)))


def _fit(desk: Desk, label: str, placement: Placement, tick: Callable[[], None]) -> None:
    knobs = Knobs(strategy="linear-probe", augmentation="none")
    config = TrialConfig(desk.study.spec.backbone(label), knobs, 1, 0, is_cached=True)
    first, second = desk.splits(config, "train", "val", tick=tick)
    run = desk.training(config, first, second, placement)
    run.freeze(tick)
    outputs = run.inputs.outputs
    if outputs is None or outputs.val.one(0).dim() != 2 or not has_plain_head(run.backbone):
        why = "its outputs cannot be kept here, or its head is not one linear layer"
        study.enter(desk.study, Probed(label, {}, why=why, **_of_weights(desk, label)))
        return
    found = probe(
        outputs.train.one(0), first.targets, outputs.val.one(0), second.targets,
        desk.task, desk.models.outputs, metric=desk.metric, tick=tick,
    )  # fmt: skip
    digest = hashlib.sha256(
        found.weight.numpy().tobytes() + found.bias.numpy().tobytes()
    ).hexdigest()
    kept = {"weight": found.weight, "bias": found.bias}
    checkpoint.save(kept, desk.shelf, _folder(desk, label, digest), _MARK)
    cheap = transferability(outputs.train.one(0), first.targets, tick=tick)
    entry = Probed(
        label, found.metrics, found.l2, round(found.seconds, 3), len(first.targets), digest,
        logme=cheap.logme, h_score=cheap.h_score, transfer_seconds=round(cheap.seconds, 3),
        **_of_weights(desk, label),
    )  # fmt: skip
    study.enter(desk.study, entry)
    log.info("linear probe of %s: %s %.4f", label, desk.metric, found.metrics[desk.metric])


def _of_weights(desk: Desk, label: str) -> dict[str, Any]:
    return facts.of_weights(desk.study.spec.backbone(label), desk.study.base)


def _folder(desk: Desk, label: str, digest: str) -> str:
    number = desk.study.spec.backbone_labels.index(label)
    return f"{artifact_folder(desk.study)}/league-{number:02d}-{digest[:8]}"
