"""The best trial that fits: selection under caps, afterwards, from trials that are there.

    x_i     what trial i has of the quantity that cap i is on; a trial that lacks one is left out
    fits    every cap holds
    excess  of a cap, for a trial that breaks it: |x - cap| / |cap|; |x| where the cap is 0

Of the trials that fit, the *front* are those that no other beats: as good or better in the
objective and in every capped quantity, and better in one of them. A quantity under `<=` or `<` is
better if smaller, under `>=` or `>` if larger; between two caps neither is. Of equals, the
earliest is on it. The *best* is the first of the front: of the best objective, then of the better
quantities in the order of the caps.

Where none fits, each cap by itself is loosened until one trial fits that satisfies all others: that
of the least loosening, the best of equals. The cap of the least excess is *nearest*. Where no trial
satisfies all caps but one, that trial is told whose largest excess is least, with every cap that
it breaks.

Why: 2026-11: excess is relative, since caps have units of their own: 1 ms on a cap of 3 ms is more
than 1 MiB on one of 200.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor, log10, nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunesvc.analysis.front import front
from tunesvc.analysis.table import Trials
from tunesvc.spec.caps import Cap

Array = NDArray[np.float64]

# name → column of the table, and what it is divided by
COSTS: dict[str, tuple[str, float]] = {
    "params_m": ("parameters", 1e6),
    "trainable_m": ("trainable", 1e6),
    "flops_g": ("gflops", 1.0),
    "size_mb": ("size_mb", 1.0),
    "size_bf16_mb": ("size_bf16_mb", 1.0),
    "size_int8_mb": ("size_int8_mb", 1.0),
    "latency_ms": ("latency_ms", 1.0),
    "latency_p95_ms": ("latency_p95_ms", 1.0),
    "batch_latency_ms": ("batch_latency_ms", 1.0),
    "batch_latency_p95_ms": ("batch_latency_p95_ms", 1.0),
    "images_per_second": ("images_per_second", 1.0),
    "energy_j": ("energy_j", 1.0),
    "infer_memory_mb": ("infer_memory_mb", 1.0),
    "train_memory_mb": ("memory_mb", 1.0),
    "epoch_seconds": ("epoch_seconds", 1.0),
    "seconds": ("seconds", 1.0),
}
RATES = ("images_per_second",)  # the better the larger
_TIMED = {  # those that hang on the device → whether nobody disturbed them
    "latency_ms": "latency_quiet",
    "latency_p95_ms": "latency_quiet",
    "batch_latency_ms": "batch_quiet",
    "batch_latency_p95_ms": "batch_quiet",
    "images_per_second": "batch_quiet",
}
_METRIC, _OBJECTIVE = "metric:", "objective:"
_DIGITS = 4  # of a loosened cap


@dataclass(frozen=True)
class Fit:
    """One finished trial.

    Args:
        value: objective.
        told: what it has of each capped quantity.
    """

    trial: int
    backbone: str
    strategy: str
    value: float
    told: Mapping[str, float]


@dataclass(frozen=True)
class Loosening:
    """What would let a trial fit.

    Args:
        instead: caps that it satisfies, in place of those that it breaks; one, unless no trial
            satisfies all others.
        excess: the largest, relative.
    """

    fit: Fit
    instead: tuple[Cap, ...]
    excess: float


@dataclass(frozen=True)
class Feasible:
    """Which finished trials keep within caps.

    Args:
        best: of those that fit; None where none does.
        front: best first.
        fits: how many.
        finished: trials that ran to their end.
        unknown: quantity → finished trials that lack it.
        left_out: finished trials that lack any.
        nearest: where none fits: one for each cap that alone would have to give way, or one for
            several together; the least excess first.
        measured_on: devices that the latencies among them were measured on; empty where no cap is
            on a latency.
        disturbed: trials whose latency is too high, since others had the cores; likewise.
    """

    caps: tuple[Cap, ...]
    best: Fit | None
    front: tuple[Fit, ...]
    fits: int
    finished: int
    unknown: Mapping[str, int]
    left_out: int
    nearest: tuple[Loosening, ...]
    measured_on: tuple[str, ...]
    disturbed: int

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {
            "caps": [str(cap) for cap in self.caps],
            "nearest": [
                asdict(each) | {"instead": [str(cap) for cap in each.instead]}
                for each in self.nearest
            ],
        }


def known(trials: Trials) -> tuple[str, ...]:
    """Return the names that a cap may be on: costs, and the task's metrics."""
    columns = [str(name) for name in trials.frame.columns]
    metrics = [name.removeprefix(_METRIC) for name in columns if name.startswith(_METRIC)]
    return tuple(dict.fromkeys([*COSTS, *metrics]))


def feasible(trials: Trials, caps: Sequence[Cap]) -> Feasible:
    """Return which finished trials keep within caps, the best of them, and what else would.

    Args:
        caps: on `known` names.
    """
    finished = trials.complete  # a study's own constraints are none of the caps asked for
    names = tuple(dict.fromkeys(cap.name for cap in caps))
    told = quantities(finished, names)
    is_told = np.isfinite(told.to_numpy(float)).all(axis=1)
    seen = _Seen(trials, finished[is_told], told[is_told], tuple(caps))
    rows = _rows(seen.holds)
    best = tuple(seen.fit(row) for row in _front(seen, rows))
    return Feasible(
        caps=seen.caps,
        best=best[0] if best else None,
        front=best,
        fits=len(rows),
        finished=len(finished),
        unknown=_unknown(told),
        left_out=int((~is_told).sum()),
        nearest=() if best else _nearest(seen),
        measured_on=devices(seen.frame, names),
        disturbed=_disturbed(seen, names),
    )


