"""What the confirming runs have found so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan

from optuna.trial import FrozenTrial, TrialState

from tunesvc import study as studies
from tunesvc.analysis.confirmation import confirmation
from tunesvc.analysis.confirmed import Confirmation, Rerun
from tunesvc.analysis.table import Unsupported
from tunesvc.confirm.candidates import Origin, Params, in_order, precision
from tunesvc.confirm.companion import companion, listed
from tunesvc.study import Study


@dataclass(frozen=True)
class Runs:
    """A companion's trials."""

    trials: tuple[FrozenTrial, ...]

    @classmethod
    def of(cls, found: Study | None) -> Runs:
        """Return those of a companion; none where there is none."""
        known = found.optuna().get_trials(deepcopy=False) if found is not None else []
        return cls(tuple(trial for trial in known if "configuration" in trial.user_attrs))

    @property
    def images(self) -> Mapping[str, int]:
        """Number of images in each split; empty before a run has ended."""
        told = (trial.user_attrs.get("images") for trial in self.trials)
        return next(filter(None, told), {})

    def ended(self, metric: str) -> list[Rerun]:
        """Return the runs that have ended, in whichever way."""
        return [_rerun(trial, metric) for trial in self.trials if trial.state.is_finished()]


def found(study: Study) -> Confirmation | Unsupported:
    """Return what confirming a study has found so far, also while it is under way."""
    held = companion(study)
    sampler = listed(held)
    if sampler is None:
        return Unsupported(f"needs runs with new seeds: tunesvc confirm {study.name}")
    origin, runs = Origin(study), Runs.of(held)
    metric, direction = studies.objective(study.spec)
    known = [origin.known(*each) for each in sampler.configurations.items()]
    return confirmation(
        [each.candidate for each in in_order(known, direction)],
        runs.ended(metric),
        metric=metric,
        direction=direction,
        images=runs.images.get("val"),
    )


def reruns(study: Study) -> list[Rerun]:
    """Return the confirming runs that have ended, in whichever way."""
    return Runs.of(companion(study)).ended(studies.objective(study.spec)[0])


def measured(study: Study) -> list[tuple[Params, float]]:
    """Return parameters and objective of every confirming run that came to its end."""
    runs = Runs.of(companion(study)).trials
    done = [trial for trial in runs if trial.state is TrialState.COMPLETE]
    return [(t.params, t.value) for t in done if t.value is not None and isfinite(t.value)]


def _rerun(trial: FrozenTrial, metric: str) -> Rerun:
    is_complete = trial.state is TrialState.COMPLETE and trial.value is not None
    test = studies.restored(trial.user_attrs.get("test", {})).get(metric, nan)
    mark = trial.user_attrs
    value = float(trial.value or 0.0) if is_complete else nan
    known = test if is_complete else nan
    return Rerun(mark["configuration"], mark["seed_index"], value, known, precision(trial))
