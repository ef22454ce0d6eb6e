"""Tunability: what tuning buys over the default, of a backbone and of each of its knobs.

    f(c)     objective of configuration c on the surface, as a score: larger is better
    c0, c*   a backbone's default configuration; the best one that was tried
    d        f(c*) - f(c0): what tuning the backbone buys
    d_i      max over x of f(c0 with knob i at x) - f(c0): what tuning knob i alone buys
    l_i      f(c*) - f(c* with knob i at its default): what leaving it loses

Where a knob decides which others exist, one that both branches have keeps its value, or the nearest
that the other branch allows; one that only the other branch has takes its value from c*, or c0.

The observed gain, best value less the default's, is too high: the best of many noisy values owes
part of its place to noise. d is told beside it, from the surface: its draws are shrunk by what the
trials cannot know, and c* is chosen once, by the surface's mean, not in each draw; so nothing is
maximized over noise again.

Source: Probst, Boulesteix & Bischl 2019 (JMLR 20(53)), equations 5 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pandas as pd

from tunesvc.analysis.moves import (
    Params,
    best_of,
    default_of,
    estimate,
    gains,
    moved,
    nearest,
    place_of,
    values_of,
)
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import Estimate, Scalar, Trials, Unsupported


@dataclass(frozen=True)
class KnobGain:
    """What one knob of one backbone is worth; gains and losses in the objective's unit.

    Args:
        names: the parameters that hold it in the default and in the best configuration.
        default, best: its values there; None where it is not drawn.
        alone: what tuning only it buys over the default; None where the default lacks it.
        alone_at: the value that does.
        left: what leaving it at its default loses while the rest is at the best; None where one of
            the two lacks it.
        trials: finished and pruned ones of this backbone in which it was drawn.
    """

    knob: str
    names: tuple[str, ...]
    default: Scalar | None
    best: Scalar | None
    alone: Estimate | None
    alone_at: Scalar | None
    left: Estimate | None
    trials: int


@dataclass(frozen=True)
class BackboneGain:
    """What tuning one backbone buys; gains in the objective's unit, better being positive.

    Args:
        default: the untuned configuration.
        best: that of the finished trial which the surface puts highest, or, without a surface,
            which has the best value.
        default_observed: mean value of the default's finished trials; None while there is none.
        best_observed: best value of a finished trial.
        observed: gain from one to the other, too high because the best of noisy values is lucky.
        estimated: gain of `best` over `default` on the surface.
        knobs: the one that buys most alone first; none without a surface.
        trials: finished ones of this backbone.
    """

    backbone: str
    default: Params
    best: Params
    best_trial: int
    default_observed: float | None
    best_observed: float
    observed: float | None
    estimated: Estimate | Unsupported
    knobs: tuple[KnobGain, ...]
    trials: int


@dataclass(frozen=True)
class Tunability:
    """What tuning buys, of each backbone that has a finished trial; the largest gain first."""

    backbones: tuple[BackboneGain, ...]


def tunability(trials: Trials, surface: Surrogate | Unsupported) -> Tunability | Unsupported:
    """Return what tuning buys; observed gains even where there is no surface."""
    told = [_backbone(trials, surface, label) for label in trials.backbones]
    found = [gain for gain in told if gain]
    if not found:
        return Unsupported("needs a finished trial of a backbone with a default, has none")
    return Tunability(tuple(sorted(found, key=_gain, reverse=True)))


def _gain(backbone: BackboneGain) -> float:
    if isinstance(backbone.estimated, Estimate):
        return backbone.estimated.value
    return -inf if backbone.observed is None else backbone.observed


def _backbone(trials: Trials, surface: Surrogate | Unsupported, label: str) -> BackboneGain | None:
    tried = trials.finished[trials.finished["backbone"] == label]
    default = default_of(trials, label)
    if tried.empty or default is None:
        return None
    trial, best = best_of(tried, trials, surface)
    estimated: Estimate | Unsupported
    knobs: tuple[KnobGain, ...] = ()
    if isinstance(surface, Unsupported):
        estimated = surface
    else:
        place = _Place(trials, surface, label, default, best)
        estimated, knobs = place.gain(), place.knobs()
    before, after = _observed(tried, trials.sign)
    return BackboneGain(
        backbone=label,
        default=default,
        best=best,
        best_trial=trial,
        default_observed=before,
        best_observed=after,
        observed=None if before is None else trials.sign * (after - before),
        estimated=estimated,
        knobs=knobs,
        trials=len(tried),
    )


def _observed(tried: pd.DataFrame, sign: float) -> tuple[float | None, float]:
    """Return the default's mean value, None where it has none, and the best value."""
    untuned = tried.loc[tried["default"].astype(bool), "value"]
    best = float(sign * (sign * tried["value"]).max())
    return None if untuned.empty else float(untuned.mean()), best


