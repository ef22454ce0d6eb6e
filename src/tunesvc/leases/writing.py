"""Writes of leased trials: one statement, one transaction, for one trial or for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from tunesvc import trips
from tunesvc.leases import sql


@dataclass(frozen=True)
class Answer:
    """What became of one trial's write.

    Args:
        stored_at: when, by the server's clock (UTC, as Optuna stores it); None: the lease is lost.
        rungs: step → trial number → value, of trials that were not known to be finished; None:
            nothing was asked, or too much would have to be read.
    """

    stored_at: datetime | None
    rungs: Mapping[int, Mapping[int, float]] | None


def write(engine: Engine, said: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Write of several trials, each under its own lease: of those that are held all, or nothing.

    Args:
        said: the arguments of `sql.write` for each trial; ordered by the trial's id, as all
            statements lock the leases of several trials.
    """
    values = {f"{name}_{n}": value for n, each in enumerate(said) for name, value in each.items()}
    with trips.alone(engine) as connection:
        rows = connection.execute(sql.write(len(said)), values).all()
    return [Answer(row.stored_at, _by_step(row)) for row in rows]


def _by_step(row: Any) -> dict[int, dict[int, float]] | None:
    if row.rung_steps is None:
        return None
    found: dict[int, dict[int, float]] = {}
    for step, number, value in zip(row.rung_steps, row.rung_numbers, row.rung_values, strict=True):
        found.setdefault(step, {})[number] = value
    return found
