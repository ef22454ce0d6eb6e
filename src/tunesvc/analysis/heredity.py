"""How large the parts of a surface may be: pairs are large where their knobs are.

Why: 2026-11: of forty-five pairs nearly all do nothing, and what the data do not rule out of each
adds up: a fifth of the variance, where a sampler has narrowed its search. Two knobs that do nothing
alone seldom act together, so a pair of them is drawn to nothing, and others are left more room.

Source: Chipman 1996, Bayesian Variable Selection with Related Predictors (weak heredity).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tunesvc.analysis.basis import Basis, Part
from tunesvc.analysis.posterior import Columns, draw

Array = NDArray[np.float64]

MAIN = 0.3  # half-t scale, for values of variance 1; see docs/recovery.md
PAIR, LEAST = 0.2, 0.005  # of a pair: for each share of its knobs, and without any
DRAWS, BURN = 80, 40


def scales(
    basis: Basis, unit: Array, values: Array, rng: np.random.Generator
) -> Callable[[Part], float]:
    """Return the prior scale of each part, from a first fit of knobs alone.

    Args:
        unit: (n, parameters) points.
        values: (n,)
    """
    alone = [part for part in basis.parts if len(part.dims) == 1]
    sizes = [len(part.weights) for part in alone]
    own = (basis.columns(part, unit) for part in alone)
    columns = Columns(
        np.concatenate([np.ones((len(unit), 1)), *own], axis=1)[None],
        np.repeat(np.arange(len(sizes) + 1), [1, *sizes]),
        np.concatenate([[1.0], *(part.weights for part in alone)]),
        np.array([1.0, *(MAIN for _ in alone)]),
    )
    y = (values - values.mean()) / (values.std() or 1.0)
    w = draw(columns, y, rng, draws=DRAWS, burn=BURN).coefficients[0]
    each = np.stack([(w[:, columns.groups == i + 1] ** 2).sum(axis=1) for i in range(len(alone))])
    shares = (each / each.sum(axis=0)).mean(axis=1)
    share = {part.dims[0]: float(own) for part, own in zip(alone, shares, strict=True)}

    def scale(part: Part) -> float:
        if len(part.dims) == 1:
            return MAIN
        return LEAST + PAIR * sum(share[i] for i in part.dims)

    return scale
