"""Values and ranges as YAML on one line, as a person would write them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tunesvc.errors import SpecError
from tunesvc.spec import Choices, Fixed, FloatRange, IntRange, Range, knobs, yaml_file

_ORDER = ("type", "low", "high", "log", "step", "choices", "value", "when", "label")


def flow(value: Any) -> str:
    """Return YAML that reads back as the same value: `{low: 1e-4, high: 0.1, log: true}`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_word(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return _word(value) if isinstance(value, str) else json.dumps(value)


def _number(value: float) -> str:
    if value == 0 or 1e-2 <= abs(value) < 1e5:
        return repr(value)
    return f"{Decimal(repr(value)).normalize():e}"


def _word(text: str) -> str:
    """Return the text bare if it reads back as itself, else in quotes."""
    try:
        bare = yaml_file.parse(f"[{text}]", "").value == [text]
    except SpecError:
        bare = False
    return text if bare else json.dumps(text, ensure_ascii=False)


def ranges(knob: str, variants: tuple[Range, ...]) -> list[str]:
    """Return the lines that follow `search_space:` for one knob."""
    if len(variants) == 1:
        return [f"  {knob}: {flow(_short(knob, variants[0]))}"]
    return [f"  {knob}:", *(f"    - {flow(_mapping(knob, variant))}" for variant in variants)]


def _short(knob: str, variant: Range) -> Any:
    if not variant.when and not variant.label:
        if isinstance(variant, Fixed):
            return variant.value
        if isinstance(variant, Choices):
            return variant.choices
    return _mapping(knob, variant)


def _mapping(knob: str, variant: Range) -> dict[str, Any]:
    held = variant.model_dump(exclude_defaults=True)
    usual = IntRange if knobs.kind(knob) is int else FloatRange
    if isinstance(variant, FloatRange | IntRange) and not isinstance(variant, usual):
        held["type"] = variant.type
    return {key: held[key] for key in _ORDER if key in held}
