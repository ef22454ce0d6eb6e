"""Caps on what a model may cost: `latency_ms <= 3 and params_m <= 6`.

    caps    = cap { "and" cap }
    cap     = NAME sign NUMBER
    sign    = "<=" | "<" | ">=" | ">" | "=="

Units are in the names. Nothing is evaluated: what is not of this form is refused, with its place.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, cast

from tunesvc.errors import UnknownNameError, UsageError, suggest

Sign = Literal["<=", "<", ">=", ">", "=="]

_HOLDS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}
_SIGN = r"(?P<sign><=|>=|==|<|>)"
_NUMBER = r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_BOUND = re.compile(rf"\s*{_SIGN}\s*{_NUMBER}\s*")
_CAP = re.compile(rf"\s*(?P<name>[A-Za-z_]\w*)\s*{_SIGN}\s*{_NUMBER}(?![\w.])\s*")
_AND = re.compile(r"and\b", re.IGNORECASE)
_FORM = 'write NAME <= NUMBER, joined by "and": "latency_ms <= 3 and params_m <= 6"'


@dataclass(frozen=True)
class Cap:
    """One comparison of a named quantity with a number."""

    name: str
    sign: Sign
    value: float

    def holds(self, value: float) -> bool:
        """Whether a value satisfies it; NaN never does."""
        return bool(_HOLDS[self.sign](value, self.value))

    def __str__(self) -> str:
        """Return it as one writes it."""
        return f"{self.name} {self.sign} {self.value:.12g}"


def parse(text: str, known: Collection[str]) -> tuple[Cap, ...]:
    """Return the caps of an expression, in order.

    Raises:
        UsageError: it is not of this form.
        UnknownNameError: a name is not among the known ones.
    """
    found: list[Cap] = []
    place = 0
    while not found or place < len(text):
        if found:
            joint = _AND.match(text, place)
            if joint is None:
                raise _odd(text, place)
            place = joint.end()
        match = _CAP.match(text, place)
        if match is None:
            raise _odd(text, place)
        found.append(_made(match["name"], match, known))
        place = match.end()
    return tuple(found)


def cap(name: str, bound: str, known: Collection[str]) -> Cap:
    """Return the cap that a study file writes as `name: "<= 12"`.

    Raises:
        UsageError, UnknownNameError: as `parse`.
    """
    match = _BOUND.fullmatch(bound)
    if match is None:
        raise UsageError(
            f"{name}: {bound!r} is no bound", "it is a sign and a number", 'write e.g. "<= 12"'
        )
    return _made(name, match, known)


def _made(name: str, match: re.Match[str], known: Collection[str]) -> Cap:
    if name not in known:
        raise UnknownNameError(f"nothing called {name!r} is known of a trial", _names(name, known))
    return Cap(name, cast(Sign, match["sign"]), float(match["number"]))


def _names(wrong: str, known: Collection[str]) -> str:
    """Return the known names, all of them, the nearest first if one is near."""
    near, listed = suggest(wrong, known), f"known: {', '.join(sorted(known))}"
    return listed if near == listed else f"{near} {listed}"


def _odd(text: str, place: int) -> UsageError:
    rest = text[place:].strip()
    why = f"{rest!r} is not understood" if rest else "it ends where a comparison should stand"
    return UsageError(f"no condition: {text!r}", why, _FORM)
