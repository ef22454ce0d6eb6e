"""What is known of one study's trials, and what has therefore to be asked for next.

Why: 2026-11: ids and numbers are given under a lock of the study's row and become visible in their
order, but only as long as every program that writes keeps to that. A trial with a lower number may
be committed after one with a higher, and one that was read as running may have been finished by
then. So nothing is inferred from the greatest number seen: below `prefix` every number *is* known,
beyond it all are asked for but those read as finished, and whatever was read unfinished is asked
for by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tunesvc.storage import lean_rows


@dataclass
class History:
    """The trials of one study, by number; finished ones are never read again.

    Args:
        generation: how often finished trials had been put back when they were read.
        prefix: every number below it is known.
    """

    generation: int = 0
    prefix: int = 0
    trials: list[FrozenTrial] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)  # trial id → index in `trials`
    _unfinished: dict[int, FrozenTrial] = field(default_factory=dict)  # by trial id
    _beyond: dict[int, int] = field(default_factory=dict)  # finished, from `prefix` on
    _passed: int = 0  # so many of `trials` have numbers below `prefix`
    _by_step: dict[int, dict[int, float]] = field(default_factory=dict)  # finished ones' values

    def question(self) -> dict[str, Any]:
        """Return what `CHANGES` has to be asked first."""
        below = {id_: t for id_, t in self._unfinished.items() if t.number < self.prefix}
        return {
            "first": self.prefix,
            "known": list(self._beyond),
            "unfinished": list(below),
            "waiting": [id_ for id_, t in below.items() if t.state is TrialState.WAITING],
        }

    def next_question(self, answer: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return what to ask when an answer was full: from its last number on, which may have been
        given twice, all but what was read."""
        last = answer[-1][1]
        read = {row[0] for row in answer if row[1] == last} | self._beyond.keys()
        read |= {id_ for id_, trial in self._unfinished.items() if trial.number >= last}
        return {"first": last, "known": list(read), "unfinished": [], "waiting": []}

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take in what has changed, ordered by number."""
        is_sorted = True
        for row in rows:
            trial = lean_rows.trial(row, shared=True)
            place = self._places.get(trial._trial_id)
            if place is None:
                is_sorted &= not self.trials or self.trials[-1].number <= trial.number
                self._places[trial._trial_id] = len(self.trials)
                self.trials.append(trial)
            else:
                self.trials[place] = trial
            self._note(trial)
        if not is_sorted:
            self.trials.sort(key=lambda trial: (trial.number, trial._trial_id))
            self._places = {trial._trial_id: place for place, trial in enumerate(self.trials)}
        self._advance()

    def _note(self, trial: FrozenTrial) -> None:
        if not trial.state.is_finished():
            self._unfinished[trial._trial_id] = trial
            return
        self._unfinished.pop(trial._trial_id, None)
        self._beyond[trial._trial_id] = trial.number
        for step, values in self._by_step.items():
            if step in trial.intermediate_values:
                values[trial.number] = trial.intermediate_values[step]

    def _advance(self) -> None:
        while self._passed < len(self.trials):
            number = self.trials[self._passed].number
            if number > self.prefix:
                break
            self.prefix = max(self.prefix, number + 1)
            self._passed += 1
        self._beyond = {id_: n for id_, n in self._beyond.items() if n >= self.prefix}

    def finished_at(self, step: int) -> Mapping[int, float]:
        """Return number → the value after exactly this step, of finished trials that have one."""
        if step not in self._by_step:
            self._by_step[step] = {
                trial.number: trial.intermediate_values[step]
                for trial in self.trials
                if trial.state.is_finished() and step in trial.intermediate_values
            }
        return self._by_step[step]
