"""Optuna's storage for one leased trial: reads as ever, writes only while the lease is held."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine

from tunesvc.leases import claims, sql
from tunesvc.leases.claims import Lease, LeaseLost

MEMORY = "memory"  # the constraint that a configuration breaks which fits into no memory


class Fenced(BaseStorage):
    """A study's storage while `lease` is being worked on; only that trial is written to.

    Every write checks the lease's token in its own transaction, and may be repeated: a reply that
    was lost with the connection does no harm. Parameters wait for the next write, and are stored
    together: nobody takes over a trial that is half drawn.

    Why: 2026-11: Optuna's samplers look at COMPLETE and PRUNED trials only. One that failed because
    it fits into no memory is shown to them as PRUNED, so that they see the constraint it broke and
    stay away from there.
    """

    def __init__(self, inner: BaseStorage, engine: Engine) -> None:
        self.inner, self._engine = inner, engine
        self._lease: Lease | None = None
        self._drawn: list[tuple[str, float, str]] = []  # name, value, distribution

    def work_on(self, lease: Lease) -> None:
        """Let this trial be written to, and no other; what was not stored yet is forgotten."""
        self._lease, self._drawn = lease, []

    # ---- writes of the leased trial

    @contextmanager
    def _writing(self, trial_id: int) -> Iterator[Connection]:
        if self._lease is None or self._lease.trial_id != trial_id:
            raise LeaseLost
        with self._engine.begin() as connection:
            claims.check(connection, self._lease)
            if self._drawn:
                names, values, distributions = map(list, zip(*self._drawn, strict=True))
                drawn = {"names": names, "values": values, "distributions": distributions}
                connection.execute(sql.SET_PARAMS, {"trial_id": trial_id} | drawn)
            yield connection
        self._drawn = []

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Store a parameter, with the next write."""
        if self._lease is None or self._lease.trial_id != trial_id:
            raise LeaseLost
        self._drawn.append((param_name, param_value_internal, distribution_to_json(distribution)))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute."""
        with self._writing(trial_id) as connection:
            claims.set_attributes(connection, trial_id, {key: value})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute."""
        values = {"trial_id": trial_id, "key": key, "value": json.dumps(value)}
        with self._writing(trial_id) as connection:
            connection.execute(sql.SET_SYSTEM_ATTRIBUTE, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Store the value after a step."""
        self.report(trial_id, {step: intermediate_value}, {})

    def report(
        self, trial_id: int, steps: Mapping[int, float], attributes: Mapping[str, Any]
    ) -> None:
        """Store what finished epochs brought, in one transaction; steps count from 1."""
        with self._writing(trial_id) as connection:
            for step, value in steps.items():
                stored = {"trial_id": trial_id, "step": step} | _representation(value)
                connection.execute(sql.SET_STEP, stored)
            claims.set_attributes(connection, trial_id, attributes)
            if steps:
                connection.execute(sql.NOTE_EPOCH, {"trial_id": trial_id, "epoch": max(steps)})

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """End the trial, and its lease with it."""
        which = {"trial_id": trial_id}
        try:
            with self._writing(trial_id) as connection:
                for objective, value in enumerate(values or ()):
                    stored = which | {"objective": objective} | _representation(value)
                    connection.execute(sql.SET_VALUE, stored)
                connection.execute(sql.TELL, which | {"state": state.name})
                connection.execute(sql.END_LEASE, which)
        except LeaseLost:
            if not self._is(trial_id, state):  # else it was told before, and the reply was lost
                raise
        return True

    def _is(self, trial_id: int, state: TrialState) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.scalar(sql.STATE, {"trial_id": trial_id}) == state.name)

    # ---- reads

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial as it is now."""
        return self.inner.get_trial(trial_id)

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

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return a trial's id."""
        return self.inner.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id."""
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


def _representation(value: float) -> dict[str, Any]:
    """Return a number as Optuna stores it: what is not finite is a kind without a value."""
    if math.isfinite(value):
        return {"value": value, "kind": "FINITE"}
    if math.isnan(value):
        return {"value": None, "kind": "NAN"}
    return {"value": None, "kind": "INF_POS" if value > 0 else "INF_NEG"}
