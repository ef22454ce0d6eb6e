"""What a storage knows of the values after a step, that the pruner compares a trial with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from optuna.storages import BaseStorage


@runtime_checkable
class Rungs(Protocol):
    """A storage that remembers finished trials, and asks for the others only; `storage.Lean`."""

    def known_at(
        self, study_id: int, steps: Sequence[int]
    ) -> tuple[dict[str, Any], dict[int, dict[int, float]]]:
        """Return what is left to ask, as arguments of `sql.write`; and step → number → value."""
        ...

    def values_at(self, study_id: int, step: int) -> Mapping[int, float]:
        """Return trial number → the value after exactly this step, of all trials of the study."""
        ...


def values_at(storage: BaseStorage, study_id: int, step: int) -> Mapping[int, float]:
    """Return the same from any storage of Optuna's."""
    if isinstance(storage, Rungs):
        return storage.values_at(study_id, step)
    trials = storage.get_all_trials(study_id, deepcopy=False)
    return {
        trial.number: trial.intermediate_values[step]
        for trial in trials
        if step in trial.intermediate_values
    }
