"""Optuna's storage for one leased trial: reads as ever, writes only while the lease is held."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine

from tunesvc.leases import words
from tunesvc.leases.claims import Lease, LeaseLost
from tunesvc.leases.own import Draft, Own
from tunesvc.leases.rungs import Rungs, values_at
from tunesvc.leases.words import Word
from tunesvc.leases.writing import Answer, write

MEMORY = "memory"  # the constraint that a configuration breaks which fits into no memory

_NONE: Mapping[Any, Any] = {}


def _never(_step: int) -> bool:
    return False


class Fenced(BaseStorage):
    """A study's storage for whoever holds `lease`; only that trial is written to.

    Every write is one round trip. It checks the lease's token in its own transaction, and may be
    repeated: a reply that was lost with the connection does no harm. Parameters and what samplers
    note on the trial (its system attributes) wait for the next write, and are stored together:
    nobody takes over a trial that is half drawn.

    Why: 2026-11: nobody else writes to the trial, so it is read at most once, and not at all where
    the claim created it: what this object wrote, it knows.

    Why: 2026-11: at a rung the pruner compares a trial with the others. Their values come with the
    reply to the trial's own report, and the question costs no trip of its own. Finished trials are
    known to `inner`, so that few come.

    Why: 2026-11: Optuna's samplers look at COMPLETE and PRUNED trials only. One that failed because
    it fits into no memory is shown to them as PRUNED, so that they see the constraint it broke and
    stay away from there.

    Args:
        inner: what the rest of the study is read from; with rungs best a `storage.Lean`.
        is_rung: after which steps the pruner will ask for the values of the other trials.
    """

    def __init__(
        self,
        inner: BaseStorage,
        engine: Engine,
        lease: Lease,
        is_rung: Callable[[int], bool] = _never,
    ) -> None:
        self.inner, self._engine, self.lease = inner, engine, lease
        self._is_rung = is_rung
        self._brought: dict[int, dict[int, float]] = {}  # rung → number → value, by the last reply
        self._own = Own(lease)
        self._writing = threading.Lock()

    # ---- writes of the leased trial

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Store a parameter, with the next write."""
        self._check(trial_id)
        self._own.draw(param_name, param_value_internal, distribution)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute, with the next write."""
        self._check(trial_id)
        self._own.note(key, value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute."""
        self.report(trial_id, {}, {key: value})

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Store the value after a step."""
        self.report(trial_id, {step: intermediate_value}, {})

    def report(
        self,
        trial_id: int,
        steps: Mapping[int, float],
        attributes: Mapping[str, Any],
        *,
        epoch: int = 0,
        is_begun: bool = True,
    ) -> None:
        """Store what finished epochs brought; steps count from 1.

        Args:
            epoch: so many are finished and kept; needed where the last of them has no value.
            is_begun: else it was claimed ahead, and goes on waiting for its turn.

        Raises:
            LeaseLost: nothing was stored.
        """
        self._write(trial_id, Word(steps, attributes, epoch, is_begun))

    def tell(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] = (),
        steps: Mapping[int, float] = _NONE,
        attributes: Mapping[str, Any] = _NONE,
    ) -> None:
        """Store the last epochs, and end the trial and its lease.

        Args:
            values: one for each objective. None for a pruned trial of one objective: its last
                step's, if that is a number, as Optuna has it; of several, it has none.

        Raises:
            LeaseLost: nothing was stored.
        """
        self._write(trial_id, self.end(state, values, steps, attributes))

    def end(
        self,
        state: TrialState,
        values: Sequence[float],
        steps: Mapping[int, float],
        attributes: Mapping[str, Any],
        epoch: int = 0,
    ) -> Word:
        """Return what `tell` says, for `tell_together`.

        Args:
            epoch: so many were finished, also where the last of them has no value.
        """
        if not values and state is TrialState.PRUNED and not self._has_several():
            known = self.get_trial(self.lease.trial_id).intermediate_values
            last = words.last(dict(known) | dict(steps))
            values = () if last is None else (last,)
        return Word(steps, attributes, epoch, state=state, values=values)

    def _has_several(self) -> bool:
        return len(self.inner.get_study_directions(self.lease.study_id)) > 1

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """End the trial, and its lease with it."""
        self._write(trial_id, Word(state=state, values=values or ()))
        return True

    def _write(self, trial_id: int, word: Word) -> None:
        self._check(trial_id)
        with self.writing(word) as draft:
            (answer,) = write(self._engine, [draft.said])
            self.heed(draft, answer)
        if answer.stored_at is None:
            raise LeaseLost

    @contextmanager
    def writing(self, word: Word) -> Iterator[Draft]:
        """Keep other writes of this trial waiting; yield what goes out, with all that is due."""
        with self._writing:
            self._brought = {}
            draft = self._own.draft(word)
            if (steps := self._rungs(word)) and isinstance(self.inner, Rungs):
                question, known = self.inner.known_at(self.lease.study_id, steps)
                draft = replace(draft, said=draft.said | question, known=known)
            yield draft

    def _rungs(self, word: Word) -> list[int]:
        """Return the steps that the pruner will judge: what is not a number needs no question."""
        if word.state is not None:
            return []
        return [s for s, v in word.steps.items() if self._is_rung(s) and not math.isnan(v)]

    def heed(self, draft: Draft, answer: Answer) -> None:
        """Take in what became of a write."""
        if answer.rungs is not None:
            for step, known in draft.known.items():
                self._brought[step] = {**known, **answer.rungs.get(step, {})}
        if answer.stored_at is not None:
            self._own.heed(draft, answer.stored_at)

    def _check(self, trial_id: int) -> None:
        if trial_id != self.lease.trial_id:
            raise LeaseLost

    # ---- the leased trial, as it is known here

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial as it is now, with what waits to be stored."""
        if trial_id != self.lease.trial_id:
            return self.inner.get_trial(trial_id)
        return self._own.trial(self.inner.get_trial)

    # ---- reads

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the study's trials; those that fit into no memory as PRUNED."""
        trials = [_shown(t) for t in self.inner.get_all_trials(study_id, deepcopy=False)]
        chosen = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def values_at(self, study_id: int, step: int) -> Mapping[int, float]:
        """Return trial number → the value after exactly this step, of all trials of the study.

        What the reply to the last report brought answers once, without a question.
        """
        if (brought := self._brought.pop(step, None)) is not None:
            return brought
        return values_at(self.inner, study_id, step)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return a trial's id."""
        return self.inner.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id; that of the leased trial's study needs no question."""
        if self.inner.get_study_name_from_id(self.lease.study_id) == study_name:
            return self.lease.study_id
        return self.inner.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name."""
        return self.inner.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return a study's directions."""
        return self.inner.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's user attributes."""
        return self.inner.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's system attributes."""
        return self.inner.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return all studies."""
        return self.inner.get_all_studies()

    # ---- what is not a trial's

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Store what a sampler keeps of its study."""
        self.inner.set_study_system_attr(study_id, key, value)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Refuse: a trial changes nothing of its study."""
        raise NotImplementedError("a trial changes nothing of its study")

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Refuse: studies are made by the room `study`."""
        raise NotImplementedError("studies are made by tunesvc.study.create")

    def delete_study(self, study_id: int) -> None:
        """Refuse: studies are deleted by the room `study`."""
        raise NotImplementedError("studies are deleted by tunesvc.study.delete")

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Refuse: trials are begun by `claim`."""
        raise NotImplementedError("trials are begun by Leases.claim")


def _shown(trial: FrozenTrial) -> FrozenTrial:
    if trial.state is not TrialState.FAIL or trial.constraints.get(MEMORY, 0.0) <= 0:
        return trial
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    return shown
