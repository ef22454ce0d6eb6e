"""What is to be searched, as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna


@dataclass(frozen=True)
class Backbone:
    """A torchvision model.

    Args:
        model: torchvision's name; `kwargs` go to its constructor.
        weights: file of a state_dict; "" is a random start.
        stages: from input to output, the names of each stage's modules.
        head: name of the last layer, which is replaced.
    """

    label: str
    model: str
    kwargs: dict[str, Any]
    weights: str
    stages: list[list[str]]
    head: str


@dataclass(frozen=True)
class Job:
    """One study.

    Args:
        data: folder with train/ and val/, each with a folder per class.
        image_size: side in pixels of what the model sees.
        resize: the shorter side before the centre is cropped from it.
        lr: both ends of the range of the learning rate, which is drawn logarithmically.
        loader_workers: processes that decode, 0 for none.
    """

    study: str
    data: str
    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    backbones: list[Backbone]
    strategies: list[str]
    augmentations: list[str]
    trials: int
    epochs: int
    prune: bool
    batch_size: int = 32
    lr: tuple[float, float] = (1e-4, 1e-2)
    weight_decay: tuple[float, float] = (1e-6, 1e-2)
    seed: int = 0
    device: str = "cpu"
    loader_workers: int = 0

    def backbone(self, label: str) -> Backbone:
        """Return the backbone of this label."""
        return next(each for each in self.backbones if each.label == label)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw a configuration; a knob that does nothing in it is not drawn."""
        drawn: dict[str, Any] = {
            "backbone": trial.suggest_categorical("backbone", [b.label for b in self.backbones]),
            "strategy": trial.suggest_categorical("strategy", self.strategies),
            "augmentation": trial.suggest_categorical("augmentation", self.augmentations),
            "lr": trial.suggest_float("lr", *self.lr, log=True),
            "weight_decay": trial.suggest_float("weight_decay", *self.weight_decay, log=True),
        }
        if drawn["strategy"] == "freeze-fraction":
            drawn["fraction"] = trial.suggest_float("fraction", 0.25, 0.75, step=0.25)
        if drawn["strategy"] not in ("linear-probe", "from-scratch"):
            drawn["body"] = trial.suggest_categorical("body", [0.1, 1.0])
        return drawn


def write(jobs: Iterable[Job], path: Path) -> None:
    """Write jobs for another process."""
    path.write_text(json.dumps([asdict(job) for job in jobs]))


def read(path: Path) -> list[Job]:
    """Return the jobs that were written."""
    return [
        Job(**{**job, "backbones": [Backbone(**each) for each in job["backbones"]]})
        for job in json.loads(path.read_text())
    ]
