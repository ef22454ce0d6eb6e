"""Importance: which share of the objective's variance each knob is behind, and each pair of knobs.

Functional ANOVA over the *uniform* distribution on the search space, whatever a sampler preferred.
A knob that is drawn in one branch only is judged inside that branch: its share is of the variance
there.

Null control: parameters without any effect (real ones, shuffled) are in the model from the start. A
share that does not rise above what they reach is not distinguishable from noise.

Source: Hutter, Hoos & Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter
Importance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from tunesvc.analysis.basis import Part
from tunesvc.analysis.branches import branch
from tunesvc.analysis.nulls import Null
from tunesvc.analysis.surrogate import Surrogate, fit
from tunesvc.analysis.table import LEVEL, Estimate, Trials, Unsupported

Array = NDArray[np.float64]

METHOD = (
    "functional ANOVA over the whole space, from a Bayesian surface of single knobs and pairs; "
    f"{LEVEL:.0%} posterior intervals; the noise line is what shuffled knobs reach; "
    "pruned trials count at their rung"
)
MINIMUM_IN_BRANCH = 8  # trials
WRONG = 0.01  # chance that a knob without effect rises above the line


@dataclass(frozen=True)
class KnobShare:
    """What one parameter is worth.

    Args:
        branch: where it is drawn; "" is everywhere.
        share: of the surface's variance in its branch that this parameter alone is behind.
        total: the same with its interactions.
        noise_line: the share that a parameter without effect may reach there.
        is_noise: neither it nor an interaction of it rises above its line.
    """

    name: str
    knob: str
    branch: str
    share: Estimate
    total: Estimate
    noise_line: float
    is_noise: bool


@dataclass(frozen=True)
class PairShare:
    """What two parameters are worth together, beyond what each is worth alone.

    Args:
        branch: where both are drawn; "" is everywhere.
        share: of the surface's variance in that branch.
        noise_line: the share that the largest of all pairs may reach without any effect.
    """

    names: tuple[str, str]
    knobs: tuple[str, str]
    branch: str
    share: Estimate
    noise_line: float
    is_noise: bool


@dataclass(frozen=True)
class Unjudged:
    """A parameter of which too little is known."""

    name: str
    knob: str
    branch: str
    trials: int  # in its branch
    why: str


@dataclass(frozen=True)
class Importance:
    """What each knob is worth.

    Args:
        knobs: the largest share first.
        pairs: the largest share first; at most as many as were asked for.
        noise_line: the share that a parameter without effect may reach, where it is drawn
        everywhere. explained: R² of finished trials (and, where none was pruned, those that
        diverged), each predicted from all others. trials: finished ones. pruned: those that took
        part, with their value at a rung or, where they diverged, as the worst.
        method: one sentence for readers.
    """

    knobs: tuple[KnobShare, ...]
    pairs: tuple[PairShare, ...]
    unjudged: tuple[Unjudged, ...]
    noise_line: float
    explained: Estimate
    trials: int
    pruned: int
    method: str


def importance(
    trials: Trials, *, pairs: int = 5, surface: Surrogate | Unsupported | None = None
) -> Importance | Unsupported:
    """Return what each knob and each pair is worth.

    Args:
        pairs: how many of them at most.
        surface: of these trials, if it is fitted already.
    """
    surface = fit(trials) if surface is None else surface
    return surface if isinstance(surface, Unsupported) else _Shares(surface).importance(pairs)


class _Shares:
    """Shares of variance of every part of a surface."""

    def __init__(self, surface: Surrogate) -> None:
        self.surface, self.parts = surface, surface.basis.parts
        self.unit = surface.encoding.unit(surface.encoding.params(surface.rows))
        self._whole: dict[bytes, Array] = {}
        self.lines = (
            _line(
                [self._scaled(null) for null in surface.nulls if len(null.part.dims) == 1], WRONG
            ),
            _line(
                [self._scaled(null) for null in surface.nulls if len(null.part.dims) == 2],
                WRONG / max(1, sum(len(part.dims) == 2 for part in self.parts)),
            ),
        )

    def importance(self, pairs: int) -> Importance:
        both = sorted(self._pairs(), key=lambda pair: -pair.share.value)
        loud = {name for pair in both if not pair.is_noise for name in pair.names}
        places = [i for i, part in enumerate(self.parts) if len(part.dims) == 1]
        known = [i for i in places if self._trials(self.parts[i]) >= MINIMUM_IN_BRANCH]
        knobs = (self._knob(i, loud) for i in known)
        return Importance(
            knobs=tuple(sorted(knobs, key=lambda knob: -knob.share.value)),
            pairs=tuple(both[:pairs]),
            unjudged=tuple(self._unjudged(i) for i in places if i not in known),
            noise_line=self._height(1, self.surface.trials),
            explained=self.surface.explained,
            trials=self.surface.finished,
            pruned=self.surface.pruned,
            method=METHOD,
        )

    def _knob(self, place: int, loud: set[str]) -> KnobShare:
        part, own = self.parts[place], self._share(place)
        dimension = self.surface.basis.space[part.dims[0]]
        trials = self._trials(part)
        line = self._height(1, trials)
        share = _estimate(own, trials)
        noise = share.value <= line
        total = own + sum(
            (
                self._chance(other, part) * self.surface.variance(i) / self._variance(part)
                for i, other in enumerate(self.parts)
                if len(other.dims) == 2 and part.dims[0] in other.dims
            ),
            start=np.zeros(1),
        )
        return KnobShare(
            *(dimension.name, dimension.knob, branch(dimension)),
            share=_from_zero(share) if noise else share,
            total=_estimate(np.minimum(total, 1.0), trials),
            noise_line=line,
            is_noise=noise and dimension.name not in loud,
        )

    def _pairs(self) -> list[PairShare]:
        found = []
        for place, part in enumerate(self.parts):
            trials = self._trials(part)
            if len(part.dims) == 2 and trials >= MINIMUM_IN_BRANCH:
                found.append(self._pair(place, trials))
        return found

    def _pair(self, place: int, trials: int) -> PairShare:
        own = self._share(place)
        a, b = (self.surface.basis.space[i] for i in self.parts[place].dims)
        line = self._height(2, trials)
        share = _estimate(own, trials)
        return PairShare(
            names=(a.name, b.name),
            knobs=(a.knob, b.knob),
            branch=", ".join(dict.fromkeys(filter(None, (branch(a), branch(b))))),
            share=share if share.value > line else _from_zero(share),
            noise_line=line,
            is_noise=share.value <= line,
        )

    def _unjudged(self, place: int) -> Unjudged:
        dimension = self.surface.basis.space[self.parts[place].dims[0]]
        trials = self._trials(self.parts[place])
        why = f"needs {MINIMUM_IN_BRANCH} trials in this branch, has {trials}"
        return Unjudged(dimension.name, dimension.knob, branch(dimension), trials, why)

    def _trials(self, part: Part) -> int:
        return int(part.there(self.unit).sum())

    def _share(self, place: int) -> Array:
        return self.surface.variance(place) / self._variance(self.parts[place])

    def _variance(self, part: Part) -> Array:
        """Return the variance of the surface over a part's branch: (draws,)."""
        here = part.there(self.surface.uniform)
        key = here.tobytes()
        if key not in self._whole:
            self._whole[key] = self._over(here)
        return self._whole[key]

    def _over(self, here: NDArray[np.bool_]) -> Array:
        if here.all():  # exact: parts are orthogonal there
            chances = [part.there(self.surface.uniform).mean() for part in self.parts]
            each = (self.surface.variance(i) * chance for i, chance in enumerate(chances))
            return np.asarray(np.maximum(sum(each, start=np.zeros(1)), 1e-300))
        phi = self.surface.columns(self.surface.uniform[here])
        w = self.surface.coefficients
        return np.asarray(np.maximum(((w @ np.cov(phi.T)) * w).sum(axis=1), 1e-300))

    def _chance(self, part: Part, within: Part) -> float:
        uniform = self.surface.uniform
        return float(part.there(uniform)[within.there(uniform)].mean())

    def _scaled(self, null: Null) -> float:
        """Return a null's share times its trials: shares of nothing fall as trials come."""
        every = self._variance(null.part)
        own = every.reshape(self.surface.chains, -1)[null.chain]
        return float((null.variance / own).mean() * null.trials)

    def _height(self, dims: int, trials: int) -> float:
        return min(1.0, self.lines[dims - 1] / max(trials, 1))


def _line(nulls: Sequence[float], wrong: float) -> float:
    """Return what a null exceeds with this chance: the tail beyond the ninth decile is exponential.

    Source: peaks over a threshold, with shape 0 (Coles 2001, ch. 4).
    """
    if not nulls:
        return 0.0
    decile = float(np.quantile(nulls, 0.9))
    beyond = [null - decile for null in nulls if null > decile]
    return decile + float(np.mean(beyond or [0.0])) * log(0.1 / wrong)


def _estimate(shares: Array, trials: int) -> Estimate:
    """Return the mean of draws and the shortest interval that holds `LEVEL` of them.

    Why: 2026-11: shares pile up at 0, so that an interval between two quantiles would leave out the
    truth of every knob without effect.
    """
    ordered = np.sort(shares)
    width = int(LEVEL * len(ordered))
    first = int(np.argmin(ordered[width:] - ordered[: len(ordered) - width]))
    value, high = float(ordered.mean()), float(ordered[first + width])
    low = 0.0 if first == 0 else min(float(ordered[first]), value)
    return Estimate(value, low, max(high, value), trials, "share")


def _from_zero(share: Estimate) -> Estimate:
    """Return the interval of what is not told from noise."""
    return replace(share, low=0.0)
