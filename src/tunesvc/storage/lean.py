"""Optuna's view of the database, read in few trips: history once, then only what changed.

Why: 2026-11: Optuna's own storage reads every running trial with all its steps whenever a sampler
looks, takes several trips for each trial, and needs ten seconds and 700 MB for 20,000 of them.
Writes that are rare (studies, enqueued trials) are left to it; a leased trial writes through
`leases.Fenced`.

Why: 2026-11: reads are autocommitted. With psycopg2 a transaction's BEGIN and its end are a trip
each, so that a read of one statement would cost three.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import TextClause

from tunesvc import trips
from tunesvc.storage import lean_rows
from tunesvc.storage import lean_sql as sql
from tunesvc.storage.lean_history import History

MOST = 5000  # trials read by one statement: more would hold too much of the answer in memory
MOST_UNREAD = 500  # trials that a report looks at, beside what it has to do; else they are read


class Lean(BaseStorage):
    """Optuna's storage, for many readers of long histories; threads may share one.

    Args:
        plain: Optuna's own storage on the same database.
        whole: with user attributes, and the steps of trials that still run. Without, lists of
            trials hold what samplers and pruners look at, and `get_trial` is whole all the same.
        own: user attributes that lists of trials hold even so.
    """

    def __init__(self, plain: RDBStorage, *, whole: bool, own: Sequence[str] = ()) -> None:
        self._plain, self._whole, self._own = plain, whole, own
        self._lock = threading.RLock()
        self._histories: dict[int, History] = {}
        self._names: dict[int, str] = {}
        self._directions: dict[int, list[StudyDirection]] = {}

    def fresh(self) -> Lean:
        """Return the same view with nothing read yet."""
        return Lean(self._plain, whole=self._whole, own=self._own)

    def also(self, *own: str) -> Lean:
        """Return the same view, nothing read yet, with these user attributes in lists of trials."""
        return Lean(self._plain, whole=self._whole, own=own)

    def _ask(self, question: TextClause, **values: Any) -> Sequence[Sequence[Any]]:
        with trips.alone(self._plain.engine) as connection:
            return connection.execute(question, values).all()

    # ---- trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial as it is now, whole; KeyError if there is none."""
        rows = self._ask(sql.TRIAL, trial_id=trial_id, whole=True, own=[], step=None)
        return lean_rows.trial(_one(rows))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the study's trials by number, as they are now; KeyError if there is no study."""
        with self._lock:
            self._refresh(study_id)
            trials = self._histories[study_id].trials.copy()
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return [lean_rows.copied(trial) for trial in trials] if deepcopy else trials

    def values_at(self, study_id: int, step: int) -> dict[int, float]:
        """Return trial number → the value after exactly this step, of all that have one now."""
        with self._lock:
            running = self._refresh(study_id, step)
            return {**self._histories[study_id].finished_at(step), **running}

    def known_at(
        self, study_id: int, steps: Sequence[int]
    ) -> tuple[dict[str, Any], dict[int, dict[int, float]]]:
        """Return what is known of values after steps, without asking, and what is left to ask.

        Returns:
            `sql.write`'s arguments about other trials: those not known to be finished are asked
                for, unless finished ones were put back meanwhile, or there are too many of them.
            Step → trial number → value, of trials known to be finished.
        """
        with self._lock:
            known = self._histories.get(study_id) or History()
            question = known.question()
            del question["waiting"]
            question |= {"generation": known.generation, "most": MOST_UNREAD, "rungs": list(steps)}
            return question, {step: dict(known.finished_at(step)) for step in steps}

    def _refresh(self, study_id: int, step: int | None = None) -> dict[int, float]:
        """Read what changed; return the values at a step of the trials that still run."""
        known = self._histories.get(study_id) or History()
        question = known.question()
        running: dict[int, float] = {}
        while True:
            wanted = {"whole": self._whole, "own": list(self._own), "step": step, "most": MOST}
            rows = self._ask(sql.CHANGES, study_id=study_id, **wanted, **question)
            if not rows:
                self._forget(study_id)
                raise KeyError(f"there is no study with the id {study_id}")
            generation = rows[0][0]
            if known.trials and generation != known.generation:  # finished trials were put back
                known, running = History(), {}
                question = known.question()
                continue
            known.generation = generation
            changed = [row[1:] for row in rows if row[1] is not None]
            self._histories.pop(study_id, None)  # a signal may come: never one that is half read
            known.add(changed)
            self._histories[study_id] = known
            running |= {row[1]: row[-1] for row in changed if row[-1] is not None}
            new = [row for row in changed if row[1] >= question["first"]]
            if len(new) < MOST:
                return running
            question = known.next_question(new)

    def get_n_trials(
        self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None
    ) -> int:
        """Return how many trials of these states there are; None: of all."""
        states = (state,) if isinstance(state, TrialState) else state or tuple(TrialState)
        rows = self._ask(sql.COUNT, study_id=study_id, states=[each.name for each in states])
        return int(_one(rows)[0])

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Return the best COMPLETE trial; ValueError while there is none."""
        directions = self.get_study_directions(study_id)
        if len(directions) > 1:
            raise RuntimeError("several objectives have no best trial")
        sign = -1 if directions[0] is StudyDirection.MAXIMIZE else 1
        rows = self._ask(sql.BEST, study_id=study_id, sign=sign, whole=True, own=[], step=None)
        if not rows:
            raise ValueError("no trial is complete yet")
        return lean_rows.trial(rows[0])

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return a trial's id; KeyError if there is none."""
        rows = self._ask(sql.TRIAL_ID, study_id=study_id, number=trial_number)
        return int(_one(rows)[0])

    def get_trial_number_from_id(self, trial_id: int) -> int:
        """Return a trial's number; KeyError if there is none."""
        return int(_one(self._ask(sql.NUMBER, trial_id=trial_id))[0])

    # ---- studies

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id as it is now, for another may have the name; KeyError if none has."""
        return self._read_study(sql.STUDY_NAMED, name=study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name; KeyError if there is none."""
        if study_id not in self._names:
            self._read_study(sql.STUDY, study_id=study_id)
        return self._names[study_id]

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return a study's directions; KeyError if there is none."""
        if study_id not in self._directions:
            self._read_study(sql.STUDY, study_id=study_id)
        return self._directions[study_id].copy()

    def _read_study(self, question: TextClause, **which: Any) -> int:
        study_id, name, directions = _one(self._ask(question, **which))
        self._names[study_id] = name
        self._directions[study_id] = [StudyDirection[each] for each in directions]
        return int(study_id)

    def _forget(self, study_id: int) -> None:
        for known in (self._histories, self._names, self._directions):
            known.pop(study_id, None)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's user attributes as they are now; KeyError if there is no study."""
        return _attributes(self._ask(sql.STUDY_USER_ATTRIBUTES, study_id=study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's system attributes as they are now; KeyError if there is no study."""
        return _attributes(self._ask(sql.STUDY_SYSTEM_ATTRIBUTES, study_id=study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return all studies."""
        return self._plain.get_all_studies()

    # ---- writes: Optuna's own

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Make a study."""
        return self._plain.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Delete a study with its trials."""
        with self._lock:
            self._forget(study_id)
        self._plain.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Store a study's user attribute."""
        self._plain.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Store a study's system attribute."""
        self._plain.set_study_system_attr(study_id, key, value)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial."""
        return self._plain.create_new_trial(study_id, template_trial)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Store a parameter."""
        self._plain.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Change a trial's state; False if another process did it before."""
        return self._plain.set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Store the value after a step."""
        self._plain.set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a user attribute of a trial."""
        self._plain.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store a system attribute of a trial."""
        self._plain.set_trial_system_attr(trial_id, key, value)

    def remove_session(self) -> None:
        """Give back what this thread's writes hold."""
        self._plain.remove_session()


def _one(rows: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if not rows:
        raise KeyError("there is no such record")
    return rows[0]


def _attributes(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    _one(rows)
    found = [row for row in rows if row[0] is not None]
    return lean_rows.attributes([row[0] for row in found], [row[1] for row in found])
