"""Which configurations of a study are confirmed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

from optuna.trial import FrozenTrial, TrialState

from tunesvc import results, space
from tunesvc import study as studies
from tunesvc.analysis.confirmed import Candidate, Role
from tunesvc.analysis.table import Direction, Unsupported
from tunesvc.spec import GivenConfiguration, Scalar
from tunesvc.study import Study

Params = Mapping[str, Scalar]

_ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Chosen:
    """A candidate with its parameters, all that are active."""

    candidate: Candidate
    params: Params

    def written(self) -> GivenConfiguration:
        """Return it as the companion's study file holds it."""
        one = self.candidate
        mark = {
            "role": one.role,
            "backbone": one.backbone,
            "confirms": one.trial,
            "is_default": one.is_default,
            "change": one.change,
            "same_as": one.same_as,
        }
        kept = {key: value for key, value in mark.items() if value not in (None, "")}
        return GivenConfiguration(params=self.params, mark=kept)


class Origin:
    """The confirmed study's trials and defaults, read once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.trials = study.optuna().get_trials(deepcopy=False)
        made = space.build(study.spec)
        labels = study.spec.backbone_labels
        self.defaults: dict[str, Params] = dict(zip(labels, made.defaults(), strict=True))
        self._space = made

    def best(self, count: int) -> list[Chosen]:
        """Return the best configurations that came to their end, each once, best first."""
        found: dict[str, Chosen] = {}
        for trial in filter(studies.is_feasible, self._ranked()):
            if len(found) == count:
                break
            with suppress(KeyError):  # another program's trial
                found.setdefault(same(trial.params), self._of_trial(trial))
        return list(found.values())

    def _of_trial(self, trial: FrozenTrial) -> Chosen:
        backbone, _ = self._space.resolve(trial.params)
        is_default = same(trial.params) == same(self.defaults[backbone])
        name = f"trial {trial.number}"
        one = Candidate(
            name, "best", trial.number, backbone, studies.first_value(trial), is_default,
            precision=precision(trial),
        )  # fmt: skip
        return Chosen(one, trial.params)

    def default(self, backbone: str) -> Chosen:
        """Return the untuned configuration of a backbone."""
        params = self.defaults[backbone]
        trial = next((t for t in self._ranked() if same(t.params) == same(params)), None)
        number, value = (trial.number, studies.first_value(trial)) if trial else (None, None)
        known = precision(trial) if trial else ""
        name = f"default of {backbone}"
        one = Candidate(name, "default", number, backbone, value, True, precision=known)
        return Chosen(one, params)

    def known(self, name: str, what: GivenConfiguration) -> Chosen:
        """Return a configuration that the companion holds already."""
        mark, number = what.mark, what.mark.get("confirms")
        candidate = Candidate(
            name=name,
            role=next(role for role in _ROLES if role == mark["role"]),
            trial=None if number is None else int(number),
            backbone=str(mark["backbone"]),
            promised=None if number is None else self._value(int(number)),
            precision="" if number is None else self._precision(int(number)),
            is_default=bool(mark.get("is_default")),
            change=str(mark.get("change", "")),
            same_as=str(mark.get("same_as", "")),
        )
        return Chosen(candidate, what.params)

    def steps(self, backbone: str, known: Sequence[Chosen]) -> list[Chosen] | Unsupported:
        """Return the way from a backbone's default to its best, one change at a time.

        Args:
            known: candidates; a step that has the configuration of one is not run again.
        """
        from tunesvc.analysis import surrogate
        from tunesvc.analysis.ablation import ablation_path

        trials = results.trials(self.study)
        path = ablation_path(trials, surrogate.fit(trials), backbone)
        if isinstance(path, Unsupported):
            return path
        names = {same(each.params): each.candidate.name for each in known}
        last = len(path.flips) - 1
        found: list[Chosen] = []
        for flip in (flip for n, flip in enumerate(path.flips) if n == last or not flip.idle):
            one = Candidate(
                name=f"step {len(found) + 1}",
                role="step",
                trial=None,
                backbone=backbone,
                promised=None,
                change=_change(flip.before, flip.after),
                same_as=names.get(same(flip.params), ""),
            )
            found.append(Chosen(one, flip.params))
        return found

    def _value(self, number: int) -> float | None:
        return next((studies.first_value(t) for t in self.trials if t.number == number), None)

    def _precision(self, number: int) -> str:
        return next((precision(t) for t in self.trials if t.number == number), "")

    def _ranked(self) -> list[FrozenTrial]:
        sign = 1 if studies.objective(self.study.spec)[1] == "minimize" else -1
        done = [t for t in self.trials if t.state is TrialState.COMPLETE and t.values]
        return sorted(done, key=lambda trial: (sign * trial.values[0], trial.number))


def precision(trial: FrozenTrial) -> str:
    """Return what a trial's matrix products were computed in; "" where it has told nothing."""
    return str(trial.user_attrs.get("run", {}).get("precision", ""))


def in_order(chosen: Iterable[Chosen], direction: Direction) -> list[Chosen]:
    """Return the best, as the study ranked them, then defaults, then steps."""
    sign = 1 if direction == "minimize" else -1

    def place(each: Chosen) -> tuple[int, float]:
        one = each.candidate
        return _ROLES.index(one.role), sign * (one.promised or 0.0) if one.role == "best" else 0.0

    return sorted(chosen, key=place)


def _change(before: Params, after: Params) -> str:
    """Return `lr 0.001 → 0.01`; what one side lacks is a dash."""
    names = dict.fromkeys([*before, *after])
    return ", ".join(f"{name} {_told(before, name)} → {_told(after, name)}" for name in names)


def _told(params: Params, name: str) -> str:
    value = params.get(name, "–")
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def same(params: Mapping[str, Any]) -> str:
    """Return what two equal configurations have in common."""
    return json.dumps(dict(params), sort_keys=True)
