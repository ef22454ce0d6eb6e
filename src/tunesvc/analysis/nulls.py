"""Parameters and pairs without any effect, injected into a model to see what noise looks like.

Each has the values of a real one, in another order among the trials that have it: the same
distribution, the same gaps where it is not drawn, and nothing to do with the objective. Values
change places with those of trials that were drawn at about the same time.

Why: 2026-11: a sampler that learns (TPE) narrows every knob as it goes on, those without effect as
well, while its trials get better. So a knob without effect has to do with the objective, by way of
time; shuffled over the whole study it would not, and a line drawn from that is too low.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesvc.analysis.basis import Basis, Part
from tunesvc.analysis.posterior import Columns

Array = NDArray[np.float64]

NULLS, NULL_PAIRS = 12, 12  # in each chain
TURNS = 10  # trials, one after the other, that change values


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
    basis: Basis,
    unit: Array,
    real: Array,
    scales: Callable[[Part], float],
    *,
    chains: int,
    rng: np.random.Generator,
) -> tuple[Columns, tuple[Part, ...]]:
    """Return a model's columns with those of nulls, shuffled differently in each chain.

    Args:
        unit: (n, parameters) points, in the order in which they were drawn.
        real: (n, columns) of the model.
        scales: half-t, of parts; a null has that of the real one.

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
    own_scales = np.array([1.0, *map(scales, every)])
    return Columns(np.stack(blocks), groups, weights, own_scales), tuple(chosen)


def measured_nulls(
    columns: Columns, injected: Sequence[Part], unit: Array, coefficients: Array
) -> tuple[Null, ...]:
    """Return what the nulls of each chain seem to be worth.

    Args:
        unit: (n, parameters) points.
        coefficients: (chains, draws, columns), in the objective's unit.
    """
    first = len(columns.scales) - len(injected)
    return tuple(
        Null(
            part,
            int(part.there(unit).sum()),
            chain,
            (own[:, columns.groups == first + place] ** 2).sum(axis=1),
        )
        for chain, own in enumerate(coefficients)
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
    blocks = np.array_split(here, max(1, round(len(here) / TURNS)))
    mixed = np.concatenate([rng.permutation(block) for block in blocks])
    out[np.ix_(here, dims)] = unit[np.ix_(mixed, dims)]
    return out
