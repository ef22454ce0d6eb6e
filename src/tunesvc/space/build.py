"""StudySpec → Space: every mistake that a search space can hold is found here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from optuna.distributions import CategoricalDistribution

from tunesvc.errors import SpecError
from tunesvc.space import auto, conditions
from tunesvc.space.parameters import (
    Constant,
    Parameter,
    checked,
    constant,
    distribution,
    is_constant,
)
from tunesvc.space.space import Option, Space
from tunesvc.spec import Range, StudySpec


def build(spec: StudySpec) -> Space:
    """Return the study's search space.

    Raises:
        SpecError: the space contradicts itself, the knobs, or the study's own defaults; the
            message begins with the key (`search_space.lr`).
    """
    written = auto.space_for(spec) if spec.search_space == "auto" else spec.search_space
    ranges = {str(knob): variants for knob, variants in written.items()}
    knobs: list[tuple[str, tuple[Option, ...]]] = [("backbone", (_backbone(spec),))]
    for knob in conditions.ordered(ranges):
        knobs.append((knob, _options(knob, ranges, spec)))
    defaults = {
        str(knob): checked(knob, value, f"defaults.{knob}") for knob, value in spec.defaults.items()
    }
    space = Space(spec, tuple(knobs), defaults)
    _check_defaults(space)
    return space


def _backbone(spec: StudySpec) -> Option:
    labels = spec.backbone_labels
    if len(labels) == 1:
        return Constant("backbone", labels[0], {})
    return Parameter("backbone", "backbone", CategoricalDistribution(labels), {})


def _paths(knob: str, variants: Sequence[Range]) -> list[tuple[str, Range]]:
    path = f"search_space.{knob}"
    if len(variants) == 1:
        return [(path, variants[0])]
    return [(f"{path}.{i}", variant) for i, variant in enumerate(variants)]


def _options(knob: str, ranges: conditions.Ranges, spec: StudySpec) -> tuple[Option, ...]:
    variants = ranges[knob]
    names = _names(knob, variants)
    options: list[Option] = []
    for (path, variant), name in zip(_paths(knob, variants), names, strict=True):
        if any(not option.when for option in options):
            raise SpecError(
                f"{path}: never counts",
                "the first variant whose `when` holds does, and one before it has no `when`",
                "move the variant without `when` to the end",
            )
        when = conditions.plain(variant, path, ranges, spec)
        value = constant(knob, variant, path)
        options.append(
            Parameter(name, knob, distribution(knob, variant, path), when)
            if value is None
            else Constant(knob, value, when)
        )
    return tuple(option for option in options if option.when.get("backbone") != ())


def _names(knob: str, variants: Sequence[Range]) -> list[str]:
    """Return what each variant is called in Optuna; those that are constants need no name."""
    alone = sum(not is_constant(variant) for variant in variants) == 1
    names = [
        knob if alone and not variant.label else f"{knob}@{variant.label or _derived(variant)}"
        for variant in variants
    ]
    searched = Counter(
        name for name, variant in zip(names, variants, strict=True) if not is_constant(variant)
    )
    twice = [name for name, count in searched.items() if count > 1]
    if twice:
        raise SpecError(
            f"search_space.{knob}: two variants are called {twice[0]!r}",
            "a parameter's name tells its variants apart",
            "give each its own `label`",
        )
    return names


def _derived(variant: Range) -> str:
    values = (
        "+".join(map(str, value)) if isinstance(value, list) else str(value)
        for value in variant.when.values()
    )
    return re.sub(r"[^\w.+-]", "_", "-".join(values)) or "else"


def _check_defaults(space: Space) -> None:
    for knob, options in space.knobs:
        fixed = options[0] if options else None
        if (
            isinstance(fixed, Constant)
            and not fixed.when
            and space.file_defaults.get(knob, fixed.value) != fixed.value
        ):
            raise SpecError(
                f"defaults.{knob}: {space.file_defaults[knob]!r} is outside the search space",
                f"search_space.{knob} fixes it at {fixed.value!r}",
                "remove one of the two",
            )
    space.defaults()
