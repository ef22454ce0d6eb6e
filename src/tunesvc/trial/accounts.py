"""What a trial tells of itself besides its epochs: what it took, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from tunesvc.leases import Word
from tunesvc.trial import facts

if TYPE_CHECKING:
    from tunesvc.trial.attempt import Attempt


def known(attempt: Attempt) -> dict[str, Any]:
    """Return what the trial stores on itself, with what is to be told at its end."""
    reports = attempt.reports
    stored = reports.insist(reports.known)
    return stored | reports.accounts() | taken(attempt) | {"history": attempt.history}


def taken(attempt: Attempt) -> dict[str, Any]:
    """Return what the run took: its peak of memory, and what it was spared."""
    if attempt.training is None:
        return attempt.peak
    return facts.of_end(attempt.training, attempt.told, attempt.levers, attempt.peak)


def end(attempt: Attempt, state: TrialState, values: Sequence[float], reason: str) -> Word:
    """Return how the trial ends, to be told; nothing is handed in after it."""
    attempt.delivery.quiet()
    attempt.reports.history = attempt.history
    if attempt.constraints.caps and attempt.history:
        attempt.constraints.ended(known(attempt))
    told = taken(attempt) | ({"reason": reason} if reason else {})
    return attempt.reports.end(state, values, told)


def store(attempt: Attempt) -> None:
    """Hand in what finished epochs brought, and store what the trial took so far."""
    reports = attempt.reports
    attempt.delivery.wait()
    reports.say(reports.accounts() | taken(attempt))
    reports.insist(reports.write)
