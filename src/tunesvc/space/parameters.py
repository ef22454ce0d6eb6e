"""One range of one knob as Optuna sees it: a parameter, or a constant where nothing is searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isclose
from typing import Any, TypeGuard

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial
from pydantic import ValidationError

from tunesvc.errors import SpecError, UsageError
from tunesvc.spec import Choices, Fixed, FloatRange, IntRange, Range, Scalar, knobs

When = Mapping[str, tuple[Scalar, ...]]


@dataclass(frozen=True)
class Constant:
    """A knob that has one value wherever `when` holds."""

    knob: str
    value: Scalar
    when: When


@dataclass(frozen=True)
class Parameter:
    """A parameter of the Optuna study; suggested only where `when` holds."""

    name: str
    knob: str
    distribution: BaseDistribution
    when: When

    def suggest(self, trial: BaseTrial) -> Scalar:
        """Ask a trial for a value; a trial that has one already answers with that one."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_float(self.name, low, high, log=log, step=step)
            case IntDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_int(self.name, low, high, log=log, step=step)
            case CategoricalDistribution(choices=choices):
                value: Scalar = trial.suggest_categorical(self.name, choices)  # type: ignore[assignment]
                return value
        raise AssertionError(self.distribution)

    def nearest(self, value: Any) -> Scalar:
        """Return the value of this parameter that lies nearest; the first where none is near."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                near: Scalar = _nearest_choice(choices, value)
                return near
            case (
                FloatDistribution(low=low, high=high, step=step)
                | IntDistribution(low=low, high=high, step=step)
            ):
                inside = min(max(value, low), high)
                return _step(low, high, step, (inside - low) / step) if step else inside
        raise AssertionError(self.distribution)

    def largest(self) -> Any:
        """Return the largest value of a knob whose values have an order."""
        if isinstance(self.distribution, CategoricalDistribution):
            return max(self.distribution.choices)  # type: ignore[type-var]
        return self.nearest(float("inf"))

    def in_words(self) -> str:
        """Return the values for a person: `0.001 … 0.1 (log)`, or `choices: sgd, adam`."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return "choices: " + ", ".join(
                    str(c).lower() if isinstance(c, bool) else str(c) for c in choices
                )
            case FloatDistribution(log=True) | IntDistribution(log=True):
                step = " (log)"
            case FloatDistribution(step=float(each)) | IntDistribution(step=each) if each != 1:
                step = f" (in steps of {each:g})"
            case _:
                step = ""
        low, high = self.nearest(float("-inf")), self.nearest(float("inf"))
        return f"{low:g} … {high:g}{step}"

    def holds(self, value: Any) -> bool:
        """Tell whether this parameter can have this value."""
        near = self.nearest(value)
        if isinstance(value, float):
            return isclose(float(near), value, rel_tol=1e-9)
        return bool(near == value)

    def values(self) -> list[Scalar]:
        """Return all values, in order.

        Raises:
            UsageError: there is no end of them.
        """
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return list(choices)  # type: ignore[arg-type]
            case (
                FloatDistribution(low=low, high=high, step=float(step))
                | IntDistribution(low=low, high=high, step=step)
            ):
                last = round((high - low) / step)
                return [_step(low, high, step, index) for index in range(last + 1)]
        raise UsageError(
            f"search_space.{self.knob}: a grid needs finitely many values",
            f"{self.name} is a range of real numbers without a step",
            "give it a `step`, list its values, or choose another sampler",
        )


def _step(low: float, high: float, step: float, index: float) -> float:
    return min(low + round(index) * step, high)  # 0.1 + 2 × 0.1 is above 0.3, and Optuna warns


def _nearest_choice(choices: tuple[Any, ...], value: Any) -> Any:
    if value in choices or isinstance(value, str | bool):
        return value if value in choices else choices[0]
    return min(choices, key=lambda choice: abs(choice - value))


def is_constant(written: Range) -> TypeGuard[Fixed | Choices]:
    """Tell whether a range holds only one value."""
    return isinstance(written, Fixed) or (
        isinstance(written, Choices) and len(written.choices) == 1
    )


def constant(knob: str, written: Range, path: str) -> Scalar | None:
    """Return the value of a range that holds only one, else None.

    Raises:
        SpecError: the knob cannot have this value.
    """
    if not is_constant(written):
        return None
    value = written.value if isinstance(written, Fixed) else written.choices[0]
    return checked(knob, value, path)


def distribution(knob: str, written: Range, path: str) -> BaseDistribution:
    """Return Optuna's form of a range.

    Raises:
        SpecError: the knob cannot have some of these values.
    """
    if isinstance(written, Choices):
        choices = [checked(knob, choice, path) for choice in written.choices]
        return CategoricalDistribution(tuple(dict.fromkeys(choices)))
    if isinstance(written, Fixed):
        raise AssertionError(written)
    for end in (written.low, written.high):
        checked(knob, end, path)
    high = _last(written, path)
    if isinstance(written, IntRange):
        return IntDistribution(written.low, int(high), written.log, written.step)
    return FloatDistribution(written.low, float(high), written.log, written.step)


def _last(written: FloatRange | IntRange, path: str) -> float:
    """Return the last value that whole steps from low reach: Optuna warns of any other end."""
    if written.step is None or written.step == 1:
        return written.high
    low, high, step = (Decimal(str(x)) for x in (written.low, written.high, written.step))
    if step > high - low:
        raise SpecError(
            f"{path}: the step {written.step:g} is wider than the range",
            "only `low` could ever be drawn",
            "make the step smaller",
        )
    return float(low + (high - low) // step * step)


def checked(knob: str, value: Any, path: str) -> Scalar:
    """Return the value as the knob holds it.

    Raises:
        SpecError: the knob cannot have this value.
    """
    try:
        result: Scalar = knobs.check(knob, value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Input ").removeprefix("should ")
        raise SpecError(
            f"{path}: {knob} cannot be {value!r}", f"it must {message[0].lower()}{message[1:]}"
        ) from error
    return result
