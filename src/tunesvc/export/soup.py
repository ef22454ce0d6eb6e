"""A greedy soup: the mean of several trials' weights, where it is better than the best of them.

    soup ← the chosen trial
    for each other kept trial of the same backbone, the best first, up to K in all:
        stay with the mean of the soup and it, if that is no worse on the validation split

Source: Wortsman et al. 2022, "Model soups", algorithm 1 ("GreedySoup"), arXiv 2203.05482.

Why: 2026-11: only trials that began from the same pretrained weights are averaged: what began at
random shares no basin. The heads were drawn with different seeds, which the paper's were not; the
greedy order means that one which does not fit is left out, for one look at the validation split.

Why: 2026-11: what the soup gains was measured on the images that chose its ingredients. It is told
as that, and the test split is scored once, of what is exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from tunesvc import interrupt, train
from tunesvc import study as studies
from tunesvc.export.choose import Choice
from tunesvc.export.trained import Bench, Made, not_kept, record
from tunesvc.exported import training
from tunesvc.train import Run, statistics
from tunesvc.trial import retention

State = dict[str, Tensor]


@dataclass(frozen=True)
class Soup:
    """What came of it.

    Args:
        asked: so many models.
        tried: trials whose models were tried, in order; the first is the chosen one.
        taken: those that are in the soup.
        before, after: objective on the validation split, of the chosen model and of the soup.
        gain: as a score: positive is better, whatever the direction.
    """

    asked: int
    tried: tuple[int, ...]
    taken: tuple[int, ...]
    metric: str
    before: float
    after: float
    gain: float

    def __str__(self) -> str:
        """Return it in words."""
        few = "" if len(self.tried) == self.asked else f" (of {self.asked} asked for: no more fit)"
        names = ", ".join(map(str, self.taken))
        if self.is_better:
            return (
                f"soup of trials {names}, of {len(self.tried)} tried{few}: {self.metric} "
                f"{self.before:.4f} → {self.after:.4f} on the validation split ({self.gain:+.4f})"
            )
        return (
            f"no soup: of {len(self.tried)} models tried{few} no mean is better than trial "
            f"{self.tried[0]} alone on the validation split ({self.metric} {self.before:.4f})"
        )

    @property
    def is_better(self) -> bool:
        """Whether the soup beats the chosen model."""
        return len(self.taken) > 1 and self.gain > 0


@dataclass
class _Pot:
    """The models in the soup; `score` is what their mean is worth."""

    run: Run
    metric: str
    sign: float  # 1 where larger is better, else -1
    states: list[State]
    score: float = field(init=False)

    def __post_init__(self) -> None:
        self.score = self.measured(self.states)

    def try_(self, state: State) -> bool:
        """Put one more in, unless the mean becomes worse."""
        score = self.measured([*self.states, state])
        if not score >= self.score:
            return False
        self.states.append(state)
        self.score = score
        return True

    def measured(self, states: list[State]) -> float:
        """Return the score of a mean; the run holds it afterwards."""
        stir(self.run, states)
        return self.sign * train.evaluate(self.run, self.run.val, interrupt.check)[self.metric]


def stir(run: Run, states: list[State]) -> None:
    """Give a run's model the mean of several models' weights."""
    run.module.load_state_dict(training.average(states))
    statistics.refresh(run, statistics.differing(states), interrupt.check)


def soup(bench: Bench, choice: Choice, count: int) -> tuple[Made, Soup]:
    """Return the soup, or the chosen trial's model where no mean is better.

    Args:
        count: models, at most.

    Raises:
        StudyError: the chosen trial's model is not kept.
    """
    first = _state(bench, choice.trial)
    if first is None:
        raise not_kept(bench.desk, choice)
    metric, direction = studies.objective(bench.desk.study.spec)
    run = bench.kept(choice.trial.number, choice.trial.params)
    assert run is not None
    pot = _Pot(run, metric, 1.0 if direction == "maximize" else -1.0, [first])
    before, tried, taken = pot.score, [choice.trial], [choice.trial]
    for trial in _others(bench, choice):
        if len(tried) == count:
            break
        state = _state(bench, trial)
        if state is None or not _is_alike(state, first):
            continue
        tried.append(trial)
        if pot.try_(state):
            taken.append(trial)
        bench.say(f"soup: trial {trial.number} {'is in' if trial in taken else 'is left out'}")
    told = Soup(
        count, _numbers(tried), _numbers(taken), metric,
        pot.sign * before, pot.sign * pot.score, pot.score - before,
    )  # fmt: skip
    kept = taken if told.is_better else taken[:1]
    states = pot.states if told.is_better else pot.states[:1]
    return _made(bench, choice, (run, kept, states), told), told


def _made(
    bench: Bench, choice: Choice, pot: tuple[Run, list[FrozenTrial], list[State]], told: Soup
) -> Made:
    _, trials, states = pot
    run = bench.kept(choice.trial.number, choice.trial.params)
    assert run is not None
    if len(states) > 1:
        stir(run, states)
    known = [record(bench, replace(choice, trial=trial), run) for trial in trials]
    starts = {place: start for place, (_, start) in enumerate(known) if start is not None}
    runs = tuple(entry for entry, _ in known)
    if len(states) == 1:
        return Made(run, "trial", runs, starts=starts)
    return Made(run, "soup", runs, starts=starts, remark=str(told))


def _others(bench: Bench, choice: Choice) -> list[FrozenTrial]:
    """Return the other kept trials that began from the same weights, the best first."""
    direction = studies.objective(bench.desk.study.spec)[1]
    sign = -1.0 if direction == "maximize" else 1.0
    kept, own = set(retention.kept(bench.desk.shelf, bench.desk.study)), _start(choice.trial)
    stored = bench.desk.study.optuna()  # with what trials tell of their weights
    done = stored.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = [
        trial
        for trial in done
        if trial.number in kept and trial.number != choice.trial.number
        and studies.is_feasible(trial) and all(own) and _start(trial) == own
    ]  # fmt: skip
    return sorted(found, key=lambda trial: (sign * trial.values[0], trial.number))


def _start(trial: FrozenTrial) -> tuple[str, str]:
    """Return a trial's backbone and the weights that it began from; "" for a random start."""
    told: Mapping[str, str] = trial.user_attrs.get("run") or {}
    return str(told.get("backbone", "")), str(told.get("weights_sha256") or "")


def _state(bench: Bench, trial: FrozenTrial) -> State | None:
    """Return a copy of a trial's model, on the CPU; None where it is not kept."""
    run = bench.kept(trial.number, trial.params)
    if run is None:
        return None
    return {name: value.detach().cpu().clone() for name, value in run.module.state_dict().items()}


def _is_alike(state: State, first: State) -> bool:
    """Whether two models have the same parts: a plugin's may have others with dropout."""
    return state.keys() == first.keys()


def _numbers(trials: list[FrozenTrial]) -> tuple[int, ...]:
    return tuple(trial.number for trial in trials)
