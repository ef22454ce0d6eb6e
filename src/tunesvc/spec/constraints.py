"""What a trial's model may cost: the study file's `constraints`.

    x       what a trial has of the quantity that a cap c is on
    excess  (x - c) / |c| under `<=` and `<`, (c - x) / |c| under `>=` and `>`, |x - c| / |c| under
            `==`; 1 in place of |c| where the cap is 0. The cap holds where it is at most 0

Why: 2026-11: excess is relative, since caps have units of their own, and samplers add excesses up:
1 ms on a cap of 3 ms is more than 1 MiB on one of 200. As in `analysis.feasible`.

Why: 2026-11: what nobody can tell of a model (a plugin's that does not run on "meta", say) breaks
the cap on it, by 1: a cap is a promise about every trial that counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)

from tunesvc.errors import UsageError
from tunesvc.spec.caps import Cap, cap
from tunesvc.spec.model import Model

UNKNOWN = 1.0  # the excess of what cannot be told
_LEAST = 1e-9  # of a cap that does not hold: `<` at its very bound


def _bound(written: Any, info: ValidationInfo) -> str | None:
    """Return a bound as it is kept, `<= 12`."""
    if written is None:
        return None
    name = str(info.field_name)
    try:
        made = cap(name, str(written), (name,))
    except UsageError as error:
        raise ValueError(f'must be a bound such as "<= 12", and is {written!r}') from error
    if not math.isfinite(made.value):
        raise ValueError(f'must be a bound such as "<= 12", and is {written!r}')
    return str(made).removeprefix(f"{name} ")


_Bound = Annotated[str | None, BeforeValidator(_bound, json_schema_input_type=str)]


class Constraints(Model):
    """Caps on what a trial's model costs; a trial that breaks one is not trained.

    MiB are 2**20 bytes; `tunesvc cost` measures the same quantities without a study.
    """

    params_m: _Bound = Field(None, description='parameters in 1e6: "<= 12"')
    trainable_m: _Bound = Field(None, description="those that some epoch trains, in 1e6")
    flops_g: _Bound = Field(
        None, description="operations of one image's forward pass in 1e9; a multiply-add is two"
    )
    size_mb: _Bound = Field(None, description="length of the model's file in float32, MiB")
    latency_ms: _Bound = Field(
        None, description="median of one image's inference on the worker's device, ms"
    )
    latency_p95_ms: _Bound = Field(None, description="its 95th percentile, ms")
    infer_memory_mb: _Bound = Field(None, description="peak of one image's inference, MiB")
    train_memory_mb: _Bound = Field(
        None, description="peak of a training step, MiB: measured on CUDA, else reckoned"
    )
    epoch_seconds: _Bound = Field(None, description="of one epoch with its evaluation, s")

    @model_serializer(mode="wrap")
    def _given(self, dump: SerializerFunctionWrapHandler) -> dict[str, str]:
        """Write down what is given, and nothing else: names that come later change no digest."""
        return {name: bound for name, bound in dump(self).items() if bound is not None}

    @property
    def caps(self) -> tuple[Cap, ...]:
        """The caps, in the order of this page."""
        return tuple(cap(name, bound, NAMES) for name, bound in self._bounds())

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(True for _ in self._bounds())

    def _bounds(self) -> Iterator[tuple[str, str]]:
        for name in NAMES:
            if (bound := getattr(self, name)) is not None:
                yield name, bound


NAMES = tuple(Constraints.model_fields)


def excess(bound: Cap, value: float | None) -> float:
    """Return by how much a value breaks a cap, relative to it; at most 0 where the cap holds."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    over = value - bound.value
    signed = {"<": over, ">": -over}.get(bound.sign[0], abs(over)) / (abs(bound.value) or 1.0)
    return min(signed, 0.0) if bound.holds(value) else max(signed, _LEAST)


def told(bound: Cap, value: float | None) -> str:
    """Return how a value stands to a cap that it breaks: `params_m <= 12: 23.5`."""
    return f"{bound}: {'not known' if value is None else f'{value:.4g}'}"


def broken(caps: tuple[Cap, ...], values: Mapping[str, float | None]) -> tuple[Cap, ...]:
    """Return the caps that the values break, of those on quantities that are among them."""
    return tuple(c for c in caps if c.name in values and excess(c, values[c.name]) > 0)
