"""A model of the objective over the whole search space, and what it is sure of.

The surface is a sum of one part for each parameter and one for each pair (`basis`), fitted by
Bayesian regression (`posterior`) to finished trials and, at their rung, to pruned ones and those
that diverged (`stages`, `composition`).

Why: 2026-11: at 50 trials a forest shrinks effects and its bootstrap intervals miss the truth;
parts that are orthogonal under the uniform distribution give shares of variance without
integration, also where a sampler went elsewhere, and draws from their posterior give intervals for
whatever is computed from the surface. docs/recovery.md counts how often these hold the truth. The
price: interactions of three and more knobs count as noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tunesvc.analysis.basis import Basis
from tunesvc.analysis.composition import composed
from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.heredity import scales
from tunesvc.analysis.nulls import Null, measured_nulls, with_nulls
from tunesvc.analysis.stages import Stages, stages
from tunesvc.analysis.table import LEVEL, Estimate, Scalar, Trials, Unsupported

Array = NDArray[np.float64]

MINIMUM = 20  # trials with a value, pruned ones too
MINIMUM_FINISHED = 2  # of these; docs/recovery.md has studies with that few

UNIFORM = 4096  # points of the space, for branches
FEW = 120  # trials up to which every pair is in the model; beyond, so many columns of pairs are
PAIR_COLUMNS = 120
CHAINS = 4
KEPT = 200  # joint draws that `draws` returns
_SEED = 20261122


@dataclass(frozen=True)
class Prediction:
    """What the surface is at some configurations.

    Args:
        mean: (n,) float64, in the objective's unit.
        spread: (n,) float64, standard deviation of what is not known of the surface, in the same
            unit; a single trial's noise comes on top (`Surrogate.noise`).
    """

    mean: Array
    spread: Array


class Surrogate:
    """The fitted surface of one study; made by `fit`."""

    def __init__(
        self, encoding: Encoding, basis: Basis, data: Stages, uniform: Array, coefficients: Array
    ) -> None:
        """Hold a fit; `fit` makes one.

        Args:
            coefficients: (draws, columns), in the objective's unit, the constant first.
        """
        self.encoding, self.basis, self.rows, self.uniform = encoding, basis, data.rows, uniform
        self.coefficients = coefficients
        self.finished = int(data.finished.sum())
        self.pruned = len(data.rows) - self.finished
        self.trials = len(data.rows)
        self.noise = 0.0  # standard deviation of one trial's value around the surface
        self.explained = Estimate(0.0, 0.0, 0.0, self.finished, "share")
        self.nulls: tuple[Null, ...] = ()
        self.chains = 1

    def predict(self, params: pd.DataFrame) -> Prediction:
        """Return the surface at configurations, and how well it is known there."""
        phi = self.columns(self.encoding.unit(params))
        values = phi @ self.coefficients.T
        return Prediction(values.mean(axis=1), values.std(axis=1))

    def draws(self, params: pd.DataFrame) -> Array:
        """Return possible surfaces at configurations.

        Whatever is computed from each (a maximum, a gap, a share) has the quantiles of the results
        as its interval.

        Returns:
            (draws, n) float64, in the objective's unit; the same surfaces whatever is asked.
        """
        every = max(1, len(self.coefficients) // KEPT)
        phi = self.columns(self.encoding.unit(params))
        return np.asarray(self.coefficients[::every] @ phi.T)

    def sample(self, n: int, rng: np.random.Generator, **fixed: Scalar) -> pd.DataFrame:
        """Draw whole configurations, uniformly over the space; see `Encoding.sample`."""
        return self.encoding.sample(n, rng, **fixed)

    def columns(self, unit: Array) -> Array:
        """Return the model's columns at points of the cube: (n, columns), the constant first."""
        return _columns(self.basis, unit)

    def variance(self, place: int) -> Array:
        """Return the variance of one of `basis.parts` over its branch: (draws,)."""
        start = 1 + sum(len(part.weights) for part in self.basis.parts[:place])
        stop = start + len(self.basis.parts[place].weights)
        return np.asarray((self.coefficients[:, start:stop] ** 2).sum(axis=1))


