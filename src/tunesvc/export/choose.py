"""Which trial is exported.

Why: 2026-11: where the best configurations were run again (`tunesvc confirm`), the winner of that
is taken, and not the trial with the highest value: that one was picked for its value, which is
partly luck, and new seeds owe nothing to the search. The model is the study's own trial of the
winning configuration; where it is not kept, the kept run of the lowest seed, since to pick the best
of the runs would be picking luck again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from tunesvc import confirm
from tunesvc import study as studies
from tunesvc.analysis.confirmed import Confirmation, Confirmed
from tunesvc.analysis.feasible import feasible, known
from tunesvc.analysis.table import Estimate
from tunesvc.errors import StudyError
from tunesvc.export.wish import Wish
from tunesvc.results import best_that_fits, trials
from tunesvc.spec import caps
from tunesvc.study import Study

Keeps = Callable[[Study, int], bool]
Chosen = Literal["best", "asked", "where"]


@dataclass(frozen=True)
class Choice:
    """A trial, and why it is the one.

    Args:
        study: that it is a trial of: the study, or the one that confirms it.
        trial: as Optuna has it.
        how: it was chosen, in one sentence's end: "trial 7 is …".
        chosen: as the best, of all or of those that fit; or a person named it.
        among: trials that it was picked from; None where it was named.
        confirmation: what running the best again has found; None: nobody has.
        winner: the configuration's own part of it; None: it was not among them.
    """

    study: Study
    trial: FrozenTrial
    how: str
    chosen: Chosen = "best"
    among: int | None = None
    confirmation: Confirmation | None = None
    winner: Confirmed | None = None


def choose(study: Study, wish: Wish, keeps: Keeps) -> Choice:
    """Return the trial that a wish means.

    Args:
        keeps: whether the model of a study's trial is here.

    Raises:
        StudyError: there is no such trial, or it has not come to its end.
        UsageError: nothing keeps within the caps.
    """
    told = confirm.found(study)
    found = told if isinstance(told, Confirmation) else None
    if wish.trial is not None:
        named = _known(study, wish.trial, "the one that was asked for (--trial)", found)
        return replace(named, chosen="asked")
    if wish.where is not None:
        fit = best_that_fits(study, wish.where)
        fitting = _known(study, fit.trial, f"the best that has {wish.where}", found)
        return replace(fitting, chosen="where", among=_fits(study, wish.where))
    confirmed = _confirmed(study, wish, keeps, found) if found else None
    return replace(confirmed or _best(study, found), among=_eligible(study))


def _fits(study: Study, where: str) -> int:
    """Return how many finished trials keep within caps."""
    table = trials(study)
    return feasible(table, caps.parse(where, known(table))).fits


def _eligible(study: Study) -> int:
    """Return how many finished trials keep within the study's own constraints."""
    done = study.optuna().get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sum(map(studies.is_feasible, done))


def _best(study: Study, found: Confirmation | None) -> Choice:
    best = studies.status(study).best
    if best is None:
        raise StudyError(
            f"no trial of {study.name!r} has come to its end",
            "a model is exported of a finished trial",
            f"tunesvc status {study.name} tells how far it is",
        )
    metric, _ = studies.objective(study.spec)
    how = f"the best of the study's finished trials by {metric} on the validation split"
    return _known(study, best.trial, how, found)


def _confirmed(study: Study, wish: Wish, keeps: Keeps, found: Confirmation) -> Choice | None:
    """Return the winner of the confirming runs; None where none has a value."""
    winner = _winner(found)
    companion = confirm.companion(study)
    if winner is None or companion is None:
        return None
    how = _told(winner, found.metric)
    own = winner.candidate.trial
    if own is not None and (wish.refit or keeps(study, own)):
        return _known(study, own, how, found)
    runs = [
        run for run in _runs(companion, found.winner) if wish.refit or keeps(companion, run.number)
    ]
    if runs:
        also = f"{how}; the model is one of these runs, of {companion.name}"
        return Choice(companion, runs[0], also, confirmation=found, winner=winner)
    return None if own is None else _known(study, own, how, found)


def _winner(found: Confirmation) -> Confirmed | None:
    return next((x for x in found.configurations if x.candidate.name == found.winner), None)


def _told(winner: Confirmed, metric: str) -> str:
    how = f"the winner of the confirming runs: the best mean {metric} over new seeds"
    if isinstance(winner.mean, Estimate):
        how += f", {winner.mean.value:.4f} of {winner.seeds}"
    return how


def _runs(companion: Study, configuration: str) -> list[FrozenTrial]:
    """Return the finished runs of a configuration, the lowest seed first."""
    done = companion.optuna().get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    own = [run for run in done if run.user_attrs.get("configuration") == configuration]
    return sorted(own, key=lambda run: int(run.user_attrs["seed_index"]))


def _known(study: Study, number: int, how: str, found: Confirmation | None) -> Choice:
    every = study.optuna().get_trials(deepcopy=False)
    trial = next((each for each in every if each.number == number), None)
    if trial is None:
        raise StudyError(
            f"{study.name!r} has no trial {number}",
            f"its trials are 0 to {len(every) - 1}" if every else "it has none yet",
            f"tunesvc best {study.name} shows the best",
        )
    if trial.state is not TrialState.COMPLETE:
        raise StudyError(
            f"trial {number} of {study.name!r} has not come to its end",
            f"it is {trial.state.name.lower()}, and a model is exported of a finished trial",
            f"tunesvc best {study.name} shows the best; --best takes it",
        )
    return Choice(study, trial, how, confirmation=found, winner=_of(found, number))


def _of(found: Confirmation | None, number: int) -> Confirmed | None:
    """Return what confirming runs told of a trial's configuration."""
    rerun = found.configurations if found else ()
    return next((each for each in rerun if each.candidate.trial == number), None)
