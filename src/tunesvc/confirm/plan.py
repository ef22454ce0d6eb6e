"""Which runs come next, from the candidates and from those runs that have ended.

Rounds: first `MIN_SEEDS` seeds of everybody, then one more of everybody who is still in the race,
until these have all that were asked for. Defaults run as long as the best do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesvc.analysis.confirmed import Candidate, Rerun
from tunesvc.analysis.race import MIN_SEEDS, Race, race
from tunesvc.analysis.table import Direction
from tunesvc.spec import GivenRun


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Args:
        top: so many of the study's best configurations.
        seeds: of each.
        ablation: seeds of each step of the way from the default to the best; 0: it is not run.
    """

    top: int = 5
    seeds: int = 5
    ablation: int = 0


def next_runs(
    candidates: Sequence[Candidate], runs: Sequence[GivenRun], racing: Race, wish: Wish
) -> list[GivenRun]:
    """Return the runs of the next round; none when everybody has what was asked for.

    Args:
        candidates: the best, defaults, and steps.
        runs: all that were ordered before; they have ended.
    """
    begun = Counter(run.configuration for run in runs)
    steps = [one.name for one in candidates if one.role == "step" and not one.same_as]
    rest = [one.name for one in candidates if one.role != "step" and one.name not in racing.out]
    fewest = min((begun[name] for name in rest), default=0)
    goal = min(wish.seeds, max(MIN_SEEDS, fewest + 1))
    goals = dict.fromkeys(rest, goal) | dict.fromkeys(steps, wish.ablation)
    most = max(goals.values(), default=0)
    return [
        GivenRun(configuration=name, seed=seed)
        for seed in range(most)
        for name in goals
        if begun[name] <= seed < goals[name]
    ]


def standings(
    candidates: Sequence[Candidate],
    reruns: Sequence[Rerun],
    direction: Direction,
    images: int | None,
) -> Race:
    """Return who of the best leads, and who is out.

    Args:
        images: of the validation split, where the objective is an accuracy: it comes in such steps.
    """
    values: dict[str, Mapping[int, float]] = {
        one.name: {run.seed: run.value for run in reruns if run.candidate == one.name}
        for one in candidates
        if one.role == "best"
    }
    return race(values, direction, resolution=1 / images if images else 0.0)
