"""What a study will take, in numbers and in words. See `duration`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """What a study will take.

    Args:
        seconds: from its start to its end.
        trials, epochs: of all, when the first of its budgets ends.
        epochs_unpruned: had none been ended early.
        frozen_seconds: of all workers, to compute what frozen stages give, once.
        epoch_seconds: backbone → strategy → one epoch of the trials that were played, on average.
    """

    seconds: float
    workers: int
    device: str
    trials: int
    epochs: int
    epochs_unpruned: int
    frozen_seconds: float
    epoch_seconds: Mapping[str, Mapping[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        told = {key: _rounded(value) for key, value in asdict(self).items()}
        return {"about": self.in_words(), **told}

    def in_words(self) -> str:
        """Return `about 4 minutes on this device (2 workers on cpu): 24 trials, …`."""
        spared = "" if self.epochs == self.epochs_unpruned else f" of {self.epochs_unpruned}"
        pruned = ", those that are pruned early reckoned in" if spared else ""
        return (
            f"{_about(self.seconds)} on this device ({self.workers} worker(s) on {self.device}): "
            f"{self.trials} trials, {self.epochs}{spared} epochs{pruned}; what frozen layers give "
            f"takes {self.frozen_seconds:.0f} s of it, once"
        )


def _about(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"about {max(1, round(minutes))} minute{'s' if round(minutes) > 1 else ''}"
    return f"about {minutes / 60:.0f} hours"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value
