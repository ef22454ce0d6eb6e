"""The search space as a study file writes it: knob → one or more ranges, with conditions.

Short forms: a scalar is a fixed value, a list of scalars a choice, `{low, high}` a range of the
knob's own type. A list of mappings holds variants, of which the first whose `when` holds counts:

    lr:
      - {low: 1e-4, high: 1e-1, log: true, when: {strategy: linear-probe}}
      - {low: 1e-5, high: 1e-3, log: true}
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tunesvc.spec import knobs
from tunesvc.spec.knobs import KnobName, Scalar


class _Range(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    when: dict[str, Scalar | list[Scalar]] = Field(
        default={}, description="holds only where each named knob has (one of) these values"
    )
    label: str | None = Field(
        None,
        pattern=r"^[\w+.-]+$",
        description="the parameter is called knob@label; needed only to tell variants apart",
    )


class _Interval(_Range):
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> _Interval:
        low, high = self.bounds
        if not (isfinite(low) and isfinite(high)):
            raise ValueError("both ends must be finite numbers")
        if low > high:
            raise ValueError(f"the range is inverted: low {low:g} is above high {high:g}")
        if low == high:
            raise ValueError(f"the range is empty: low = high = {low:g}; write `{low:g}` to fix it")
        if self.log and low <= 0:
            raise ValueError(f"log: true needs low > 0, and low is {low:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        raise AssertionError


class FloatRange(_Interval):
    """Real numbers from low to high, both ends included."""

    type: Literal["float"] = "float"
    low: float
    high: float
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _log_or_step(self) -> FloatRange:
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


class IntRange(_Interval):
    """Whole numbers from low to high, both ends included."""

    type: Literal["int"] = "int"
    low: int
    high: int
    step: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _log_or_step(self) -> IntRange:
        if self.log and self.step != 1:
            raise ValueError("log and step exclude each other")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


class Choices(_Range):
    """One of the listed values."""

    type: Literal["categorical"] = "categorical"
    choices: list[Scalar] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Choices:
        if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("a choice is listed twice")
        return self


class Fixed(_Range):
    """Always this value: not a parameter of the study."""

    type: Literal["fixed"] = "fixed"
    value: Scalar


_AnyRange = FloatRange | IntRange | Choices | Fixed
Range = Annotated[_AnyRange, Field(discriminator="type")]
_Written = Scalar | list[Scalar] | _AnyRange | list[_AnyRange]


def _variants(knob: str, written: Any) -> Any:
    if isinstance(written, Mapping):
        return [_typed(knob, written)]
    if isinstance(written, list):
        if written and all(isinstance(item, Mapping) for item in written):
            return [_typed(knob, item) for item in written]
        return [{"type": "categorical", "choices": written}]
    if isinstance(written, Scalar):
        return [{"type": "fixed", "value": written}]
    return written


def _typed(knob: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """Name the type of a range that leaves it out: by its keys, or by what the knob holds."""
    if "type" in written:
        return dict(written)
    by_key = {"choices": "categorical", "value": "fixed"}
    named = next((kind for key, kind in by_key.items() if key in written), None)
    is_int = knob in knobs.KNOBS and knobs.kind(knob) is int
    return {"type": named or ("int" if is_int else "float")} | dict(written)


def _spelled_out(written: Any) -> Any:
    if not isinstance(written, Mapping):
        return written
    return {knob: _variants(str(knob), entry) for knob, entry in written.items()}


SearchSpace = Annotated[
    dict[KnobName, tuple[Range, ...]],
    BeforeValidator(_spelled_out, json_schema_input_type=dict[KnobName, _Written]),
]


def without(space: SearchSpace, gone: Collection[str]) -> SearchSpace:
    """Return a search space whose conditions speak of some backbones no more."""
    return {knob: tuple(_left(each, gone) for each in each_of) for knob, each_of in space.items()}


def _left(variant: Range, gone: Collection[str]) -> Range:
    written = variant.when.get("backbone", [])
    named = written if isinstance(written, list) else [written]
    kept = [name for name in named if name not in gone]
    if kept == named:
        return variant
    return variant.model_copy(update={"when": {**variant.when, "backbone": kept}})
