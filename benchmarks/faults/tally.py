"""What is left when all is over, counted.

- begun: trials that were ever begun; told: those that have ended.
- lost: of the budget, what did not end COMPLETE with a value for every epoch. Under tunesvc each
  parameter and value must also equal the undisturbed study's.
- duplicated: trials that run a configuration which another trial has.
- over_budget: trials beyond the budget; under plain Optuna only COMPLETE ones count, as for its
  own `MaxTrialsCallback`.
- repeated_epochs: attempts at an epoch whose steps were done again (see `journal`).
- kills: workers killed, frozen or left without a disk, and newest checkpoints destroyed: each may
  cost two epochs, the one under way and the one whose checkpoint was being written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from faults import journal
from faults.ours import Ours
from faults.plain import Plain

Values = tuple[dict[str, Any], dict[int, float]]  # parameters; value by epoch


@dataclass(frozen=True)
class Tally:
    """One study's outcome."""

    budget: int
    begun: int
    told: int
    lost: int
    duplicated: int
    over_budget: int
    repeated_epochs: int
    kills: int = 0
    note: str = ""
    is_broken: bool = False  # what only this row promises was not kept; the note tells

    def __str__(self) -> str:
        """Return it as a cell of the table."""
        counts = (
            f"begun {self.begun} told {self.told} of {self.budget}; lost {self.lost}, "
            f"duplicated {self.duplicated}, over {self.over_budget}, "
            f"repeated epochs {self.repeated_epochs}, kills {self.kills}"
        )
        words = [counts, "BROKEN" if self.is_broken else "", self.note]
        return "; ".join(filter(None, words))

    def __add__(self, other: Tally) -> Tally:
        """Return the sum of two studies' outcomes."""
        return Tally(
            self.budget + other.budget,
            self.begun + other.begun,
            self.told + other.told,
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.over_budget + other.over_budget,
            self.repeated_epochs + other.repeated_epochs,
            self.kills + other.kills,
            self.note or other.note,
            self.is_broken or other.is_broken,
        )

    def with_(self, kills: int = 0, note: str = "") -> Tally:
        """Return it with what only the row knows."""
        return replace(self, kills=kills, note=note)

    def broken(self) -> Tally:
        """Return it marked as a failure of tunesvc."""
        return replace(self, is_broken=True)


def values(side: Ours) -> list[Values]:
    """Return each trial's parameters and values, by its number."""
    return [(trial.params, trial.intermediate_values) for trial in side.trials()]


def of(side: Ours | Plain, reference: list[Values] | None = None) -> Tally:
    """Count; `reference` holds the values of the undisturbed study, which may have more trials."""
    trials = [trial for trial in side.trials() if trial.state is not TrialState.WAITING]
    if isinstance(side, Ours):
        whole = [t for t in trials if _is_whole(t, side.epochs) and _is_same(t, reference)]
        counted = len(trials)
    else:
        whole = [t for t in trials if _is_whole(t, side.epochs)]
        counted = sum(trial.state is TrialState.COMPLETE for trial in trials)
    configurations = {tuple(sorted(trial.params.items())) for trial in trials}
    return Tally(
        budget=side.budget,
        begun=len(trials),
        told=sum(trial.state.is_finished() for trial in trials),
        lost=_lost(side, trials, whole),
        duplicated=len(trials) - len(configurations),
        over_budget=max(0, counted - side.budget),
        repeated_epochs=journal.repeated(journal.read(side.steps)),
    )


def _lost(side: Ours | Plain, trials: list[FrozenTrial], whole: list[FrozenTrial]) -> int:
    """Count budgeted trials that are not whole; under Optuna, begun configurations that never are.

    Optuna begins further trials in place of those that it has failed: what it lost is what it began
    and neither finished nor retried to the end.
    """
    if isinstance(side, Ours):
        return max(0, side.budget - len(whole))
    ended = {trial.params.get("lr") for trial in whole}
    return len({t.params.get("lr", t.number) for t in trials} - ended)


def _is_whole(trial: FrozenTrial, epochs: int) -> bool:
    steps = list(range(1, epochs + 1))
    return trial.state is TrialState.COMPLETE and sorted(trial.intermediate_values) == steps


def _is_same(trial: FrozenTrial, reference: list[Values] | None) -> bool:
    if reference is None:
        return True
    params, reported = reference[trial.number] if trial.number < len(reference) else ({}, {})
    return (
        trial.params == params
        and trial.intermediate_values == reported
        and trial.value == reported[max(reported)]
    )
