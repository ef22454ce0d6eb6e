"""How numbers become words: values, points, seconds, counts, names of knobs.

A *point* is a hundredth of a metric that is a share (accuracy, f1, …); of other metrics differences
are told in their own unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesvc.analysis.table import Estimate, Trials

NONE = "–"
COMMAND = re.compile(r"tunesvc [a-z-]+ [\w.+-]+")
_COMMAND_LAST = re.compile(COMMAND.pattern + "$")


def in_points(trials: Trials) -> bool:
    """Whether differences of the study's metric are told in points."""
    from tunesvc.analysis.scale import in_points as is_share  # a kept report needs no measures

    return is_share(trials.metric)


def scale(trials: Trials) -> float:
    """Return what differences of the metric are multiplied with to be told."""
    return 100.0 if in_points(trials) else 1.0


def unit(trials: Trials) -> str:
    """Return what such differences are counted in."""
    return "points" if in_points(trials) else trials.metric


def value(number: float) -> str:
    """Return a metric's value: 0.961, 1.73e-05, 12.4."""
    return NONE if not isfinite(number) else _plain(number, 3)


def difference(number: float, trials: Trials) -> str:
    """Return a difference of two values with its unit: "2.6 points", "0.031 loss"."""
    if not in_points(trials):
        return f"{_signed(number, '.3g')} {trials.metric}"
    told = _signed(100 * number, ".1f")
    return f"{told} point{'' if told in {'1.0', '−1.0'} else 's'}"


def rounded(number: float, trials: Trials) -> str:
    """Return a difference that is known exactly: "1 point", "2.5 points"."""
    if not in_points(trials):
        return difference(number, trials)
    return count_of(round(100 * number, 6), "point")


def an_hour(number: float, trials: Trials) -> str:
    """Return a gain per hour: "0.32 points an hour", "1,204 points an hour"."""
    return f"{_short(scale(trials) * number)} {unit(trials)} an hour"


def between(low: float, high: float, trials: Trials) -> str:
    """Return an interval of differences, without its unit: "0.4 to 4.1"."""
    scale, form = (100, ".1f") if in_points(trials) else (1, ".3g")
    return f"{_signed(scale * low, form)} to {_signed(scale * high, form)}"


def share(number: float) -> str:
    """Return a share in percent: "41 %"."""
    if isnan(number):
        return NONE
    return "less than 1 %" if 0 < number < 0.005 else f"{100 * number:.0f} %"


def share_of(found: Estimate) -> str:
    """Return a share with its interval: "41 % (30 to 52 %)"."""
    return f"{share(found.value)} ({100 * found.low:.0f} to {100 * found.high:.0f} %)"


def largest(number: float) -> str:
    """Return "at most 4 %", "less than 1 %"."""
    told = share(number)
    return told if told.startswith("less") else f"at most {told}"


def seconds(number: float) -> str:
    """Return a duration as people say it: "48 s", "3.2 min", "5.1 h"."""
    if isnan(number):
        return NONE
    if number < 100:
        return f"{_short(number)} s"
    return f"{_short(number / 60)} min" if number < 6000 else f"{_short(number / 3600)} h"


def count(number: int, noun: str) -> str:
    """Return "1 trial", "1,204 trials"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def sentence(words: str) -> str:
    """Return words with a capital first and a full stop: "Needs 40 finished trials, has 17."."""
    told = words.strip().rstrip(".")
    if _COMMAND_LAST.search(told):  # it would be taken for a part of the command
        return f"{told[:1].upper()}{told[1:]}"
    return f"{told[:1].upper()}{told[1:]}." if told else ""


def count_of(number: float, noun: str) -> str:
    """Return "1 point", "2.5 points"."""
    return f"{number:g} {noun}" + ("" if number == 1 else "s")


def row(items: Iterable[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def setting(number: Any) -> str:
    """Return a parameter's value: 0.0021, 3e-05, adamw, true."""
    if isinstance(number, bool):
        return "true" if number else "false"
    if isinstance(number, int | float):
        return NONE if isnan(number) else _plain(float(number), 2)
    return NONE if number is None else str(number)


def knob(name: str) -> str:
    """Return a parameter's name for people: `lr@full` is "lr (full)"."""
    first, at, branch = name.partition("@")
    return f"{first} ({branch})" if at else first


def in_branch(name: str, of_knob: str, branch: str) -> str:
    """Return a knob and the branch it belongs to: "lr (full)", "momentum (optimizer=sgd)"."""
    return f"{of_knob} ({branch})" if branch else knob(name)


def _plain(number: float, digits: int) -> str:
    if number == int(number) and abs(number) < 1e6:
        return f"{number:.0f}"
    if 1e-4 <= abs(number) < 1e6:
        return (
            f"{number:.{digits}f}"
            if digits == 3 and abs(number) >= 0.01
            else f"{number:.{digits}g}"
        )
    return f"{number:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e+")


def _short(number: float) -> str:
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}"


def _signed(number: float, form: str) -> str:
    """Return a number with a real minus, and zero without one."""
    told = f"{number:{form}}"
    return told.lstrip("-") if float(told) == 0 else told.replace("-", "−", 1)
