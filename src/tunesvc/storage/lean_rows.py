"""One row of a statement → one of Optuna's trials; what many trials have in common is shared."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.trial import FrozenTrial, TrialState

_STATES = {state.name: state for state in TrialState}
_JSON = json.JSONDecoder()


@dataclass(frozen=True)
class _Drawn:
    """The parameters of all trials that drew the same ones from the same distributions."""

    distributions: dict[str, BaseDistribution]
    outside: dict[str, Callable[[float], Any]]  # from Optuna's number, where it is not the value

    def params(self, text: str) -> dict[str, Any]:
        """Return a trial's parameters from the numbers that Optuna stores, one after another."""
        values: dict[str, Any] = dict(zip(self.distributions, _numbers(text), strict=True))
        for name, of in self.outside.items():
            values[name] = of(values[name])
        return values


@lru_cache(maxsize=4096)
def _drawn(text: str) -> _Drawn:
    """Parse name, distribution, name, distribution, … written as JSON one after another."""
    distributions, at = {}, 0
    while at < len(text):
        name, begin = _JSON.raw_decode(text, at)
        _, at = _JSON.raw_decode(text, begin)
        distributions[sys.intern(name)] = _distribution(text[begin:at])
    kinds = {name: _outside(each) for name, each in distributions.items()}
    return _Drawn(distributions, {name: of for name, of in kinds.items() if of is not None})


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _outside(distribution: BaseDistribution) -> Callable[[float], Any] | None:
    if type(distribution) is FloatDistribution:
        return None
    if type(distribution) is IntDistribution:
        return int
    return distribution.to_external_repr


def trial(row: Sequence[Any], *, shared: bool = False) -> FrozenTrial:
    """Return the trial of a row of `lean_sql`'s trials.

    Args:
        shared: finished trials that drew the same parameters share one dict of distributions, which
            nobody may change. One that goes on has its own: Optuna's `Trial` adds to it.
    """
    (
        trial_id, number, state_name, start, complete, values, drawn_text, drawn_numbers,
        steps, reported,
        system_keys, system_texts, user_keys, user_texts, _,
    ) = row  # fmt: skip
    state = _STATES[state_name]
    drawn = _drawn(drawn_text or "")
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        values=values,
        datetime_start=_local(start),
        datetime_complete=_local(complete),
        params=drawn.params(drawn_numbers or ""),
        distributions=(
            drawn.distributions if shared and state.is_finished() else drawn.distributions.copy()
        ),
        user_attrs=attributes(user_keys, user_texts) if user_keys else {},
        system_attrs=attributes(system_keys, system_texts) if system_keys else {},
        intermediate_values=dict(zip(_steps(steps), _numbers(reported), strict=True))
        if steps
        else {},
        trial_id=trial_id,
    )


def copied(of: FrozenTrial) -> FrozenTrial:
    """Return a copy that shares nothing which can be changed."""
    return FrozenTrial(
        number=of.number,
        state=of.state,
        value=None,
        values=of.values,
        datetime_start=of.datetime_start,
        datetime_complete=of.datetime_complete,
        params=of.params.copy(),
        distributions=of.distributions.copy(),
        user_attrs=copy.deepcopy(of.user_attrs),
        system_attrs=copy.deepcopy(of.system_attrs),
        intermediate_values=of.intermediate_values.copy(),
        trial_id=of._trial_id,
    )


def attributes(keys: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    """Return attributes, which Optuna stores as JSON."""
    return {sys.intern(key): _JSON.decode(text) for key, text in zip(keys, texts, strict=True)}


def _reported(steps: str, values: str) -> dict[int, float]:
    return dict(zip(_steps(steps), _numbers(values), strict=True))


@lru_cache(maxsize=4096)
def _steps(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


def _numbers(text: str) -> Iterator[float]:
    return map(float, text.split())


def _local(seconds: float | None) -> datetime | None:
    """Return a time as Optuna shows it: this machine's, without a zone; stored to microseconds."""
    return None if seconds is None else datetime.fromtimestamp(seconds)