def fit(trials: Trials) -> Surrogate | Unsupported:
    """Fit the surface to the trials of a study; twice the same for the same trials."""
    data = stages(trials)
    finished = int(data.finished.sum())
    if finished < MINIMUM_FINISHED:
        return Unsupported(f"needs {MINIMUM_FINISHED} finished trials, has {finished}")
    if len(data.rows) < MINIMUM:
        return Unsupported(f"needs {MINIMUM} finished or pruned trials, has {len(data.rows)}")
    values = trials.finished["value"].to_numpy(dtype=float)
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return Unsupported("needs trials that differ, all reached the same value")
    with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
        return _fit(trials, data)


def _fit(trials: Trials, data: Stages) -> Surrogate | Unsupported:
    rng = np.random.default_rng(_SEED)
    encoding = Encoding(trials)
    uniform = encoding.unit(encoding.sample(UNIFORM, rng))
    basis = Basis(trials.space, uniform)
    if not basis.parts:
        return Unsupported("needs a knob with two values, the study has none")
    unit = encoding.unit(encoding.params(data.rows))
    scores = trials.sign * data.values  # a study turned upside down is the same to all that follows
    few = len(unit) <= FEW
    if not few:
        basis = _screened(basis, unit, _carried(scores))
    real = _columns(basis, unit)
    prior = scales(basis, unit, scores[0], rng)
    columns, injected = with_nulls(basis, unit, real, prior, chains=CHAINS, rng=rng)
    found = composed(scores, columns, rng, few=few)
    w = trials.sign * found.coefficients[:, :, : real.shape[1]]
    surrogate = Surrogate(encoding, basis, data, uniform, w.reshape(-1, real.shape[1]))
    surrogate.noise = found.noise
    surrogate.chains = CHAINS
    surrogate.nulls = measured_nulls(columns, injected, unit, found.coefficients)
    surrogate.explained = _explained(scores, found.left_out, rng)
    return surrogate


def _columns(basis: Basis, unit: Array) -> Array:
    ones = np.ones((len(unit), 1))
    return np.concatenate([ones, *(basis.columns(part, unit) for part in basis.parts)], axis=1)


def _screened(basis: Basis, unit: Array, y: Array) -> Basis:
    """Return the basis with the pairs that explain most of what single parameters leave.

    Why: 2026-11: a draw costs the cube of the number of columns; at hundreds of trials a pair that
    matters stands out of the rest.
    """
    alone = [part for part in basis.parts if len(part.dims) == 1]
    phi = np.concatenate([np.ones((len(y), 1)), *(basis.columns(p, unit) for p in alone)], axis=1)
    rest = y - phi @ np.linalg.lstsq(phi, y, rcond=None)[0]
    gains = {}
    for part in basis.parts:
        if len(part.dims) == 2:
            own = basis.columns(part, unit)
            fitted = own @ np.linalg.lstsq(own, rest, rcond=None)[0]
            gains[part.dims] = float(fitted @ fitted) / len(part.weights)
    kept, room = set(), PAIR_COLUMNS
    sizes = {part.dims: len(part.weights) for part in basis.parts}
    for dims in sorted(gains, key=lambda dims: -gains[dims]):
        if sizes[dims] <= room:
            kept.add(dims)
            room -= sizes[dims]
    return basis.only(lambda part: len(part.dims) == 1 or part.dims in kept)


def _carried(values: Array) -> Array:
    """Return roughly what each trial would have reached: (n,), for choosing among pairs only."""
    carried = values[0].copy()
    for before, after in pairwise(values):
        came = np.isfinite(after)
        slope = np.polyfit(before[came], after[came], 1) if np.ptp(before[came]) > 0 else [1.0, 0.0]
        carried = np.where(came, after, np.polyval(slope, carried))
    return np.asarray(carried)


def _explained(values: Array, left_out: Array, rng: np.random.Generator) -> Estimate:
    """Return R² of trials that came to the last stage, each predicted from all others.

    With one stage those that diverged are among them: that they did is a difference to be
    explained.
    """
    there = np.isfinite(left_out)
    error, own = left_out[there] ** 2, values[-1, there]
    n = len(own)
    plain = ((own - own.mean()) * n / (n - 1)) ** 2
    again = rng.integers(n, size=(500, n))
    shares = 1 - error[again].sum(axis=1) / np.maximum(plain[again].sum(axis=1), 1e-300)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = 1 - error.sum() / plain.sum()
    return Estimate(float(value), float(low), float(high), n, "share")
