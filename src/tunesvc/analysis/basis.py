"""A surface over the space as a sum of orthogonal parts: one a parameter, one a pair of them.

A part is a linear combination of columns that have mean 0 and are orthonormal under the uniform
distribution on the branch where the part exists. So a part's variance over that branch is the sum
of its squared coefficients, and shares of variance need no integration.

Source: the decomposition of Hoeffding as in Hutter, Hoos & Leyton-Brown 2014 (fANOVA), sec. 3;
parts made orthogonal by construction as in Lu, Boukouvalas & Hensman 2022 (arXiv 2206.09861).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tunesvc.analysis.encoding import levels
from tunesvc.analysis.table import Dimension

Array = NDArray[np.float64]

# Prior variance of the k-th cosine ∝ 1 / (1 + (k / 2)⁴). The second is half as likely as the first:
# a knob with its best value inside its range, as most have, is made of it.
BEND, DECAY = 2.0, 4.0
ALONE, PAIRED = 8, 3  # cosines of a range alone, and of each of a pair


@dataclass(frozen=True)
class Part:
    """One part of the surface.

    Args:
        dims: the parameters, by their place in the space.
        kept: for each, the places of the values that it can have in the part's branch; () for all.
        weights: prior variance of each column's coefficient, relative; they sum to 1.
    """

    dims: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]
    weights: Array

    def there(self, unit: Array) -> NDArray[np.bool_]:
        """Tell at which points it exists: (n,)."""
        return np.asarray(~np.isnan(unit[:, list(self.dims)]).any(axis=1))


class Basis:
    """The parts of a space and their columns."""

    def __init__(self, space: Sequence[Dimension], uniform: Array) -> None:
        """Find the parts.

        Args:
            uniform: (n, parameters) points drawn uniformly over the space, to see which parameters
                are ever drawn together.
        """
        self.space = tuple(space)
        there = ~np.isnan(uniform)
        singles = [i for i in range(len(space)) if there[:, i].any()]
        both = [(a, b) for a, b in combinations(singles, 2) if (there[:, a] & there[:, b]).any()]
        parts = (self._part(dims, uniform) for dims in [*((i,) for i in singles), *both])
        self.parts = tuple(part for part in parts if len(part.weights))

    def only(self, wanted: Callable[[Part], bool]) -> Basis:
        """Return this basis without some of its parts."""
        less = copy(self)
        less.parts = tuple(part for part in self.parts if wanted(part))
        return less

    def columns(self, part: Part, unit: Array) -> Array:
        """Return a part's columns at points: (n, columns); 0 where the part does not exist."""
        count = ALONE if len(part.dims) == 1 else PAIRED
        out: Array = np.ones((len(unit), 1))
        for i, kept in zip(part.dims, part.kept, strict=True):
            own = columns(self.space[i], unit[:, i], count, kept)
            out = (out[:, :, None] * own[:, None, :]).reshape(len(unit), -1)
        return out

    def _part(self, dims: tuple[int, ...], uniform: Array) -> Part:
        here = uniform[~np.isnan(uniform[:, list(dims)]).any(axis=1)]
        kept = tuple(_kept(self.space[i], here[:, i]) for i in dims)
        count = ALONE if len(dims) == 1 else PAIRED
        weights = np.ones(1)
        for i, values in zip(dims, kept, strict=True):
            weights = np.outer(weights, _weights(self.space[i], count, values)).ravel()
        return Part(dims, kept, weights)


def columns(dimension: Dimension, place: Array, count: int, kept: Sequence[int] = ()) -> Array:
    """Return orthonormal columns of one parameter: (n, columns); 0 where it is not drawn.

    Ranges have cosines. On the midpoints of `m` equal parts the first m − 1 of them are orthonormal
    too, so whole numbers and steps have the same. Choices have contrasts.
    """
    out: Array
    if dimension.kind == "categorical":
        table = _contrasts(len(dimension.choices), kept)
        index = np.floor(np.nan_to_num(place) * len(dimension.choices)).astype(int)
        out = table[index]
    else:
        k = np.arange(1, _cosines(dimension, count) + 1)
        out = np.asarray(np.sqrt(2.0) * np.cos(np.pi * np.outer(np.nan_to_num(place), k)))
    out[np.isnan(place)] = 0.0
    return out


def _cosines(dimension: Dimension, count: int) -> int:
    few = levels(dimension)
    return min(count, few - 1) if few else count


def _weights(dimension: Dimension, count: int, kept: Sequence[int]) -> Array:
    if dimension.kind == "categorical":
        free = (len(kept) or len(dimension.choices)) - 1
        return np.full(free, 1.0 / max(free, 1))
    k = np.arange(1.0, _cosines(dimension, count) + 1)
    decay = 1 / (1 + (k / BEND) ** DECAY)
    return np.asarray(decay / decay.sum()) if len(decay) else decay


def _kept(dimension: Dimension, places: Array) -> tuple[int, ...]:
    """Return the values that a choice can have here; () for all, and for ranges."""
    if dimension.kind != "categorical":
        return ()
    seen = sorted({int(place * len(dimension.choices)) for place in places})
    return () if len(seen) == len(dimension.choices) else tuple(seen)


def _contrasts(count: int, kept: Sequence[int]) -> Array:
    """Return a table (values, contrasts), orthonormal over the kept values; 0 at others."""
    rows = list(kept) or list(range(count))
    m = len(rows)
    centred = np.eye(m) - 1.0 / m
    table = np.zeros((count, m - 1))
    table[rows] = np.linalg.svd(centred)[0][:, : m - 1] * np.sqrt(m)
    return table
