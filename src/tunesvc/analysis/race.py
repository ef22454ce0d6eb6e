"""Which of several configurations deserve another seed: the clearly worse leave.

Why: 2026-11: most of the best of a search are equals, and a few are there by luck. After three
seeds the latter can often be told, and what they would have cost goes to nobody. Of five that are
worth the same, one race in ten loses any at three seeds; who is ten standard deviations behind the
others leaves then in 87 % of races, and five behind in 48 % (simulated, normal values).

Source: Birattari et al. 2002, "A Racing Algorithm for Configuring Metaheuristics"; with irace's
t-test in place of Friedman's (López-Ibáñez et al. 2016, section 3.1), which needs more instances
than there are seeds here; Holm 1979 for several tests at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from tunesvc.analysis.paired import Values, differences, finite, p_above
from tunesvc.analysis.table import Direction

ALPHA = 0.05
MIN_SEEDS = 3  # before anybody leaves


@dataclass(frozen=True)
class Race:
    """How it stands.

    Args:
        leader: the best mean; "" where no run has come to its end.
        p: each other's Holm-adjusted p-value that it is not worse than the leader; not there while
            the two have fewer than `MIN_SEEDS` seeds in common.
        out: those that leave, in the order in which they were given.
    """

    leader: str
    p: Mapping[str, float]
    out: tuple[str, ...]


def race(values: Mapping[str, Values], direction: Direction, *, resolution: float = 0.0) -> Race:
    """Return who leads, and who is clearly worse than the leader.

    Args:
        values: of each configuration, by seed.
        resolution: steps that values come in (1 / images for an accuracy).
    """
    sign = 1.0 if direction == "maximize" else -1.0
    leader = next(iter(ranked(values, sign)), "")
    if not leader:
        return Race("", {}, ())
    behind = {
        name: differences(values[leader], theirs, sign)
        for name, theirs in values.items()
        if name != leader
    }
    raw = {
        name: min(1.0, 2 * p_above(d, resolution))  # the same runs chose who leads
        for name, d in behind.items()
        if len(d) >= MIN_SEEDS
    }
    adjusted = holm(raw)
    return Race(leader, adjusted, tuple(name for name, p in adjusted.items() if p < ALPHA))


def ranked(values: Mapping[str, Values], sign: float) -> list[str]:
    """Return those that have a value, the best first; whoever has lost a run comes behind.

    Why: 2026-11: all are among the best of a search, and one that diverges now and then is none to
    choose for a point more.
    """
    known = [name for name, theirs in values.items() if finite(theirs)]
    scores = dict(zip(known, _levels([values[name] for name in known]), strict=True))

    def place(name: str) -> tuple[bool, float]:
        return not all(map(isfinite, values[name].values())), -sign * scores[name]

    return sorted(known, key=place)


def _levels(groups: Sequence[Values]) -> list[float]:
    """Return each one's mean, as if all had run with the same seeds.

    That is, by least squares, the first term of value = level + what its seed does to every one:
    whoever left after three lucky seeds does not stand before those that had unlucky ones, too.
    """
    cells = [(i, seed, v) for i, group in enumerate(groups) for seed, v in group.items()]
    cells = [cell for cell in cells if isfinite(cell[2])]
    seeds = {seed: n for n, seed in enumerate(dict.fromkeys(seed for _, seed, _ in cells))}
    design = np.zeros((len(cells), len(groups) + len(seeds)))
    for row, (group, seed, _) in enumerate(cells):
        design[row, [group, len(groups) + seeds[seed]]] = 1
    found, *_ = np.linalg.lstsq(design, [value for *_, value in cells])
    return [float(level) for level in found[: len(groups)]]


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for being several.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    found, largest = {}, 0.0
    for done, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, (len(p) - done) * p[name]))
        found[name] = largest
    return {name: found[name] for name in p}
