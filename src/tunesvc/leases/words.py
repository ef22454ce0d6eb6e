"""What there is to say of a trial, as the arguments of `sql.write`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState

_NO_RUNG = {"rungs": [], "generation": 0, "first": 0, "known": [], "unfinished": [], "most": 0}


@dataclass(frozen=True)
class Word:
    """What there is to say of a trial.

    Args:
        steps: the values after epochs.
        attributes: those of the user.
        epoch: so many are finished and kept, with a value or without; steps tell it too.
        is_begun: its holder works on it; one that was claimed ahead may still wait for its turn.
        state: how it ended; None: it goes on.
        values: what it came to.
    """

    steps: Mapping[int, float] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    is_begun: bool = True
    state: TrialState | None = None
    values: Sequence[float] = ()

    def arguments(self) -> dict[str, Any]:
        """Return it as arguments, without parameters and system attributes."""
        said = attributes("user", self.attributes) | steps(self.steps)
        said |= {"epochs": self.epoch, "begun": self.is_begun}
        return said | end(self.state, self.values) | _NO_RUNG


def params(drawn: Mapping[str, tuple[float, BaseDistribution]]) -> dict[str, Any]:
    """Return parameters: internal values, and what they were drawn from."""
    return {
        "names": list(drawn),
        "drawn": [float(value) for value, _ in drawn.values()],
        "distributions": [distribution_to_json(kind) for _, kind in drawn.values()],
    }


def attributes(whose: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `user` or the `system` attributes."""
    values = [json.dumps(value) for value in known.values()]
    return {f"{whose}_keys": list(known), f"{whose}_values": values}


def steps(reported: Mapping[int, float]) -> dict[str, Any]:
    """Return the values after steps."""
    values, kinds = _numbers(list(reported.values()))
    return {"steps": list(reported), "step_values": values, "step_kinds": kinds}


def end(state: TrialState | None, values: Sequence[float]) -> dict[str, Any]:
    """Return how the trial ended; no state: it goes on."""
    numbers, kinds = _numbers(values)
    return {"state": state and state.name, "values": numbers, "kinds": kinds}


def _numbers(values: Sequence[float]) -> tuple[list[float | None], list[str]]:
    """Return numbers as Optuna stores them: what is not finite is a kind without a value."""
    finite = [float(value) if math.isfinite(value) else None for value in values]
    return finite, [_kind(value) for value in values]


def _kind(value: float) -> str:
    if math.isfinite(value):
        return "FINITE"
    if math.isnan(value):
        return "NAN"
    return "INF_POS" if value > 0 else "INF_NEG"


def last(reported: Mapping[int, float]) -> float | None:
    """Return the last step's value; None if there is none, or it is not a number."""
    value = reported[max(reported)] if reported else math.nan
    return None if math.isnan(value) else value
