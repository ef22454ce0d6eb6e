"""A model of the objective over the whole search space, and what it is sure of.

The surface is a sum of one part for each parameter and one for each pair (`basis`), fitted by
Bayesian regression (`posterior`) to finished trials, to those that diverged as the worst of these,
and, with the error of carrying them on, to pruned ones (`imputation`).

Why: 2026-11: at 50 trials a forest shrinks effects and its bootstrap intervals miss the truth;
parts that are orthogonal under the uniform distribution give shares of variance without
integration, also where a sampler went elsewhere, and draws from their posterior give intervals for
whatever is computed from the surface. docs/recovery.md counts how often these hold the truth. The
price: interactions of three and more knobs count as noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import threadpool_limits

from tunesvc.analysis.basis import Basis
from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.endings import diverged
from tunesvc.analysis.imputation import Finals, finals, stopped
from tunesvc.analysis.nulls import Null, measured_nulls, with_nulls
from tunesvc.analysis.posterior import Draws, draw
from tunesvc.analysis.table import LEVEL, Estimate, Scalar, Trials, Unsupported

Array = NDArray[np.float64]

MINIMUM = 20  # trials with a value, pruned ones too
MINIMUM_FINISHED = 5

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
        self, encoding: Encoding, basis: Basis, data: Finals, uniform: Array, coefficients: Array
    ) -> None:
        """Hold a fit; `fit` makes one.

        Args:
            coefficients: (draws, columns), in the objective's unit, the constant first.
        """
        self.encoding, self.basis, self.data, self.uniform = encoding, basis, data, uniform
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
    finished, pruned = trials.finished, len(stopped(trials)) + len(diverged(trials))
    if len(finished) < MINIMUM_FINISHED:
        return Unsupported(f"needs {MINIMUM_FINISHED} finished trials, has {len(finished)}")
    if len(finished) + pruned < MINIMUM:
        return Unsupported(
            f"needs {MINIMUM} finished or pruned trials, has {len(finished) + pruned}"
        )
    values = finished["value"].to_numpy(dtype=float)
    if np.ptp(values) <= 1e-9 * np.abs(values).max():
        return Unsupported("needs trials that differ, all reached the same value")
    with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
        return _fit(trials)


def _fit(trials: Trials) -> Surrogate | Unsupported:
    rng = np.random.default_rng(_SEED)
    encoding = Encoding(trials)
    uniform = encoding.unit(encoding.sample(UNIFORM, rng))
    basis = Basis(trials.space, uniform)
    if not basis.parts:
        return Unsupported("needs a knob with two values, the study has none")
    data = finals(trials, encoding, basis, CHAINS)
    unit = encoding.unit(encoding.params(data.rows))
    centre, unit_of = float(data.value.mean()), float(data.value.std())
    y, known = (data.value - centre) / unit_of, data.variance / unit_of**2
    few = len(unit) <= FEW
    if not few:
        basis = _screened(basis, unit, y.mean(axis=0))
    draws, burn = (250, 100) if few else (110, 50)
    real = _columns(basis, unit)
    columns, injected = with_nulls(basis, unit, real, CHAINS, rng)
    found = draw(columns, y, known, rng, draws=draws, burn=burn)
    w = found.coefficients.reshape(-1, len(columns.weights))[:, : real.shape[1]] * unit_of
    w[:, 0] += centre
    surrogate = Surrogate(encoding, basis, data, uniform, w)
    surrogate.noise = float(np.sqrt(found.noise.mean()) * unit_of)
    surrogate.chains = CHAINS
    surrogate.nulls = measured_nulls(columns, injected, unit, found, unit_of)
    surrogate.explained = _explained(columns.phi[0], found, y.mean(axis=0), known, rng)
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


def _explained(
    phi: Array, found: Draws, y: Array, known: Array, rng: np.random.Generator
) -> Estimate:
    """Return R² of finished trials, each predicted from all others, with scales as they were found.

    Those that diverged are among them: that they did is a difference to be explained.

    Source: Rasmussen & Williams 2006, eq. 5.12: leaving one out of a Gaussian process.
    """
    finished = np.flatnonzero(known == 0)
    noise = float(found.noise.mean()) + known
    gap, lever = _left_out(phi, found.prior, noise, y)
    error = (gap / lever)[finished] ** 2
    n = len(finished)
    plain = ((y[finished] - y[finished].mean()) * n / (n - 1)) ** 2
    again = rng.integers(n, size=(500, n))
    shares = 1 - error[again].sum(axis=1) / np.maximum(plain[again].sum(axis=1), 1e-300)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = 1 - error.sum() / plain.sum()
    return Estimate(float(value), float(low), float(high), n, "share")


def _left_out(phi: Array, prior: Array, noise: Array, y: Array) -> tuple[Array, Array]:
    """Return K⁻¹y and the diagonal of K⁻¹ with K = ΦDΦᵀ + noise, by the smaller of two matrices."""
    scaled = phi / noise[:, None]
    inner = scaled.T @ phi
    inner[np.diag_indices(len(prior))] += 1 / np.maximum(prior, 1e-12)
    factor = cho_factor(inner, lower=True)
    gap = y / noise - scaled @ cho_solve(factor, scaled.T @ y)
    lever = 1 / noise - (scaled * cho_solve(factor, scaled.T).T).sum(axis=1)
    return gap, lever
