"""A training then and now: what is the same, and how far the rest lies apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

Verdict = Literal["identical", "within noise", "outside noise", "differs"]


@dataclass(frozen=True)
class Compared:
    """A number then and now."""

    found: float
    again: float

    @property
    def difference(self) -> float:
        """Now minus then; 0 where both are no number."""
        return 0.0 if isnan(self.found) and isnan(self.again) else self.again - self.found

    def as_json(self) -> dict[str, float]:
        """Return plain data."""
        return {"found": self.found, "again": self.again, "difference": self.difference}


@dataclass(frozen=True)
class EpochCompared:
    """One epoch then and now.

    Args:
        trial: whose; None: of no trial.
        epoch: counted from 1.
        values: of what was recorded then, by its name.
    """

    trial: int | None
    epoch: int
    values: Mapping[str, Compared]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        values = {name: value.as_json() for name, value in self.values.items()}
        return {"trial": self.trial, "epoch": self.epoch, "values": values}


@dataclass(frozen=True)
class Reproduction:
    """What training again has brought.

    Args:
        metric: the objective.
        same_data: whether the data's fingerprint is the same.
        same_weights: whether the pretrained weights' files are.
        same_hardware: whether the device, its precision and its threads are.
        epochs: of every run.
        validation, test: metrics of the finished model; {} where none were recorded.
        identical: whether the model is the same, bit for bit.
        band: how far the objective may lie off by chance; None while the noise is not known.
    """

    metric: str
    same_data: bool
    same_weights: bool
    same_hardware: bool
    epochs: tuple[EpochCompared, ...]
    validation: Mapping[str, Compared]
    test: Mapping[str, Compared]
    identical: bool
    band: float | None

    @property
    def final(self) -> Compared | None:
        """The objective: on the validation split, or else on the test split."""
        return self.validation.get(self.metric) or self.test.get(self.metric)

    @property
    def verdict(self) -> Verdict:
        """What the comparison comes to."""
        if self.identical:
            return "identical"
        if self.band is None or self.final is None:
            return "differs"
        return "within noise" if abs(self.final.difference) <= self.band else "outside noise"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "verdict": self.verdict,
            "identical": self.identical,
            "metric": self.metric,
            "noise_band": self.band,
            "same_data": self.same_data,
            "same_weights": self.same_weights,
            "same_hardware": self.same_hardware,
            "validation": {name: each.as_json() for name, each in self.validation.items()},
            "test": {name: each.as_json() for name, each in self.test.items()},
            "epochs": [each.as_json() for each in self.epochs],
        }
