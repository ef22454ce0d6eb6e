"""What could be known at best: an estimator that is told all about a landscape but the sizes.

It knows which knobs and pairs have an effect, the exact shape of each effect, the noise, and how a
learning curve goes on; and estimates the sizes of effects from a study's trials. A method that is
told nothing of this can hardly do better on the same trials.
"""

from __future__ import annotations

import numpy as np
from landscapes import EPOCHS, Array, Landscape, at_places, way

from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.table import Trials

LEAST = 0.003  # share of an effect that takes part


def finds_top(landscape: Landscape, trials: Trials) -> bool:
    """Tell whether the oracle names the knob with the largest share.

    Generalised least squares, with the only prior that no share is larger than the whole.
    """
    truth = landscape.truth()
    shares = {(name,): share for name, share in truth.mains.items()} | dict(truth.pairs)
    shares = {names: share for names, share in shares.items() if share >= LEAST}
    unit = Encoding(trials).unit(Encoding(trials).params(trials.frame))
    value, variance = _ends(landscape, trials, unit)
    spread = float(landscape.deviation() / landscape.noise)
    own = [at_places(landscape, n, unit) / (spread * s**0.5) for n, s in shares.items()]
    phi = np.column_stack([np.ones(len(unit)), *own])
    inner = phi.T @ (phi / variance[:, None])
    inner[np.diag_indices(len(inner))] += np.array([0.0, *[spread**-2] * len(own)])
    found = np.linalg.solve(inner, phi.T @ (value / variance))[1:] ** 2
    everywhere = {d.name for d in landscape.space if not d.when}
    ranked = {n[0]: size for n, size in zip(shares, found, strict=True) if len(n) == 1}
    return max(ranked.keys() & everywhere, key=lambda name: ranked[name]) == landscape.top


def _ends(landscape: Landscape, trials: Trials, unit: Array) -> tuple[Array, Array]:
    """Return final values, carried on by the law of the curves, and their variances."""
    epochs = trials.frame["epochs"].to_numpy(dtype=int)
    start, risen = way(landscape, unit, epochs)
    last = trials.frame["last"].to_numpy(dtype=float)
    variance = landscape.deviation() ** 2 * (1 + np.where(epochs < EPOCHS, (0.5 / risen) ** 2, 0.0))
    return (last - start) / risen + start, variance
