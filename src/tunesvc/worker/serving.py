"""A worker's loop: until all is done, for ever, or until a signal comes."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from tunesvc import hostcache, interrupt, places, processes
from tunesvc.leases import Leases
from tunesvc.processes import LABEL
from tunesvc.storage import open_store, patiently
from tunesvc.storage.artifacts import open_artifacts
from tunesvc.train import Choice, Precision, place
from tunesvc.worker.served import Served
from tunesvc.worker.shift import Shift

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_SECONDS = 0.5  # between two looks for work
SILENT_SECONDS = 60.0  # so long may those looks pause; the list of workers has the same patience
_NICE = 10  # of the clerk: a tenth of a core where training wants all of them


def serve(
    storage: str | None,
    names: Sequence[str],
    *,
    device: str | None,
    until_done: bool,
    compiling: Choice = "auto",
    precision: Precision = "auto",
    on_trial: Callable[[str], None] = log.info,
) -> None:
    """Run trials of the named studies, or of all open ones, oldest study first.

    Args:
        names: study names; empty serves every open study, also those created later.
        until_done: return when the served studies are done, instead of waiting for more work.
        compiling: whether training steps are compiled: where it pays, everywhere, or nowhere.
        precision: what matrix products and convolutions are computed in, as `train.place` has it.
        on_trial: is given one line for each finished trial.

    Raises:
        TuneError: this machine cannot go on; a trial under way is left to be taken over.
        Stopped: a signal came; the trial under way was kept and given back.
    """
    placement, shelf = place(device, compiling, precision), open_artifacts(places.artifacts())
    hostcache.limit_bytes()  # a senseless TUNESVC_CACHE_GB is told now
    with open_store(storage) as store:
        leases = Leases(
            store.engine,
            device=str(placement.device),
            studies=names,
            label=os.environ.get(LABEL),
            revive=store.revive,
        )
        clerk = ThreadPoolExecutor(1, thread_name_prefix="clerk", initializer=_give_way)
        with closing(leases), clerk:
            served = Served(store, leases, names)
            shift = Shift(store, leases, shelf, placement, served, on_trial, clerk)
            try:
                _work(shift, until_done)
            finally:
                shift.sweep()
            served.leave()


def _work(shift: Shift, until_done: bool) -> None:
    while True:
        interrupt.check()
        found = _patiently(shift, shift.next)
        if found is not None:
            shift.run(found)
            continue
        if _patiently(shift, shift.served.is_dismissed):
            log.info("nothing is left to serve; this worker leaves")
            return
        if until_done and _patiently(shift, shift.served.is_done):
            return
        _patiently(shift, shift.served.tend)
        time.sleep(IDLE_SECONDS)


def _patiently(shift: Shift, act: Callable[[], T]) -> T:
    """Do something between two trials, however long Postgres is away; show life meanwhile."""

    def alive(_seconds: float = 0.0) -> None:
        processes.pulse(SILENT_SECONDS)

    alive()
    return patiently(act, revive=shift.store.revive, on_wait=alive)


def _give_way() -> None:
    """Let training go first, in the calling thread.

    Why: 2026-11: on the CPU every core computes a part of each operation, and all wait for the one
    that writes a checkpoint instead.
    """
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
