"""The search space as the measures know it: dimensions, each with the condition of its branch."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import cast

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tunesvc.analysis.table import Dimension, Kind, Scalar
from tunesvc.errors import UsageError
from tunesvc.space import Space
from tunesvc.space.conditions import holds
from tunesvc.space.parameters import Constant, Parameter
from tunesvc.space.space import Option

Values = dict[str, Scalar]

_MOST = 10_000  # combinations of what conditions depend on; with more, they stay as written


def dimensions(space: Space) -> tuple[Dimension, ...]:
    """Return the parameters of a space, parents before those that depend on them.

    Of one knob's, the first whose condition holds is drawn. A study file's conditions may rest on
    knobs that are fixed in a branch, and a fixed variant may come before a searched one: where the
    conditions as written do not tell surely, among dimensions, which one is drawn, they are said of
    the knobs that are searched there, and those that tell surely come first.
    """
    branches = _branches(space)
    found: list[Dimension] = []
    for knob, options in space.knobs:
        own = [_dimension(each) for each in options if isinstance(each, Parameter)]
        drawn = [branch.drawn.get(knob) for branch in branches]
        told = [_told(own, branch) for branch in branches]
        wrong = {
            name for pair in zip(told, drawn, strict=True) if len({*pair}) > 1 for name in pair
        }
        if wrong:
            own = [_seen(each, branches) if each.name in wrong else each for each in own]
            own.sort(key=lambda each: not _is_exact(each, branches))
        found += own
    return tuple(found)


def _dimension(parameter: Parameter) -> Dimension:
    name, knob, when = parameter.name, parameter.knob, parameter.when
    match parameter.distribution:
        case CategoricalDistribution(choices=choices):
            options = cast(tuple[Scalar, ...], choices)
            return Dimension(name, knob, "categorical", choices=options, when=when)
        case FloatDistribution() | IntDistribution() as numeric:
            kind: Kind = "float" if isinstance(numeric, FloatDistribution) else "int"
            step = None if numeric.step is None else float(numeric.step)
            low, high = float(numeric.low), float(numeric.high)
            return Dimension(name, knob, kind, low, high, numeric.log, step, when=when)
    raise AssertionError(parameter.distribution)


@dataclass(frozen=True)
class _Branch:
    """One combination of what conditions depend on."""

    values: Values  # of searched knobs
    drawn: Mapping[str, str]  # knob → the parameter that is drawn for it


def _told(own: Sequence[Dimension], branch: _Branch) -> str | None:
    """Return which of a knob's dimensions is drawn, by their conditions."""
    return next((each.name for each in own if holds(each.when, branch.values)), None)


def _is_exact(dimension: Dimension, branches: Sequence[_Branch]) -> bool:
    """Tell whether a dimension is drawn wherever its condition holds, whatever comes before it."""
    return all(
        holds(dimension.when, branch.values) == (branch.drawn.get(dimension.knob) == dimension.name)
        for branch in branches
    )


def _seen(dimension: Dimension, branches: Sequence[_Branch]) -> Dimension:
    """Return it with the values of searched knobs with which it is drawn, where not all are."""
    active = [each.values for each in branches if each.drawn.get(dimension.knob) == dimension.name]
    when: dict[str, tuple[Scalar, ...]] = {}
    for knob in active[0] if active else ():
        if not all(knob in values for values in active):
            continue
        every = dict.fromkeys(each.values[knob] for each in branches if knob in each.values)
        some = {values[knob] for values in active}
        if len(some) < len(every):
            when[knob] = tuple(value for value in every if value in some)
    return replace(dimension, when=when) if active else dimension


def _branches(space: Space) -> list[_Branch]:
    """Return every combination; none where there are too many to be looked at."""
    deciding = {key for _, options in space.knobs for option in options for key in option.when}
    try:
        found = list(islice(_combinations(space.knobs, deciding, {}, _Branch({}, {})), _MOST + 1))
    except UsageError:  # a condition on a range without a step
        return []
    return found if len(found) <= _MOST else []


def _combinations(
    left: Sequence[tuple[str, tuple[Option, ...]]],
    deciding: Container[str],
    known: Values,
    branch: _Branch,
) -> Iterator[_Branch]:
    """Yield the branches that follow from what the first knobs have, constants included."""
    if not left:
        yield branch
        return
    (knob, options), *rest = left
    option = next((each for each in options if holds(each.when, known)), None)
    if isinstance(option, Constant):
        yield from _combinations(rest, deciding, known | {knob: option.value}, branch)
    elif option is None or knob not in deciding:
        drawn = branch.drawn if option is None else {**branch.drawn, knob: option.name}
        yield from _combinations(rest, deciding, known, _Branch(branch.values, drawn))
    else:
        for value in option.values():
            chosen = _Branch(branch.values | {knob: value}, {**branch.drawn, knob: option.name})
            yield from _combinations(rest, deciding, known | {knob: value}, chosen)
