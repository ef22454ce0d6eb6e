"""Optuna's storage for one leased trial: reads as ever, writes only while the lease is held."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Container, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine

from tunesvc import trips
from tunesvc.leases import sql, words
from tunesvc.leases.claims import Lease, LeaseLost

MEMORY = "memory"  # the constraint that a configuration breaks which fits into no memory

_NONE: Mapping[Any, Any] = {}


class Fenced(BaseStorage):
    """A study's storage for whoever holds `lease`; only that trial is written to.

    Every write is one round trip. It checks the lease's token in its own transaction, and may be
    repeated: a reply that was lost with the connection does no harm. Parameters and what samplers
    note on the trial (its system attributes) wait for the next write, and are stored together:
    nobody takes over a trial that is half drawn.

    Why: 2026-11: nobody else writes to the trial, so it is read at most once, and not at all where
    the claim created it: what this object wrote, it knows.

    Why: 2026-11: Optuna's samplers look at COMPLETE and PRUNED trials only. One that failed because
    it fits into no memory is shown to them as PRUNED, so that they see the constraint it broke and
    stay away from there.
    """

    def __init__(self, inner: BaseStorage, engine: Engine, lease: Lease) -> None:
        self.inner, self._engine, self._lease = inner, engine, lease
        self._known = _created(lease)  # the trial, and what waits to be stored of it
        self._drawn: dict[str, tuple[float, BaseDistribution]] = {}
        self._noted: dict[str, Any] = {}  # system attributes
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
        self._drawn.setdefault(param_name, (param_value_internal, distribution))
        self._show_waiting()

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute, with the next write."""
        self._check(trial_id)
        self._noted[key] = json.loads(json.dumps(value))
        self._show_waiting()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute."""
        self.report(trial_id, {}, {key: value})

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Store the value after a step."""
        self.report(trial_id, {step: intermediate_value}, {})

    def report(
        self, trial_id: int, steps: Mapping[int, float], attributes: Mapping[str, Any]
    ) -> None:
        """Store what finished epochs brought; steps count from 1.

        Raises:
            LeaseLost: nothing was stored.
        """
        self._write(trial_id, steps, attributes)

    def tell(
        self,
        trial_id: int,
        state: TrialState,
        value: float | None = None,
        steps: Mapping[int, float] = _NONE,
        attributes: Mapping[str, Any] = _NONE,
    ) -> None:
        """Store the last epochs, and end the trial and its lease.

        Args:
            value: None for a pruned trial: its last step's, if that is a number, as Optuna has it.

        Raises:
            LeaseLost: nothing was stored.
        """
        if value is None and state is TrialState.PRUNED:
            value = words.last(dict(self.get_trial(trial_id).intermediate_values) | dict(steps))
        self._write(trial_id, steps, attributes, state, () if value is None else (value,))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """End the trial, and its lease with it."""
        self._write(trial_id, {}, {}, state, values or ())
        return True

    def _write(
        self,
        trial_id: int,
        steps: Mapping[int, float],
        attributes: Mapping[str, Any],
        state: TrialState | None = None,
        values: Sequence[float] = (),
    ) -> None:
        self._check(trial_id)
        with self._writing:
            drawn, noted = dict(self._drawn), dict(self._noted)
            said = words.params(drawn) | words.attributes("system", noted)
            said |= words.attributes("user", attributes) | words.steps(steps)
            said |= words.end(state, values) | {"trial_id": trial_id, "token": self._lease.token}
            stored_at = trips.ask(self._engine, sql.WRITE, said)
            if stored_at is None:
                raise LeaseLost
            for name in drawn:
                del self._drawn[name]
            for key, value in noted.items():
                if self._noted[key] is value:
                    del self._noted[key]
            self._remember(steps, attributes)
            if state is not None and self._known is not None:
                self._known.state, self._known.datetime_complete = state, stored_at
                self._known.values = list(values) or None

    def _check(self, trial_id: int) -> None:
        if trial_id != self._lease.trial_id:
            raise LeaseLost

    # ---- the leased trial, as it is known here

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial as it is now, with what waits to be stored."""
        if trial_id != self._lease.trial_id:
            return self.inner.get_trial(trial_id)
        if self._known is None:
            self._known = _copy(self.inner.get_trial(trial_id))
            self._show_waiting()
        return _copy(self._known)

    def _show_waiting(self) -> None:
        trial = self._known
        if trial is None:
            return
        for name, (value, distribution) in list(self._drawn.items()):
            if name not in trial.params:
                trial.distributions[name] = distribution
                trial.params[name] = distribution.to_external_repr(value)
        trial.system_attrs.update(self._noted)

    def _remember(self, steps: Mapping[int, float], attributes: Mapping[str, Any]) -> None:
        if self._known is not None:
            self._known.intermediate_values.update(steps)
            self._known.user_attrs.update(json.loads(json.dumps(dict(attributes))))

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
        """Return the value that each trial of the study had at a step, by the trial's id."""
        found: Mapping[int, float] = self.inner.values_at(study_id, step)  # type: ignore[attr-defined]
        return found

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return a trial's id."""
        return self.inner.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id; that of the leased trial's study needs no question."""
        if self.inner.get_study_name_from_id(self._lease.study_id) == study_name:
            return self._lease.study_id
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


def _created(lease: Lease) -> FrozenTrial | None:
    """Return the trial that the claim created; None: it has to be read."""
    if lease.started_at is None:
        return None
    given = lease.given
    return FrozenTrial(
        number=lease.number,
        trial_id=lease.trial_id,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=lease.started_at,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={} if given is None else dict(given.mark),
        system_attrs={} if given is None else {"fixed_params": dict(given.params)},
        intermediate_values={},
    )


def _copy(trial: FrozenTrial) -> FrozenTrial:
    made = copy.copy(trial)
    for name in ("_params", "_distributions", "_user_attrs", "_system_attrs"):
        setattr(made, name, dict(getattr(trial, name)))
    made.intermediate_values = dict(trial.intermediate_values)
    return made
