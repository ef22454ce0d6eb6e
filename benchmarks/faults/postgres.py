"""Postgres restarted under the workers, in both ways that it can go down."""

from __future__ import annotations

import time

from faults.bench import FINISH_SECONDS, Bench
from faults.ours import Ours
from faults.plain import Plain
from faults.signals import WORKERS
from faults.tally import Tally
from faults.workers import fleet

EVERY_SECONDS = 3.0


def restarted(bench: Bench, side: Ours | Plain) -> Tally:
    """Restart Postgres every few seconds: fast, immediate, fast, …"""
    restarts = 0
    with fleet(side, WORKERS) as workers:
        time.sleep(EVERY_SECONDS / 2)
        while restarts < bench.sizes.restarts and not side.is_done():
            bench.ground.restart_server(("fast", "immediate")[restarts % 2])
            restarts += 1
            workers.tend()
            time.sleep(EVERY_SECONDS)
            workers.tend()
        ended = workers.finish(FINISH_SECONDS)
    return bench.count(side, workers, ended=ended, note=f"{restarts} restarts")