@dataclass(frozen=True)
class _Place:
    """One backbone on the surface."""

    trials: Trials
    surface: Surrogate
    label: str
    default: Params
    best: Params

    def gain(self) -> Estimate:
        return self._between(self.default, self.best, self._count(()))

    def knobs(self) -> tuple[KnobGain, ...]:
        space = self.surface.encoding.space
        drawn = {d.knob: None for d in space if d.name in self.default or d.name in self.best}
        told = [self._knob(knob) for knob in drawn if knob != "backbone"]
        return tuple(sorted(told, key=lambda knob: -knob.alone.value if knob.alone else inf))

    def _knob(self, knob: str) -> KnobGain:
        encoding = self.surface.encoding
        here, there = place_of(encoding, self.default, knob), place_of(encoding, self.best, knob)
        names = tuple(dict.fromkeys(name for name in (here, there) if name))
        count = self._count(names)
        alone, at = self._alone(here, count) if here else (None, None)
        return KnobGain(
            knob=knob,
            names=names,
            default=self.default[here] if here else None,
            best=self.best[there] if there else None,
            alone=alone,
            alone_at=at,
            left=self._left(here, there, count) if here and there else None,
            trials=count,
        )

    def _alone(self, name: str, count: int) -> tuple[Estimate, Scalar]:
        """Return what moving one parameter of the default buys, at the value that buys most."""
        encoding = self.surface.encoding
        values = [self.default[name], *values_of(encoding.dimension(name))]
        fill = self._only(self.best, self.default)
        tuned = [moved(encoding, self.default, {name: value}, fill) for value in values]
        bought = gains(self.trials, self.surface, self.default, tuned)
        most = int(bought.mean(axis=0).argmax())
        return estimate(bought[:, most], count, self.trials.metric), values[most]

    def _left(self, here: str, there: str, count: int) -> Estimate:
        """Return what the best loses with one knob at its default."""
        encoding = self.surface.encoding
        value = nearest(encoding.dimension(there), self.default[here])
        left = moved(encoding, self.best, {there: value}, self._only(self.default, self.best))
        return self._between(left, self.best, count)

    def _only(self, params: Params, other: Params) -> Params:
        """Return those parameters whose knob the other configuration lacks altogether."""
        knob_of = {d.name: d.knob for d in self.surface.encoding.space}
        known = {knob_of[name] for name in other}
        return {name: value for name, value in params.items() if knob_of[name] not in known}

    def _between(self, start: Params, end: Params, count: int) -> Estimate:
        bought = gains(self.trials, self.surface, start, [end])
        return estimate(bought[:, 0], count, self.trials.metric)

    def _count(self, names: tuple[str, ...]) -> int:
        """Return how many trials of the backbone drew one of these parameters; all without any."""
        frame = self.trials.feasible
        whole = frame["state"].isin(["COMPLETE", "PRUNED"]) & (frame["backbone"] == self.label)
        columns = [f"param:{name}" for name in names]
        return int((whole & frame[columns].notna().any(axis=1)).sum() if names else whole.sum())
