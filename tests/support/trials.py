"""Trials of a study run one by one, each in a worker of its own; `pythonpath` finds this file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from optuna.trial import FrozenTrial

from tunesvc import train
from tunesvc.leases import Leases
from tunesvc.trial import AtOnce, Attempt, Desk, run, sweep

CPU = train.place("cpu")

Tick = Callable[[], None]


def run_next(desk: Desk) -> Any:
    """Claim and run one trial; None where there is none, or where it goes on elsewhere."""
    with closing(Leases(desk.study.store.engine)) as leases:
        lease = leases.claim(desk.study.id, desk.terms)
        if not lease:
            return None
        try:
            return run(Attempt(desk, lease, CPU, leases, AtOnce()))
        finally:
            leases.release(lease)
            sweep(desk)  # as a worker does that finds no more work


def trial(desk: Desk, number: int = 0) -> FrozenTrial:
    """Read a trial as anybody would, from the database."""
    return desk.study.store.fresh().get_all_trials(desk.study.id)[number]
