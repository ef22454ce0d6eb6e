"""Round after round: what has ended is looked at, and what follows is ordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.trial import TrialState

from tunesvc import study as studies
from tunesvc.analysis.race import Race
from tunesvc.analysis.table import Direction, Unsupported
from tunesvc.confirm.candidates import Chosen, Origin, in_order, same
from tunesvc.confirm.companion import SUFFIX, check, companion, is_crowded, listed, write
from tunesvc.confirm.outcome import Runs
from tunesvc.confirm.plan import Wish, next_runs, standings
from tunesvc.errors import StudyError
from tunesvc.spec import GivenRun, GivenSampler
from tunesvc.study import Study
from tunesvc.study.stored import alone


@dataclass(frozen=True)
class Standing:
    """How far a confirmation is.

    Args:
        is_done: every run that was asked for has ended, and no other follows from them.
        out: configurations that are clearly worse and get no more seeds; told between two rounds.
        notes: what to say besides.
    """

    companion: Study
    is_done: bool
    out: tuple[str, ...]
    notes: tuple[str, ...]


def advance(study: Study, wish: Wish) -> Standing:
    """Order the runs that come next, if those before have ended; to be called until it is done.

    Raises:
        StudyError: the study has no finished trial, confirms another itself, or the companion's
            name belongs to another study.
    """
    check(study)
    seen = _look(study, wish)
    if seen.found is not None and not seen.runs and not is_crowded(seen.found):
        return seen.standing(seen.found)
    with alone(study.store, f"{study.name}{SUFFIX} rounds"):
        seen = _look(study, wish)  # another command may have ordered them meanwhile
        if seen.found is not None and not seen.runs and not is_crowded(seen.found):
            return seen.standing(seen.found)
        return seen.standing(write(study, seen.chosen, seen.runs))


@dataclass
class _Seen:
    """What there is, and what follows from it."""

    found: Study | None
    chosen: Sequence[Chosen]
    racing: Race
    notes: list[str]
    runs: Sequence[GivenRun] = field(default_factory=tuple)
    is_done: bool = False
    out: tuple[str, ...] = ()

    def standing(self, made: Study) -> Standing:
        return Standing(made, self.is_done, self.out, tuple(self.notes))


def _look(study: Study, wish: Wish) -> _Seen:
    found, origin = companion(study), Origin(study)
    metric, direction = studies.objective(study.spec)
    sampler, runs = listed(found), Runs.of(found)
    begun = sampler.runs if sampler else ()
    chosen = _chosen(origin, sampler, wish, direction)
    candidates = [each.candidate for each in chosen]
    images = runs.images.get("val") if metric == "accuracy" else None
    racing = standings(candidates, runs.ended(metric), direction, images)
    seen = _Seen(found, chosen, racing, _notes(study))
    if len(runs.ended(metric)) == len(begun):
        _order(seen, origin, begun, wish)
        seen.is_done, seen.out = not seen.runs, racing.out
    return seen


def _order(seen: _Seen, origin: Origin, begun: Sequence[GivenRun], wish: Wish) -> None:
    """Say what runs next."""
    seen.chosen = _with_defaults(origin, seen.chosen, seen.racing.leader)
    seen.runs = _next(seen, begun, wish)
    has_steps = any(each.candidate.role == "step" for each in seen.chosen)
    if seen.runs or has_steps or not wish.ablation or not seen.racing.leader:
        return
    leader = next(x.candidate for x in seen.chosen if x.candidate.name == seen.racing.leader)
    steps = origin.steps(leader.backbone, seen.chosen)
    if isinstance(steps, Unsupported):
        seen.notes.append(f"no way from the default to the best is run: {steps.why}")
        return
    seen.chosen = [*seen.chosen, *steps]
    seen.runs = _next(seen, begun, wish)


def _next(seen: _Seen, begun: Sequence[GivenRun], wish: Wish) -> list[GivenRun]:
    return next_runs([each.candidate for each in seen.chosen], begun, seen.racing, wish)


def _chosen(
    origin: Origin, sampler: GivenSampler | None, wish: Wish, direction: Direction
) -> list[Chosen]:
    """Return those that the companion holds, and the study's best that it does not hold yet.

    Raises:
        StudyError: the study has no finished trial, or none that keeps its constraints.
    """
    held = [origin.known(*each) for each in sampler.configurations.items()] if sampler else []
    known = {same(each.params) for each in held if each.candidate.role != "step"}
    best = [each for each in origin.best(wish.top) if same(each.params) not in known]
    if not best and not held:
        _check_feasible(origin)
        raise StudyError(
            f"{origin.study.name!r} has no finished trial",
            f"{len(origin.trials)} trials were begun, and none has come to its end",
            f"let it run first:  tunesvc worker --study {origin.study.name}",
        )
    return in_order([*held, *best], direction)


def _check_feasible(origin: Origin) -> None:
    if any(trial.state is TrialState.COMPLETE for trial in origin.trials):
        raise StudyError(
            f"no finished trial of {origin.study.name!r} keeps its constraints",
            "only one that does is worth another run",
            f"see which comes nearest:  tunesvc best {origin.study.name}",
        )


def _with_defaults(origin: Origin, chosen: Sequence[Chosen], leader: str) -> list[Chosen]:
    """Return the candidates, and the defaults of the study's winner's backbone and the leader's."""
    first = next(each.candidate for each in chosen if each.candidate.role == "best")
    leading = [each.candidate for each in chosen if each.candidate.name == leader]
    found = list(chosen)
    for backbone in dict.fromkeys(one.backbone for one in [first, *leading]):
        if backbone not in {x.candidate.backbone for x in found if x.candidate.is_default}:
            found.append(origin.default(backbone))
    return found


def _notes(study: Study) -> list[str]:
    now = studies.status(study)
    if now.state == "done":
        return []
    of = "" if now.budget_trials is None else f" of {now.budget_trials}"
    begun = f"{now.finished}{of} trials have ended"
    return [f"{study.name} is not done ({begun}): what it finds meanwhile is confirmed, too"]
