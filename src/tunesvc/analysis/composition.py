"""The surface at the end, as the surface at the first rung and what is gained after it (`stages`).

    value at the next rung = (1 + b) · value at this one + gain(knobs) + noise

so surface at the end = (1 + b) · surface at the rung + gain, and so on from rung to rung: all are
sums of the same columns, and coefficients are added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from tunesvc.analysis.posterior import Columns, Draws, draw

Array = NDArray[np.float64]

STEEP = 1.0  # half-t scale of b
LATER = 0.3  # what knobs do after the first rung, as a part of what they do up to it
DRAWS, BURN = (250, 110), (100, 50)  # of a chain: with few trials, and with many


@dataclass(frozen=True)
class Composed:
    """Draws from the posterior of the surface at the end.

    Args:
        coefficients: (chains, draws, columns), in the objective's unit, the constant first.
        noise: standard deviation of a single trial's value around the surface, in the same unit.
        left_out: (n,) of finished trials, value less the prediction from all others; NaN of others.
    """

    coefficients: Array
    noise: float
    left_out: Array


def composed(values: Array, on: Columns, rng: np.random.Generator, *, few: bool) -> Composed:
    """Fit a surface to the first rung and to every gain after it, and add them up.

    Args:
        values: (stages, n), NaN at stages that a trial did not come to.
        on: columns of the n trials, and their prior at the first rung.
    """
    size = {"draws": DRAWS[not few], "burn": BURN[not few]}
    found = _first(values[0], on, rng, size)
    for before, after in pairwise(values):
        found = _after(found, before, after, on, rng, size)
    noise = float(np.sqrt(found.variance.mean()))
    return Composed(found.coefficients, noise, found.left_out)


@dataclass(frozen=True)
class _Surface:
    """The surface at one stage."""

    coefficients: Array
    variance: Array  # (chains, draws), of a single trial's value around it
    left_out: Array


def _first(values: Array, on: Columns, rng: np.random.Generator, size: dict[str, int]) -> _Surface:
    centre, unit = float(values.mean()), float(values.std()) or 1.0
    y = (values - centre) / unit
    found = draw(on, y, rng, **size)
    whole = found.coefficients * unit
    whole[:, :, 0] += centre
    return _Surface(whole, found.noise * unit**2, _left_out(on.phi[0], found, y) * unit)


def _after(  # noqa: PLR0917
    sofar: _Surface,
    before: Array,
    after: Array,
    on: Columns,
    rng: np.random.Generator,
    size: dict[str, int],
) -> _Surface:
    """Return the surface at the next stage."""
    came = np.isfinite(after)
    gain = after[came] - before[came]
    unit = max(float(before[np.isfinite(before)].std()), float(gain.std())) or 1.0
    middle, mean = float(before[came].mean()), float(gain.mean())
    step, y = _step(on, came, (before[came] - middle) / unit), (gain - mean) / unit
    found = draw(step, y, rng, **size)
    slope = 1 + found.coefficients[:, :, 1]
    own = np.delete(found.coefficients, 1, axis=2) * unit
    own[:, :, 0] += mean + middle - slope * middle
    rest = np.full(len(after), np.nan)
    rest[came] = _left_out(step.phi[0], found, y) * unit + slope.mean() * sofar.left_out[came]
    return _Surface(
        slope[:, :, None] * sofar.coefficients + own,
        slope**2 * sofar.variance + found.noise * unit**2,
        rest,
    )


def _step(on: Columns, came: NDArray[np.bool_], start: Array) -> Columns:
    """Return the columns of the trials that came to a rung, with their value at the one before."""
    phi = on.phi[:, came]
    starts = np.broadcast_to(start[None, :, None], (len(phi), len(start), 1))
    return replace(
        on,
        phi=np.concatenate([phi[:, :, :1], starts, phi[:, :, 1:]], axis=2),
        groups=np.concatenate([[0, 1], on.groups[1:] + 1]),
        weights=np.concatenate([[1.0], on.weights]),
        scales=np.concatenate([[on.scales[0], STEEP], LATER * on.scales[1:]]),
    )


def _left_out(phi: Array, found: Draws, y: Array) -> Array:
    """Return values less their prediction from all others, with scales as they were found.

    Source: Rasmussen & Williams 2006, eq. 5.12: leaving one out of a Gaussian process; K = ΦDΦᵀ +
    noise is turned round by the smaller of two matrices.
    """
    noise = float(found.noise.mean())
    inner = phi.T @ phi / noise
    inner[np.diag_indices(len(found.prior))] += 1 / np.maximum(found.prior, 1e-12)
    factor = cho_factor(inner, lower=True)
    gap = y / noise - phi @ cho_solve(factor, phi.T @ y) / noise**2
    lever = 1 / noise - (phi * cho_solve(factor, phi.T).T).sum(axis=1) / noise**2
    return np.asarray(gap / lever)
