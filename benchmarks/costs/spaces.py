"""What is searched: two studies that differ in what a dear trial is worth.

`photos` is a case for probes: its images look like those that the backbones were trained with, and
a head on frozen features is about as good as training all of it. On `tiny` images, enlarged, it is
not: what is best there is among the dearest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesvc.spec import StudySpec

BENCHMARKS = Path(__file__).resolve().parents[1]
WEIGHTS = BENCHMARKS.parent / "../shared" / "weights"
PHOTOS = BENCHMARKS.parent / "../shared" / "data" / "hymenoptera"
CIFAR = BENCHMARKS.parent / "../shared" / "data" / "cifar10-jpeg-subset" / "cifar10_10k_2k.npz"
EPOCHS = 3
TRAIN, VAL = 300, 400  # of the tiny images
STRATEGIES = ("linear-probe", "last-stage", "freeze-fraction", "full")
BODY = ("freeze-fraction", "full")  # nothing that is kept makes these cheap

_BACKBONES = [
    ("mobilenet_v2", "mobilenet_v2", {}, "mobilenet_v2-tf2ptq-82f7e551.pth"),
    ("mobilenet_v2_w035", "mobilenet_v2", {"width_mult": 0.35},
     "mobilenet_v2_w035-keras-features-96ed9f53.pth"),
    ("squeezenet1_1", "squeezenet1_1", {}, "squeezenet1_1-caffe-features-49c38fe8.pth"),
]  # fmt: skip
_SPACE = {
    "freeze_fraction": {
        "low": 0.25, "high": 0.75, "step": 0.25, "when": {"strategy": "freeze-fraction"},
    },
    "lr": {"low": 1e-4, "high": 3e-2, "log": True},
    "batch_size": [16, 64],
    "optimizer": "adamw", "weight_decay": 1e-4, "schedule": "constant", "warmup": 0.0,
    "label_smoothing": 0.0, "dropout": 0.0, "augmentation": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Images at a size; in words, what they are."""

    name: str
    image_size: int
    words: str


CASES = {
    case.name: case
    for case in (
        Case("photos", 64, "ants and bees, 244 + 153 photographs, 64 px"),
        Case("tiny", 48, f"CIFAR-10 JPEG, {TRAIN} + {VAL} images of 32 px, enlarged to 48 px"),
    )
}


def missing() -> list[Path]:
    """Return what running needs and this machine has not got."""
    files = [WEIGHTS / file for *_, file in _BACKBONES]
    return [path for path in (PHOTOS, CIFAR, *files) if not path.exists()]


def images(case: Case, folder: Path) -> Path:
    """Return where the case's class folders lie; CIFAR's are written below `folder` first."""
    if case.name == "photos":
        return PHOTOS.resolve()
    place = folder / "tiny"
    if not place.exists():
        sys.path.insert(0, str(BENCHMARKS))
        from speed.subjects import unpacked

        unpacked(place, train=TRAIN, val=VAL)
    return place


def spec(
    case: Case,
    name: str,
    data: Path,
    *,
    sampler: Mapping[str, Any],
    strategies: Sequence[str] = STRATEGIES,
    pruner: str = "none",
    seed: int = 0,
    hours: float | None = None,
    trials: int | None = None,
) -> StudySpec:
    """Return the study file of a search."""
    return StudySpec.model_validate(
        {
            "name": name,
            "data": {"kind": "folder", "path": str(data), "image_size": case.image_size},
            "backbones": [
                {"label": label, "name": model, "kwargs": dict(kwargs),
                 "weights": str((WEIGHTS / file).resolve())}
                for label, model, kwargs, file in _BACKBONES
            ],
            "search_space": _space(strategies),
            "budget": {"trials": trials, "epochs": EPOCHS, "hours": hours},
            "sampler": dict(sampler),
            "pruner": pruner,
            "league": False,
            "stack": 1,
            "seed": seed,
        }
    )  # fmt: skip


def _space(strategies: Sequence[str]) -> dict[str, Any]:
    body = [name for name in strategies if name != "linear-probe"]
    slowed = {"choices": [0.1, 1.0], "when": {"strategy": body}}
    return {**_SPACE, "strategy": list(strategies), "body_lr_multiplier": slowed}
