"""Bayesian linear regression on groups of columns, each with a variance of its own to be learned.

    value = constant + sum of groups + noise,   coefficient of column j in group g ~ N(0, τ_g² λ_j),
    τ_g ~ half-t(scale_g),  noise variance ~ inverse gamma

Half-t scales leave large groups alone and draw small ones towards 0. Drawn by Gibbs sampling,
several chains side by side.

Why: 2026-11: half-Cauchy scales have tails so long that, of a part of which the data say nothing,
the variance has no mean: where a sampler went to few places, or few trials finished, such parts
took most of the variance. With three degrees of freedom large groups are still left alone.

Source:
    Piironen & Vehtari 2017 (arXiv 1707.01694) on half-Cauchy scales, with groups in place of
    coefficients; Makalic & Schmidt 2016 (arXiv 1508.03884), eq. 2: the half-Cauchy as two inverse
    gammas, for the half-t as in Huang & Wand 2013;
    Bhattacharya et al. 2016 (arXiv 1506.04778), sec. 2: coefficients where they outnumber
    the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

Array = NDArray[np.float64]

FREEDOM = 3.0  # of the half-t
NOISE_SHAPE, NOISE_RATE = 1.0, 0.1  # inverse gamma, for values of variance 1
CONSTANT = 25.0  # prior variance of the constant, for such values


@dataclass(frozen=True)
class Columns:
    """What the regression is on.

    Args:
        phi: (chains, n, p) float64; the first column is the constant. Chains may differ.
        groups: (p,) int, the group of each column; 0 is the constant's.
        weights: (p,) λ.
        scales: (groups,)
    """

    phi: Array
    groups: NDArray[np.intp]
    weights: Array
    scales: Array


@dataclass(frozen=True)
class Draws:
    """Draws from the posterior.

    Args:
        coefficients: (chains, draws, p)
        noise: (chains, draws), the variance of the noise.
        prior: (p,) typical prior variance of each coefficient: the median over draws.
    """

    coefficients: Array
    noise: Array
    prior: Array


def draw(on: Columns, y: Array, rng: np.random.Generator, *, draws: int, burn: int) -> Draws:
    """Draw from the posterior.

    Args:
        y: (n,) values of mean 0 and variance 1.
    """
    chain = _Chains(on, y, rng)
    kept = []
    for turn in range(burn + draws):
        chain.turn()
        if turn >= burn:
            kept.append((chain.w, chain.noise, chain.variances()))
    w, noise, prior = (np.stack(each, axis=1) for each in zip(*kept, strict=True))
    return Draws(w, noise, np.median(prior.reshape(-1, prior.shape[-1]), axis=0))


class _Chains:
    """The state of all chains; `turn` moves every block once."""

    def __init__(self, on: Columns, y: Array, rng: np.random.Generator) -> None:
        self.on, self.y, self.rng = on, y, rng
        self.chains, self.n, self.p = on.phi.shape
        self.sizes = np.bincount(on.groups, minlength=len(on.scales)).astype(float)
        self.member = np.eye(len(on.scales))[on.groups]  # (p, groups)
        self.tau2 = np.tile(on.scales**2, (self.chains, 1))
        self.nu = self.tau2.copy()
        self.noise = np.full(self.chains, 0.3)
        self.w = np.zeros((self.chains, self.p))
        self.gram = on.phi.transpose(0, 2, 1) @ on.phi if self.n > self.p else None

    def turn(self) -> None:
        prior = self.variances()
        for c in range(self.chains):
            step = self._few_values if self.gram is None else self._many_values
            self.w[c] = step(c, prior[c])
        self.w = self.w.copy()
        surface = (self.on.phi @ self.w[:, :, None])[:, :, 0]
        self._draw_scales()
        rest = ((self.y - surface) ** 2).sum(axis=1) / 2
        self.noise = (NOISE_RATE + rest) / self.rng.gamma(
            NOISE_SHAPE + self.n / 2, size=self.chains
        )

    def variances(self) -> Array:
        """Return the prior variance of each coefficient: (chains, p)."""
        prior = self.tau2[:, self.on.groups] * self.on.weights
        prior[:, 0] = CONSTANT
        return np.asarray(prior)

    def _few_values(self, c: int, prior: Array) -> Array:
        phi, noise = self.on.phi[c], self.noise[c]
        scaled = phi * prior
        middle = scaled @ phi.T
        middle[np.diag_indices(self.n)] += noise
        u = self.rng.standard_normal(self.p) * np.sqrt(prior)
        error = self.rng.standard_normal(self.n) * np.sqrt(noise)
        factor = cho_factor(middle, lower=True, check_finite=False)
        gap = cho_solve(factor, self.y - phi @ u - error, check_finite=False)
        return np.asarray(u + scaled.T @ gap)

    def _many_values(self, c: int, prior: Array) -> Array:
        assert self.gram is not None
        root = np.sqrt(prior)
        precision = self.gram[c] * (root[:, None] * (root / self.noise[c]))
        precision[np.diag_indices(self.p)] += 1.0
        lower = cho_factor(precision, lower=True, check_finite=False)[0]
        right = root * (self.on.phi[c].T @ self.y) / self.noise[c]
        half = solve_triangular(lower, right, lower=True, check_finite=False)
        half += self.rng.standard_normal(self.p)
        return np.asarray(
            root * solve_triangular(lower, half, lower=True, trans="T", check_finite=False)
        )

    def _draw_scales(self) -> None:
        squares = (self.w**2 / self.on.weights) @ self.member
        shape = self.tau2.shape
        rate = FREEDOM / self.nu + squares / 2
        self.tau2 = rate / self.rng.gamma((FREEDOM + self.sizes) / 2, size=shape)
        rate = 1 / self.on.scales**2 + FREEDOM / self.tau2
        self.nu = rate / self.rng.gamma((FREEDOM + 1) / 2, size=shape)
