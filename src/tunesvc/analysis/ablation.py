"""Ablation path: from a backbone's default to its best configuration, one knob at a time.

At each step the knob whose flip to its best value gains most goes next; so the path tells which few
flips bring what tuning brought. A knob that decides which others exist takes those with it. Flips
that change next to nothing come last, in the order of the study's space.

Gains are the surface's. `with_measured` adds what the path's configurations gave when really run.

Source: Fawcett & Hoos 2016 (J. Heuristics 22(4)), greedy ablation; on a model of the surface:
Biedenkapp et al. 2017 (AAAI).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from statistics import NormalDist, fmean

import numpy as np

from tunesvc.analysis.moves import (
    Array,
    Params,
    best_of,
    default_of,
    estimate,
    frame,
    gains,
    moved,
)
from tunesvc.analysis.scale import scale
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import LEVEL, Estimate, Scalar, Trials, Unsupported

IDLE = 0.1  # points: what a flip changes less than this, it does not change


@dataclass(frozen=True)
class Flip:
    """One step of the path.

    Args:
        knobs: the one that flips, then those that move with it.
        before, after: what changed, by parameter; one that exists on one side only is only there.
        params: the whole configuration after it.
        gain: predicted, in the objective's unit; positive is better.
        idle: it changes less than a tenth of a point.
        measured: the objective of `params` when really run, in its own unit, and how far noise may
            have moved it; None before that.
    """

    knobs: tuple[str, ...]
    before: Mapping[str, Scalar]
    after: Mapping[str, Scalar]
    params: Params
    gain: Estimate
    idle: bool
    measured: Estimate | None = None


@dataclass(frozen=True)
class AblationPath:
    """The way from a backbone's default to its best configuration.

    Args:
        start: the default configuration.
        start_value: predicted objective there, in its own unit.
        start_measured: as `Flip.measured`.
        best_trial: the trial whose configuration is the path's end.
        noise: standard deviation of one run around the surface, in the objective's unit.
    """

    backbone: str
    start: Params
    start_value: Estimate
    flips: tuple[Flip, ...]
    best_trial: int
    noise: float
    start_measured: Estimate | None = None

    @property
    def configurations(self) -> tuple[Params, ...]:
        """Every configuration of the path, the default first, the best last."""
        return (self.start, *(flip.params for flip in self.flips))


def ablation_path(
    trials: Trials, surface: Surrogate | Unsupported, backbone: str
) -> AblationPath | Unsupported:
    """Return the path of a backbone; without flips where the default is the best configuration."""
    if isinstance(surface, Unsupported):
        return surface
    start = default_of(trials, backbone)
    if start is None:
        return Unsupported(f"the default configuration of {backbone} is unknown")
    tried = trials.finished[trials.finished["backbone"] == backbone]
    if tried.empty:
        return Unsupported(f"needs 1 finished trial of {backbone}, has 0")
    trial, best = best_of(tried, trials, surface)
    point = scale(trials)
    walk = _Walk(
        trials, surface, best, 0.0 if isinstance(point, Unsupported) else IDLE * point.point
    )
    first = surface.draws(frame(surface.encoding, [start]))[:, 0]
    return AblationPath(
        backbone=backbone,
        start=start,
        start_value=estimate(first, surface.trials, trials.metric),
        flips=walk.flips(start),
        best_trial=trial,
        noise=surface.noise,
    )


@dataclass(frozen=True)
class _Walk:
    """Where a path leads.

    Args:
        idle: a gain below it is none, in the objective's unit.
    """

    trials: Trials
    surface: Surrogate
    best: Params
    idle: float

    def flips(self, start: Params) -> tuple[Flip, ...]:
        done: list[Flip] = []
        here = start
        while names := [
            name for name in self.best if here.get(name, self.best[name]) != self.best[name]
        ]:
            done.append(self._next(here, names))
            here = done[-1].params
        return tuple(done)

    def _next(self, here: Params, names: Sequence[str]) -> Flip:
        """Return the flip that gains most, of these parameters of which each is drawn here."""
        encoding = self.surface.encoding
        ends = [moved(encoding, here, {name: self.best[name]}, self.best) for name in names]
        bought = gains(self.trials, self.surface, here, ends)
        mean = bought.mean(axis=0)
        most = int(np.where(np.abs(mean) < self.idle, -np.inf, mean).argmax())
        return self._flip(here, names[most], ends[most], bought[:, most])

    def _flip(self, here: Params, name: str, end: Params, bought: Array) -> Flip:
        changed = [n for n in dict.fromkeys([name, *here, *end]) if here.get(n) != end.get(n)]
        knobs = dict.fromkeys(self.surface.encoding.dimension(n).knob for n in changed)
        gain = estimate(bought, self.surface.trials, self.trials.metric)
        return Flip(
            knobs=tuple(knobs),
            before={n: here[n] for n in changed if n in here},
            after={n: end[n] for n in changed if n in end},
            params=end,
            gain=gain,
            idle=abs(gain.value) < self.idle,
        )


def with_measured(
    path: AblationPath, runs: Iterable[tuple[Mapping[str, Scalar], float]]
) -> AblationPath:
    """Return the path with what its configurations gave when they were run.

    Args:
        runs: configuration and objective of each run; those of other configurations are passed
            over, several of one are averaged.
    """
    told = [(dict(params), value) for params, value in runs]

    def measured(params: Params) -> Estimate | None:
        values = [value for there, value in told if there == params and isfinite(value)]
        if not values:
            return None
        reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * path.noise / sqrt(len(values))
        mean = fmean(values)
        return Estimate(mean, mean - reach, mean + reach, len(values), path.start_value.unit)

    return replace(
        path,
        start_measured=measured(path.start),
        flips=tuple(replace(flip, measured=measured(flip.params)) for flip in path.flips),
    )
