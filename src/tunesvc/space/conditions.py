"""`when`: under which conditions a range counts, and in which order knobs must be decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesvc.errors import SpecError, suggest
from tunesvc.space.parameters import When, checked
from tunesvc.spec import KNOBS, Choices, Fixed, Range, Scalar, StudySpec
from tunesvc.spec.families import FAMILIES, family

Ranges = Mapping[str, Sequence[Range]]


def holds(when: When, values: Mapping[str, Scalar]) -> bool:
    """Tell whether every named knob is active and has one of the listed values."""
    return all(key in values and values[key] in allowed for key, allowed in when.items())


def parents(variants: Sequence[Range]) -> set[str]:
    """Return the knobs on which these variants depend."""
    return {key for variant in variants for key in variant.when} - {"backbone", "family"}


def ordered(ranges: Ranges) -> list[str]:
    """Return the knobs, parents first, else as in `KNOBS`.

    The order in the file has no say: it is not part of the study's digest, and the order in which
    parameters are drawn decides what a seed draws.

    Raises:
        SpecError: knobs depend on each other in a circle.
    """
    order: list[str] = []

    def visit(knob: str, path: tuple[str, ...]) -> None:
        if knob in path:
            circle = " → ".join([*path[path.index(knob) :], knob])
            raise SpecError(
                f"search_space.{knob}: its condition leads back to itself",
                circle,
                "remove one of these conditions",
            )
        if knob not in order:
            for parent in sorted(parents(ranges[knob]) & ranges.keys(), key=KNOBS.index):
                visit(parent, (*path, knob))
            order.append(knob)

    for knob in sorted(ranges, key=KNOBS.index):
        visit(knob, ())
    return order


def plain(written: Range, path: str, ranges: Ranges, spec: StudySpec) -> When:
    """Return a `when` with tuples of checked values; families and names become backbone labels.

    A family that no backbone of the study has leaves no label: this `when` never holds. So a
    backbone can be taken out of a file whose space was written for it too.

    Raises:
        SpecError: it names a knob outside the space, or a value that this knob never has.
    """
    when: dict[str, tuple[Scalar, ...]] = {}
    labels, absent = set(spec.backbone_labels), False
    for key, value in written.when.items():
        here = f"{path}.when.{key}"
        wanted = tuple(value) if isinstance(value, list) else (value,)
        if key in ("backbone", "family"):
            chosen = _labels(key, wanted, here, spec)
            absent = absent or not chosen
            labels &= chosen
            when["backbone"] = tuple(label for label in spec.backbone_labels if label in labels)
        else:
            when[key] = _values(key, wanted, here, ranges)
    if not labels and not absent:
        raise SpecError(
            f"{path}.when: never holds", "no backbone is of both this name and this family"
        )
    return when


def _labels(key: str, wanted: Sequence[Scalar], here: str, spec: StudySpec) -> set[str]:
    found = {label: {label, spec.backbone(label).name} for label in spec.backbone_labels}
    if key == "family":
        found = {label: {family(spec.backbone(label).name)} for label in spec.backbone_labels}
    known = set(FAMILIES) if key == "family" else set().union(*found.values())
    for value in wanted:
        if value not in known:
            raise SpecError(
                f"{here}: there is no family {value!r}"
                if key == "family"
                else f"{here}: this study has no backbone {value!r}",
                "",
                suggest(str(value), known),
            )
    return {label for label, names in found.items() if not names.isdisjoint(wanted)}


def _values(key: str, wanted: Sequence[Scalar], here: str, ranges: Ranges) -> tuple[Scalar, ...]:
    if key not in ranges:
        why = "it is no knob" if key not in KNOBS else f"{key} is not in the search space"
        raise SpecError(
            f"{here}: a condition on {key!r}, which this study does not search",
            why,
            suggest(key, {*ranges, "backbone", "family"}),
        )
    values = tuple(checked(key, value, here) for value in wanted)
    for value in values:
        if not any(_can_be(variant, value) for variant in ranges[key]):
            raise SpecError(
                f"{here}: {key} is never {value!r}",
                f"search_space.{key} does not contain it",
                f"add {value!r} to search_space.{key}, or remove the condition",
            )
    return values


def _can_be(written: Range, value: Scalar) -> bool:
    if isinstance(written, Fixed):
        return written.value == value
    if isinstance(written, Choices):
        return value in written.choices
    return not isinstance(value, str) and written.low <= value <= written.high
