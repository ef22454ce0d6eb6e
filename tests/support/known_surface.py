"""A small study whose surface is known by formula, and that surface in place of a fitted one.

So measures that are read off a surface can be held against arithmetic, apart from how well one
can be fitted. Of two backbones `near` has its default close to its best, `far` has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import log10
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from tunesvc.analysis import surrogate
from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import Dimension, Direction, Estimate, Scalar, Trials

Row = Mapping[str, Any]

NOISE = 0.02  # standard deviation of the value of a trial of `fitted`
SEEDS = range(4)

SPACE = (
    Dimension("backbone", "backbone", "categorical", choices=("near", "far")),
    Dimension("strategy", "strategy", "categorical", choices=("probe", "full")),
    Dimension("lr@probe", "lr", "float", 1e-3, 1e-1, log=True, when={"strategy": ("probe",)}),
    Dimension("lr@full", "lr", "float", 1e-5, 1e-1, log=True, when={"strategy": ("full",)}),
    Dimension("layer_decay", "layer_decay", "float", 0.5, 1.0, when={"strategy": ("full",)}),
    Dimension("batch_size", "batch_size", "categorical", choices=(16, 32, 64)),
    Dimension("null", "null", "float", 0.0, 1.0),
)

DEFAULTS: Mapping[str, Mapping[str, Scalar]] = {
    "near": {
        "backbone": "near",
        "strategy": "full",
        "lr@full": 1e-3,
        "layer_decay": 1.0,
        "batch_size": 32,
        "null": 0.5,
    },
    "far": {
        "backbone": "far",
        "strategy": "probe",
        "lr@probe": 1e-3,
        "batch_size": 16,
        "null": 0.5,
    },
}


def accuracy(row: Row) -> float:
    """Return the surface: at best 0.90, in the branch `full` at lr 1e-3 with batches of 32.

    One order of magnitude of lr costs 0.02, two 0.08; a probe 0.20 (and 0.05 for each order below
    1e-1); batches of 16 cost 0.03, of 64 0.005; layer decay 0.5 costs 0.04, 1.0 nothing.
    """
    batch = {16: 0.03, 32: 0.0, 64: 0.005}[row["batch_size"]]
    if row["strategy"] == "probe":
        return 0.90 - 0.20 - 0.05 * (-1 - log10(row["lr@probe"])) - batch
    return 0.90 - 0.02 * (log10(row["lr@full"]) + 3) ** 2 - 0.08 * (1 - row["layer_decay"]) - batch


@dataclass(frozen=True)
class KnownSurface:
    """What `surrogate.fit` returns, with the truth in place of a fit.

    Args:
        offsets: (draws,) each draw is the truth with this much added, times `leverage`.
        leverage: of each configuration; by default the same for all, so that gains are exact.
        chooser: a fitted surface that says which trial is the best, in place of the truth.
    """

    encoding: Encoding
    surface: Callable[[Row], float]
    trials: int
    noise: float = 0.01
    offsets: tuple[float, ...] = (-0.01, 0.0, 0.01)
    leverage: Callable[[Row], float] = lambda _: 1.0
    chooser: Surrogate | None = None

    def predict(self, params: pd.DataFrame) -> Any:
        if self.chooser:
            return self.chooser.predict(params)
        return SimpleNamespace(mean=np.array([self.surface(row) for row in _rows(params)]))

    def draws(self, params: pd.DataFrame) -> np.ndarray:
        values = np.array([self.surface(row) for row in _rows(params)])
        leverage = np.array([self.leverage(row) for row in _rows(params)])
        return values + np.outer(self.offsets, leverage)

    def sample(self, n: int, rng: np.random.Generator, **fixed: Scalar) -> pd.DataFrame:
        return self.encoding.sample(n, rng, **fixed)


def _rows(params: pd.DataFrame) -> list[Row]:
    return params.to_dict("records")


def known_study(
    configurations: Sequence[Mapping[str, Scalar]] = (),
    *,
    surface: Callable[[Row], float] = accuracy,
    direction: Direction = "maximize",
    count: int = 40,
    noise: float = 0.0,
    seed: int = 0,
) -> Trials:
    """Return a study of both defaults, these configurations, and so many random ones."""
    rng = np.random.default_rng(seed)
    blank = _trials(pd.DataFrame(columns=[d.name for d in SPACE], dtype=object), [], 0, direction)
    given = pd.DataFrame([*DEFAULTS.values(), *configurations], dtype=object)
    drawn = Encoding(blank).sample(count, rng)
    params = pd.concat([given, drawn], ignore_index=True).astype(object)
    params = params.reindex(columns=[d.name for d in SPACE]).astype(object)
    values = [surface(row) + noise * rng.standard_normal() for row in _rows(params)]
    return _trials(params, values, len(given), direction)


def known_surface(trials: Trials, surface: Callable[[Row], float] = accuracy) -> Any:
    """Return the surface behind a study."""
    return KnownSurface(Encoding(trials), surface, len(trials.frame))


@cache
def fitted(seed: int) -> tuple[Trials, Surrogate, Any]:
    """Return a noisy study of 60 trials, its fitted surface, and the truth where this chose."""
    trials = known_study(count=58, noise=NOISE, seed=seed)
    surface = surrogate.fit(trials)
    truth = replace(known_surface(trials), offsets=(0.0,), chooser=surface)
    return trials, surface, truth


def share_held(told: Sequence[tuple[Estimate, Estimate]]) -> float:
    """Return the share of estimates whose interval holds the truth beside them."""
    return float(np.mean([a.low - 1e-9 <= b.value <= a.high + 1e-9 for a, b in told]))


def _trials(
    params: pd.DataFrame, values: Sequence[float], given: int, direction: Direction
) -> Trials:
    n = len(params)
    frame = pd.DataFrame(
        {
            "state": ["COMPLETE"] * n,
            "value": np.array(values, dtype=float),
            "last": np.array(values, dtype=float),
            "backbone": params["backbone"],
            "strategy": params["strategy"],
            "default": [number < len(DEFAULTS) for number in range(n)],
            "drawn": ["given" if number < given else "random" for number in range(n)],
            "control": [False] * n,
            "epochs": [5] * n,
            "seconds": [10.0] * n,
            "reason": [""] * n,
            **{f"param:{name}": params[name] for name in params},
        },
        index=pd.RangeIndex(n, name="number"),
    )
    return Trials(
        study="known",
        metric="accuracy" if direction == "maximize" else "loss",
        direction=direction,
        epochs=5,
        space=SPACE,
        frame=frame,
        curves={},
        backbones=("near", "far"),
        defaults=DEFAULTS,
        sampler="random",
        pruner="none",
    )


def with_states(trials: Trials, state: str) -> Trials:
    """Return the study with every trial in this state, and without values."""
    frame = trials.frame.assign(state=state, value=np.nan)
    return replace(trials, frame=frame)
