"""A model's metrics on images with known targets, and how sure they are.

    N    images
    p    share of N that is predicted correctly

The interval of the accuracy is Wilson's; those of all other metrics are percentiles of the same
metric over random draws of N of the images, with replacement. Both cover the choice of the images,
not the seed of the training.
Source: Wilson 1927, "Probable Inference"; Brown, Cai & DasGupta 2001, "Interval Estimation for a
Binomial Proportion"; Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.

Why: 2026-11: where all draws give one value (no mistake among few images) the draws cannot tell how
uncertain it is. There is no interval then, rather than one of no width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesvc.tasks import Task

LEVEL = 0.95
_FEWEST, _NUMBERS = 200, 10**8  # draws, and images in all of them


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval; `low` and `high` are None where it has none."""

    value: float
    low: float | None
    high: float | None
    how: str

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"value": self.value, "low": self.low, "high": self.high, "interval": self.how}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model is worth on some images.

    Args:
        metrics: all of the task's, "loss" included.
        classes: in the order of `confusion`; () where the task learns numbers.
        confusion: (C, C) int64, rows are the true classes; None where there are none.
        points: (N, 2) float32, the true and the predicted number; None where there are classes.
        images: that were measured.
        skipped: those that could not be read: names and reasons.
        remark: what should be known of these images, in words; "": nothing.
    """

    metrics: Mapping[str, Measured]
    classes: tuple[str, ...]
    confusion: NDArray[np.int64] | None
    points: NDArray[np.float32] | None
    images: int
    skipped: tuple[tuple[str, str], ...] = ()
    remark: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        told: dict[str, Any] = {
            "images": self.images,
            "remark": self.remark,
            "metrics": {name: found.as_json() for name, found in self.metrics.items()},
        }
        if self.confusion is not None:
            told["classes"] = [each | {"class": name} for name, each in self.per_class()]
            told["confusion"] = self.confusion.tolist()
        return told | {"skipped": [{"path": name, "error": why} for name, why in self.skipped]}

    def per_class(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield of every class how many images there are, its recall and its precision."""
        assert self.confusion is not None
        true, said = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        for index, name in enumerate(self.classes):
            hits = int(self.confusion[index, index])
            shares = {
                what: share(hits, int(among[index])).as_json() if among[index] else None
                for what, among in (("recall", true), ("precision", said))
            }
            yield name, {"images": int(true[index]), **shares}


def share(hits: int, among: int) -> Measured:
    """Return a share of independent images, `among` > 0 of them, with Wilson's interval."""
    z, p, n = NormalDist().inv_cdf((1 + LEVEL) / 2), hits / among, among
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return Measured(p, max(0.0, centre - reach), min(1.0, centre + reach), "Wilson")


def measure(
    task: Task,
    outputs: Tensor,
    targets: Tensor,
    classes: Sequence[str],
    *,
    skipped: Sequence[tuple[str, str]] = (),
    seed: int = 0,
    draws: int = 1000,
) -> Evaluation:
    """Return what outputs are worth.

    Args:
        outputs: (N, num_outputs) float32 on the CPU, N ≥ 1.
        targets: (N,) int64 or float32.
        classes: in the order of the outputs; () where the task learns numbers.
        seed: of the random draws.
        draws: so many, fewer of very many images.
    """
    scored = _Scored(task, outputs, targets)
    values, drawn = scored.values(), scored.draws(seed, draws)
    metrics = {
        name: _interval(value, [draw[name] for draw in drawn]) for name, value in values.items()
    }
    confusion = points = None
    if task.target == "class":
        confusion = _confusion(scored.predictions, targets, len(classes))
        exact = share(int(np.trace(confusion)), len(targets))
        if abs(values.get("accuracy", -1.0) - exact.value) < 1e-6:
            metrics["accuracy"] = exact
    else:
        points = torch.stack([targets.float(), scored.predictions.float()], dim=1).numpy()
    named = tuple(classes)
    return Evaluation(metrics, named, confusion, points, len(targets), tuple(skipped))


def _interval(value: float, drawn: Sequence[float]) -> Measured:
    known = [each for each in drawn if isfinite(each)]
    if not isfinite(value) or len(known) < _FEWEST // 2 or min(known) == max(known):
        return Measured(value, None, None, "none")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Measured(value, float(low), float(high), "bootstrap")


def _confusion(predictions: Tensor, targets: Tensor, classes: int) -> NDArray[np.int64]:
    cells = torch.bincount(targets * classes + predictions, minlength=classes**2)
    found: NDArray[np.int64] = cells.view(classes, classes).numpy()
    return found


class _Scored:
    """Outputs and targets, of which any draw can be measured."""

    def __init__(self, task: Task, outputs: Tensor, targets: Tensor) -> None:
        self.task, self.outputs, self.targets = task, outputs, targets
        self.predictions = task.predictions(outputs)
        self.collection = task.metric_collection(outputs.shape[1])

    def values(self, picked: Tensor | None = None) -> dict[str, float]:
        """Return all metrics of the picked images, (n,) int64, or of all."""
        parts = (self.predictions, self.targets, self.outputs)
        predictions, targets, outputs = (p if picked is None else p[picked] for p in parts)
        self.collection.reset()
        self.collection.update(predictions, targets)
        found = {name: float(value) for name, value in self.collection.compute().items()}
        return found | {"loss": float(self.task.loss(outputs, targets))}

    def draws(self, seed: int, draws: int) -> list[dict[str, float]]:
        """Return the metrics of many draws with replacement."""
        count, generator = len(self.targets), torch.Generator().manual_seed(seed)
        if count < 2:
            return []
        draws = min(draws, max(_FEWEST, _NUMBERS // count))
        return [
            self.values(torch.randint(count, (count,), generator=generator)) for _ in range(draws)
        ]
