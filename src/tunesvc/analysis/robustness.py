"""Robustness: how much of the space is nearly as good as the best.

    best         of a part of the space, the finished trial there that the surface puts highest
    share(ε)     of the part's configurations, drawn uniformly, those at most ε worse than a best

A large share means that most choices do; a small one that the backbone must be tuned with care. It
is a property of the ranges in the study file too: wider ones have room for more bad configurations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.moves import Array, best_of, estimate, frame, of_backbone
from tunesvc.analysis.scale import Scale, scale
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import Estimate, Trials, Unsupported

POINTS = (1.0, 2.0, 5.0)
SAMPLES = 1000  # configurations of each backbone


@dataclass(frozen=True)
class Share:
    """How much of one part of the space is within ε.

    Args:
        backbone, strategy: the part; None: all of them.
        points, epsilon: ε in points, and in the objective's unit.
        of_own: share of the part within ε of the part's own best.
        of_all: share of the part within ε of the study's best.
    """

    backbone: str | None
    strategy: str | None
    points: float
    epsilon: float
    of_own: Estimate
    of_all: Estimate


@dataclass(frozen=True)
class Robustness:
    """Shares of the whole space, of each backbone, of each strategy, and of both together.

    Args:
        shares: parts without a finished trial are left out.
        epsilon_words: what a point is, for people.
    """

    shares: tuple[Share, ...]
    epsilon_words: str


def robustness(
    trials: Trials, surface: Surrogate | Unsupported, points: Sequence[float] = POINTS
) -> Robustness | Unsupported:
    """Return the share of the space within each ε of the best.

    Args:
        points: each ε, in points (`scale`).
    """
    if isinstance(surface, Unsupported):
        return surface
    point = scale(trials)
    if isinstance(point, Unsupported):
        return point
    sample = _sample(trials, surface)
    parts = list(_parts(trials, sample))
    bests = [best_of(tried, trials, surface)[1] for _, _, tried, _ in parts]
    rows = pd.concat([frame(surface.encoding, bests), sample.params], ignore_index=True)
    scores = trials.sign * surface.draws(rows)
    tops, drawn = scores[:, : len(parts)], scores[:, len(parts) :]
    shares = [
        share
        for i, (backbone, strategy, tried, inside) in enumerate(parts)
        for share in _shares(
            drawn[:, inside], tops[:, [i, 0]], (backbone, strategy, len(tried)), points, point
        )
    ]
    return Robustness(tuple(shares), point.words)


@dataclass(frozen=True)
class _Sample:
    """Configurations drawn uniformly, the same number of each backbone."""

    params: pd.DataFrame
    backbone: NDArray[np.object_]
    strategy: NDArray[np.object_]


def _sample(trials: Trials, surface: Surrogate) -> _Sample:
    rng = np.random.default_rng(0)
    drawn = [
        surface.sample(SAMPLES, rng, **of_backbone(trials, label)) for label in trials.backbones
    ]
    names = [d.name for d in trials.space if d.knob == "strategy"]
    strategies = [
        _strategies(params[names], trials.frame.loc[trials.frame["backbone"] == label, "strategy"])
        for params, label in zip(drawn, trials.backbones, strict=True)
    ]
    return _Sample(
        params=pd.concat(drawn, ignore_index=True),
        backbone=np.repeat(np.array(trials.backbones, dtype=object), SAMPLES),
        strategy=np.concatenate(strategies),
    )


def _strategies(drawn: pd.DataFrame, seen: pd.Series) -> NDArray[np.object_]:
    """Return the strategy of configurations of one backbone; where it is not drawn it is fixed."""
    fixed = seen.mode()
    known = drawn.bfill(axis=1).iloc[:, 0] if drawn.shape[1] else pd.Series([None] * len(drawn))
    filled: NDArray[np.object_] = known.to_numpy(dtype=object, copy=True)
    filled[pd.isna(filled)] = fixed.iloc[0] if len(fixed) else ""
    return filled


Part = tuple[str | None, str | None, pd.DataFrame, NDArray[np.bool_]]


def _parts(trials: Trials, sample: _Sample) -> Iterator[Part]:
    """Yield each part's backbone, strategy, finished trials and configurations, the whole first."""
    finished = trials.finished
    strategies = list(dict.fromkeys(sample.strategy))
    for backbone in (None, *trials.backbones):
        for strategy in (None, *strategies):
            inside = np.ones(len(sample.params), dtype=bool)
            tried = np.ones(len(finished), dtype=bool)
            if backbone is not None:
                inside &= sample.backbone == backbone
                tried &= (finished["backbone"] == backbone).to_numpy()
            if strategy is not None:
                inside &= sample.strategy == strategy
                tried &= (finished["strategy"] == strategy).to_numpy()
            if tried.any() and inside.any():
                yield backbone, strategy, finished[tried], inside


def _shares(
    drawn: Array,
    tops: Array,
    part: tuple[str | None, str | None, int],
    points: Sequence[float],
    point: Scale,
) -> Iterator[Share]:
    """Yield the shares of one part.

    Args:
        drawn: (draws, configurations) scores of the part's configurations.
        tops: (draws, 2) scores of the part's best and the study's.
    """
    backbone, strategy, count = part
    for number in points:
        epsilon = number * point.point
        own, every = (
            estimate((drawn >= tops[:, [i]] - epsilon).mean(axis=1), count, "share") for i in (0, 1)
        )
        yield Share(backbone, strategy, number, epsilon, own, every)
