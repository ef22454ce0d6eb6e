"""What several studies' best trials have in common: ranges and defaults for the next study.

Of each study the best tenth of its finished trials; of those, each knob's values. Every study has
the same weight, however many trials it has. A number's range leaves `_OUTSIDE` of the weight out on
either side and its default is the median; a choice's default is the most frequent.
Source: van Rijn & Hutter 2018, "Hyperparameter Importance Across Datasets", section 3.3 (the values
of the best configurations of each data set, as priors), here without their density estimate, which
wants a hundred data sets.

Why: 2026-11: values are where the sampler drew them. A study whose sampler soon left a region says
nothing good of it, whether it was right or not; a prior is where good trials were found, no proof
that there are none elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from tunesvc.analysis.table import Dimension, Kind, Scalar, Trials, Unsupported

FEWEST_FINISHED = 20  # trials of a study, to have a best tenth
FEWEST_VALUES = 8  # of a knob, in all studies together
SHARE = 0.1  # of a study's finished trials: its best

_OUTSIDE = 0.1

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """Where good values of one parameter lie.

    Args:
        dimension: of the first study that has it; its range or choices are those of all.
        low, high: of a number, else None.
        kept: share of the searched range (of its logarithm where `log`) between low and high; of a
            choice, of its values that came up among the best. Where it does not matter, 0.8.
        default: median, or the most frequent.
        frequencies: of a choice: (value, share), the most frequent first.
        studies: that have it; trials: of their best, those that drew it.
    """

    dimension: Dimension
    low: float | None
    high: float | None
    kept: float
    default: Scalar
    frequencies: tuple[tuple[Scalar, float], ...]
    studies: int
    trials: int

    @property
    def name(self) -> str:
        """The parameter."""
        return self.dimension.name


@dataclass(frozen=True)
class _Values:
    """What good trials have of one parameter: values, and weights that add up to 1 per study."""

    dimensions: tuple[Dimension, ...]  # of the studies that have it
    values: tuple[Scalar, ...]
    weights: Array


def priors(studies: Sequence[Trials]) -> tuple[Prior, ...] | Unsupported:
    """Return a prior for each parameter that two studies or more have, parents first.

    A parameter is the same where its name and its kind are.
    """
    enough = [trials for trials in studies if len(trials.finished) >= FEWEST_FINISHED]
    if len(enough) < 2:
        return Unsupported(
            f"needs 2 studies of {FEWEST_FINISHED} finished trials, has {len(enough)}"
        )
    same = dict.fromkeys((each.name, each.kind) for trials in enough for each in trials.space)
    pooled = [_pooled(name, kind, enough) for name, kind in same]
    found = tuple(
        _prior(values)
        for values in pooled
        if len(values.dimensions) > 1 and len(values.values) >= FEWEST_VALUES
    )
    few = f"no parameter has {FEWEST_VALUES} values among the best of two studies or more"
    return found or Unsupported(few)


def _pooled(name: str, kind: Kind, studies: Sequence[Trials]) -> _Values:
    dimensions: list[Dimension] = []
    values: list[Scalar] = []
    weights: list[float] = []
    for trials in studies:
        for dimension in trials.space:
            is_same = (dimension.name, dimension.kind) == (name, kind)
            if is_same and (own := list(_best_values(trials, dimension))):
                dimensions.append(dimension)
                values += own
                weights += [1 / len(own)] * len(own)
    return _Values(tuple(dimensions), tuple(values), np.array(weights))


def _best_values(trials: Trials, dimension: Dimension) -> Iterator[Scalar]:
    """Yield the values that a study's best trials drew."""
    finished = trials.finished
    scores = trials.sign * finished["value"].to_numpy(float)
    best = np.argsort(-scores, kind="stable")[: ceil(SHARE * len(scores))]
    drawn = finished[f"param:{dimension.name}"].iloc[best]
    yield from drawn[drawn.notna()].tolist()


def _prior(values: _Values) -> Prior:
    is_choice = values.dimensions[0].kind == "categorical"
    return _of_choices(values) if is_choice else _of_numbers(values)


def _of_choices(values: _Values) -> Prior:
    known = {choice: None for each in values.dimensions for choice in each.choices}
    total = values.weights.sum()
    shares = {
        choice: sum(w for v, w in zip(values.values, values.weights, strict=True) if v == choice)
        for choice in known
    }
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    frequencies = tuple((choice, float(share / total)) for choice, share in ordered)
    made = _merged(values.dimensions, choices=tuple(known))
    kept = sum(share > 0 for _, share in frequencies) / len(known)
    size = len(values.dimensions), len(values.values)
    return Prior(made, None, None, kept, frequencies[0][0], frequencies, *size)


def _of_numbers(values: _Values) -> Prior:
    numbers = np.array(values.values, dtype=float)
    low, middle, high = _quantiles(numbers, values.weights, (_OUTSIDE, 0.5, 1 - _OUTSIDE))
    made = _merged(values.dimensions, choices=())
    default: Scalar = int(middle) if made.kind == "int" else middle
    size = len(values.dimensions), len(values.values)
    return Prior(made, low, high, _kept(low, high, made), default, (), *size)


def _quantiles(numbers: Array, weights: Array, shares: Sequence[float]) -> list[float]:
    """Return, for each share, the smallest number that as much of the weight lies at or below."""
    order = np.argsort(numbers, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(reached, np.array(shares) - 1e-9)
    return [float(numbers[order][place]) for place in places]


def _merged(dimensions: Sequence[Dimension], choices: tuple[Scalar, ...]) -> Dimension:
    """Return the first with the range, and the conditions, of all."""
    lows = [each.low for each in dimensions if each.low is not None]
    highs = [each.high for each in dimensions if each.high is not None]
    steps = {each.step for each in dimensions}
    first = dimensions[0]
    return Dimension(
        first.name,
        first.knob,
        first.kind,
        min(lows, default=None),
        max(highs, default=None),
        all(each.log for each in dimensions),
        first.step if len(steps) == 1 else None,
        choices,
        _conditions(dimensions),
    )


def _conditions(dimensions: Sequence[Dimension]) -> dict[str, tuple[Scalar, ...]]:
    """Return `when` with the values of all; what one of them does not ask for is left out."""
    keys = [key for key in dimensions[0].when if all(key in each.when for each in dimensions)]
    return {
        key: tuple(dict.fromkeys(value for each in dimensions for value in each.when[key]))
        for key in keys
    }


def _kept(low: float, high: float, dimension: Dimension) -> float:
    assert dimension.low is not None
    assert dimension.high is not None
    ends = (low, high, dimension.low, dimension.high)
    first, last, lowest, highest = map(log, ends) if dimension.log else ends
    return (last - first) / (highest - lowest)