def quantities(finished: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a column for each name of a cost, a metric, or an objective as it was told."""
    columns = {}
    for name in names:
        column, by = COSTS.get(name, (f"{_METRIC}{name}", 1.0))
        if f"{_OBJECTIVE}{name}" in finished:
            column, by = f"{_OBJECTIVE}{name}", 1.0
        columns[name] = finished[column].to_numpy(float) / by if column in finished else nan
    return pd.DataFrame(columns, index=finished.index)


def _unknown(told: pd.DataFrame) -> dict[str, int]:
    counts = {str(name): int((~np.isfinite(told[name].to_numpy(float))).sum()) for name in told}
    return {name: count for name, count in counts.items() if count}


class _Seen:
    """Finished trials whose capped quantities are all known; rows count from 0."""

    def __init__(
        self, trials: Trials, frame: pd.DataFrame, told: pd.DataFrame, caps: tuple[Cap, ...]
    ) -> None:
        self.frame, self.told, self.caps = frame, told, caps
        self.scores: Array = trials.sign * frame["value"].to_numpy(float)
        self.holds = np.array(
            [[cap.holds(value) for value in told[cap.name]] for cap in caps], bool
        ).reshape(len(caps), len(frame)).T  # fmt: skip

    def place(self, row: int) -> tuple[float, int]:
        """Return what rows are sorted by: the best first, of equals the earliest."""
        return -float(self.scores[row]), int(self.frame.index[row])

    def fit(self, row: int) -> Fit:
        own = self.frame.iloc[row]
        told = {str(name): float(self.told[name].iloc[row]) for name in self.told}
        number = int(self.frame.index[row])
        return Fit(number, str(own["backbone"]), str(own["strategy"]), float(own["value"]), told)

    def excess(self, row: int, cap: Cap) -> float:
        value = float(self.told[cap.name].iloc[row])
        return 0.0 if cap.holds(value) else abs(value - cap.value) / (abs(cap.value) or 1.0)


def _rows(holds: NDArray[np.bool_]) -> list[int]:
    """Return the rows in which everything holds."""
    return [int(row) for row in np.flatnonzero(holds.all(axis=1))]


def _front(seen: _Seen, rows: Iterable[int]) -> list[int]:
    """Return the rows that no other beats: the best first, of equals the earliest."""
    goods = [
        seen.told[cap.name].to_numpy(float) * (-1 if "<" in cap.sign else 1) for cap in seen.caps
    ]
    points: Array = np.stack([seen.scores, *goods], axis=1)  # (trials, 1 + caps), larger is better
    chosen = sorted(rows)
    return [chosen[place] for place in front(points[chosen])]


def _nearest(seen: _Seen) -> tuple[Loosening, ...]:
    singly = [
        _loosened(seen, min(rows, key=lambda row: (seen.excess(row, cap), *seen.place(row))))
        for index, cap in enumerate(seen.caps)
        if (rows := _rows(np.delete(seen.holds, index, axis=1)))
    ]
    if not singly and len(seen.frame):
        singly = [_loosened(seen, min(range(len(seen.frame)), key=lambda r: _worst(seen, r)))]
    return tuple(sorted(singly, key=lambda each: each.excess))


def _worst(seen: _Seen, row: int) -> tuple[float, float, int]:
    return max(seen.excess(row, cap) for cap in seen.caps), *seen.place(row)


def _loosened(seen: _Seen, row: int) -> Loosening:
    fit = seen.fit(row)
    broken = [cap for cap in seen.caps if not cap.holds(fit.told[cap.name])]
    instead = tuple(raised(cap, fit.told[cap.name]) for cap in broken)
    return Loosening(fit, instead, max(seen.excess(row, cap) for cap in broken))


def raised(cap: Cap, value: float) -> Cap:
    """Return the cap that lets a value in, by a number that a person can type."""
    step = 10.0 ** (floor(log10(abs(value))) + 1 - _DIGITS) if value else 10.0**-_DIGITS
    outward = {"<=": ceil, "<": ceil, ">=": floor, ">": floor}.get(cap.sign)
    if outward is None:
        return Cap(cap.name, cap.sign, value)
    bound = float(f"{outward(value / step) * step:.{_DIGITS + 2}g}")
    raised = Cap(cap.name, cap.sign, bound)
    further = float(f"{bound + (step if outward is ceil else -step):.{_DIGITS + 2}g}")
    return raised if raised.holds(value) else Cap(cap.name, cap.sign, further)


def devices(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Return the devices that trials' latencies were measured on, if one is among the names."""
    if _TIMED.keys().isdisjoint(names) or "latency_on" not in frame:
        return ()
    return tuple(sorted({str(each) for each in frame["latency_on"] if each}))


def _disturbed(seen: _Seen, names: Sequence[str]) -> int:
    columns = {_TIMED[name] for name in names if name in _TIMED} & set(seen.frame.columns)
    return int((~seen.frame[sorted(columns)].astype(bool)).any(axis=1).sum()) if columns else 0
