"""What the trials of a study may take together, and what they have taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Budgets of a whole study; None: no limit.

    Args:
        hours: none is begun later than this after the first.
        gpu_hours: of their devices, that all workers may spend on them.
        epochs_total: that all may be trained for.
        epochs: of each trial, that it reserves when it is begun.
    """

    hours: float | None = None
    gpu_hours: float | None = None
    epochs_total: int | None = None
    epochs: int = 1

    def arguments(self) -> dict[str, Any]:
        """Return them as the statements in `sql` want them."""
        return {
            "seconds_allowed": None if self.hours is None else self.hours * 3600,
            "device_seconds_allowed": None if self.gpu_hours is None else self.gpu_hours * 3600,
            "epochs_allowed": self.epochs_total,
            "epochs_each": self.epochs,
        }

    def in_words(self, over: str) -> str:
        """Return the budget of this key for a sentence: `8 hours`."""
        most, unit = {
            "hours": (self.hours, "hours"),
            "gpu_hours": (self.gpu_hours, "device hours"),
        }.get(over, (self.epochs_total, "epochs"))
        # The study's file may have got this budget after this worker has read it.
        return f"its {unit}" if most is None else f"{most:.10g} {unit}"


UNLIMITED = Limits()


@dataclass(frozen=True)
class Spent:
    """What the trials of a study have taken up to now.

    Args:
        device_seconds: of all workers together, from each claim to the trial's end.
        epochs: that were reported.
        age_seconds: since the first was begun; None: none was.
        ended_seconds: from then on until the last ended; None: none has.
    """

    device_seconds: float
    epochs: int
    age_seconds: float | None
    ended_seconds: float | None
