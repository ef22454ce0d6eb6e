"""Which trials keep their study's constraints: the one word on it, wherever a best one is chosen.

Each constraint of a trial is a number, at most 0 where it is kept; they are stored with the trial,
before it trains and again at its end. A trial without any is feasible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from tunesvc.spec.caps import Cap
from tunesvc.spec.constraints import excess, told
from tunesvc.study.goals import objective
from tunesvc.study.stored import Study

# Of a trial `t`: no constraint is broken.
FITS = """NOT EXISTS (
    SELECT FROM trial_system_attributes c
    WHERE c.trial_id = t.trial_id AND c.key LIKE 'constraints:%' AND c.value_json::float8 > 0)"""


class _Sql:
    BEST = text(f"""
        SELECT t.trial_id FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id
        WHERE t.study_id = :study_id AND t.state = 'COMPLETE' AND v.objective = 0 AND {FITS}
        ORDER BY :sign * CASE v.value_type WHEN 'INF_POS' THEN 'Infinity'::float8
            WHEN 'INF_NEG' THEN '-Infinity' ELSE v.value END, t.trial_id LIMIT 1
    """)
    INFEASIBLE = text(f"""
        SELECT count(*) FROM trials t
        WHERE t.study_id = :study_id AND t.state IN ('COMPLETE', 'PRUNED') AND NOT ({FITS})
    """)


@dataclass(frozen=True)
class Nearest:
    """The trial that breaks the constraints by least, where none keeps them.

    Args:
        values: of the quantities whose caps it breaks; None: nobody can tell.
        excess: the largest, relative to its cap.
        told: `params_m <= 12: 23.5`.
    """

    trial: int
    values: Mapping[str, float | None]
    excess: float
    told: str


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps every constraint that it was measured by."""
    return all(broken <= 0 for broken in trial.constraints.values())


def best(study: Study) -> FrozenTrial | None:
    """Return the best COMPLETE trial that is feasible, by the first objective; of equals the first.

    None where there is none.
    """
    sign = -1 if objective(study.spec)[1] == "maximize" else 1
    with study.store.engine.connect() as connection:
        which = {"study_id": study.id, "sign": sign}
        found = connection.execute(_Sql.BEST, which).scalar_one_or_none()
    return None if found is None else study.store.optuna.get_trial(found)


def infeasible(study: Study) -> int:
    """Return how many trials have ended that break a constraint."""
    with study.store.engine.connect() as connection:
        return int(connection.execute(_Sql.INFEASIBLE, {"study_id": study.id}).scalar_one())


def nearest(study: Study) -> Nearest | None:
    """Return the trial that breaks a study's constraints by least; None while there is none."""
    caps = study.spec.constraints.caps
    found = [_broken(trial, caps) for trial in study.store.optuna.get_all_trials(study.id, False)]
    return min(filter(None, found), key=lambda each: (each.excess, each.trial), default=None)


def _broken(trial: FrozenTrial, caps: Iterable[Cap]) -> Nearest | None:
    values: Mapping[str, Any] = trial.user_attrs.get("infeasible") or {}
    lost = [cap for cap in caps if cap.name in values]
    is_ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    if not lost or not is_ended or is_feasible(trial):
        return None
    most = max(excess(cap, values[cap.name]) for cap in lost)
    words = "; ".join(told(cap, values[cap.name]) for cap in lost)
    return Nearest(trial.number, dict(values), most, words)
