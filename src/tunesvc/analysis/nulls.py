"""Parameters and pairs without any effect, injected into a model to see what noise looks like.

Each has the values of a real one, in another order among the trials that have it: the same
distribution, the same gaps where it is not drawn, and nothing to do with the objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesvc.analysis.basis import Basis, Part
from tunesvc.analysis.posterior import Columns, Draws

Array = NDArray[np.float64]

NULLS, NULL_PAIRS = 12, 12  # in each chain
MAIN_SCALE, PAIR_SCALE = 0.3, 0.02  # half-Cauchy, for values of variance 1; see docs/recovery.md


@dataclass(frozen=True)
class Null:
    """What an injected parameter or pair seems to be worth.

    Args:
        part: the real one whose values it has.
        trials: number of trials that have it.
        chain: the one that it was injected into; draws of chains follow each other.
        variance: (draws of that chain,) over its branch, in the objective's unit squared.
    """

    part: Part
    trials: int
    chain: int
    variance: Array


def with_nulls(
    basis: Basis, unit: Array, real: Array, chains: int, rng: np.random.Generator
) -> tuple[Columns, tuple[Part, ...]]:
    """Return a model's columns with those of nulls, shuffled differently in each chain.

    Args:
        unit: (n, parameters) points.
        real: (n, columns) of the model.

    Returns:
        the columns, and the parts whose values the nulls have, in the columns' order.
    """
    chosen = [
        *_some([part for part in basis.parts if len(part.dims) == 1], NULLS, rng),
        *_some([part for part in basis.parts if len(part.dims) == 2], NULL_PAIRS, rng),
    ]
    blocks = []
    for _ in range(chains):
        own = [basis.columns(part, _shuffled(part, unit, rng)) for part in chosen]
        blocks.append(np.concatenate([real, *own], axis=1))
    every = [*basis.parts, *chosen]
    groups = np.repeat(np.arange(len(every) + 1), [1, *(len(part.weights) for part in every)])
    weights = np.concatenate([[1.0], *(part.weights for part in every)])
    scales = [1.0, *(MAIN_SCALE if len(part.dims) == 1 else PAIR_SCALE for part in every)]
    return Columns(np.stack(blocks), groups, weights, np.array(scales)), tuple(chosen)


def measured_nulls(
    columns: Columns, injected: Sequence[Part], unit: Array, found: Draws, unit_of: float
) -> tuple[Null, ...]:
    """Return what the nulls of each chain seem to be worth.

    Args:
        unit: (n, parameters) points.
        unit_of: standard deviation of the objective, in its unit.
    """
    first = len(columns.scales) - len(injected)
    return tuple(
        Null(
            part,
            int(part.there(unit).sum()),
            chain,
            (own[:, columns.groups == first + place] ** 2).sum(axis=1) * unit_of**2,
        )
        for chain, own in enumerate(found.coefficients)
        for place, part in enumerate(injected)
    )


def _some(parts: Sequence[Part], count: int, rng: np.random.Generator) -> list[Part]:
    """Return so many parts, each about equally often."""
    if not parts:
        return []
    order = np.concatenate([rng.permutation(len(parts)) for _ in range(-(-count // len(parts)))])
    return [parts[i] for i in order[:count]]


def _shuffled(part: Part, unit: Array, rng: np.random.Generator) -> Array:
    here, dims = np.flatnonzero(part.there(unit)), np.array(part.dims)
    out = np.full_like(unit, np.nan)
    out[np.ix_(here, dims)] = unit[np.ix_(rng.permutation(here), dims)]
    return out
