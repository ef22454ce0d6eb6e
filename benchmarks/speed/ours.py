"""A search as tunesvc's study file has it."""

from __future__ import annotations

from typing import Any

from peers.job import Backbone, Job

from tunesvc.spec import StudySpec

_BODY = ("last-stage", "freeze-fraction", "full", "gradual-unfreeze", "bias-norm-only")


def spec(job: Job, *, league: bool = True) -> StudySpec:
    """Return the study file of a job: the same data, backbones, knobs, ranges and budget."""
    return StudySpec.model_validate(
        {
            "name": job.study,
            "data": {"kind": "folder", "path": job.data, "image_size": job.image_size},
            "backbones": [_backbone(each) for each in job.backbones],
            "search_space": space(job),
            "budget": {"trials": job.trials, "epochs": job.epochs},
            "pruner": {"kind": "asha", "reduction_factor": 3} if job.prune else {"kind": "none"},
            "league": league,
            "seed": job.seed,
        }
    )


def _backbone(chosen: Backbone) -> dict[str, Any]:
    return {
        "name": chosen.model,
        "weights": chosen.weights or "none",
        "kwargs": chosen.kwargs,
        "label": chosen.label,
    }


def space(job: Job) -> dict[str, Any]:
    """Return the job's space; what the peers know nothing of is fixed where it does nothing."""
    decay = {"low": job.weight_decay[0], "high": job.weight_decay[1], "log": True}
    found = {
        "strategy": _one_or_more(job.strategies),
        "augmentation": _one_or_more(job.augmentations),
        "optimizer": "adamw",
        "lr": {"low": job.lr[0], "high": job.lr[1], "log": True},
        "weight_decay": decay,
        "batch_size": job.batch_size,
        "schedule": "constant",
        "warmup": 0.0,
        "label_smoothing": 0.0,
        "dropout": 0.0,
    }
    return found | _conditional(job.strategies)


def _conditional(strategies: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    slowed = [each for each in strategies if each in _BODY]
    if slowed:
        found["body_lr_multiplier"] = {"choices": [0.1, 1.0], "when": {"strategy": slowed}}
    if "freeze-fraction" in strategies:
        when = {"strategy": "freeze-fraction"}
        found["freeze_fraction"] = {"low": 0.25, "high": 0.75, "step": 0.25, "when": when}
    return found


def _one_or_more(values: list[str]) -> Any:
    return values[0] if len(values) == 1 else values
