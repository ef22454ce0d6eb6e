"""Worker processes with their own process id, session and log; started, hurt, replaced.

Why: 2026-11: they are forked from a server process that has imported torch once. Each is up in a
tenth of a second instead of three, and is otherwise a process like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tunesvc.worker", "tunesvc.cli.app", "alembic.command", "torchmetrics", "torchvision"]
)

LEAVING_SECONDS = 30.0  # after which a worker that was asked to leave is killed


class Side(Protocol):
    """Who does the work: tunesvc, or plain Optuna."""

    @property
    def log(self) -> Path:
        """What its workers print."""
        ...

    def work(self) -> None:
        """Be one worker, in its own process, until there is nothing left to do."""
        ...

    def is_at_work(self, pid: int) -> bool:
        """Whether a live worker listens to signals already."""
        ...

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        ...


@dataclass(frozen=True)
class Tweak:
    """What is odd about one worker's surroundings."""

    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None  # called in its process, before it works


@dataclass
class Worker:
    """One process."""

    process: BaseProcess
    tweak: Tweak
    hurt: bool = False  # by us: its death is no news

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


@dataclass
class Fleet:
    """Some workers of one side; `deaths` are those that nobody killed."""

    side: Side
    workers: list[Worker] = field(default_factory=list)
    deaths: list[int] = field(default_factory=list)  # exit codes

    def start(self, tweak: Tweak | None = None) -> Worker:
        """Start one more."""
        tweak = tweak or Tweak()
        process = PROCESSES.Process(target=_be, args=(self.side, tweak))
        process.start()
        self.workers.append(Worker(process, tweak))
        return self.workers[-1]

    def kill(self, worker: Worker) -> None:
        """`kill -9`."""
        worker.hurt = True
        worker.process.kill()
        worker.process.join()

    def ask(self, worker: Worker) -> tuple[int, float]:
        """SIGTERM; return its exit code and the seconds it took to leave."""
        worker.hurt = True
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        worker.process.join(LEAVING_SECONDS)
        if worker.process.exitcode is None:
            self.kill(worker)
        code = worker.process.exitcode
        assert code is not None
        return code, time.monotonic() - began

    def any(self) -> Worker | None:
        """Return a random worker that is at work."""
        alive = (worker for worker in self.workers if worker.process.is_alive())
        at_work = [worker for worker in alive if self.side.is_at_work(worker.pid)]
        return random.choice(at_work) if at_work else None

    def tend(self) -> None:
        """Replace the dead while there is something to do."""
        for worker in [w for w in self.workers if not w.process.is_alive()]:
            self.workers.remove(worker)
            code = worker.process.exitcode or 0
            if code and not worker.hurt:
                self.deaths.append(code)
            if (code or worker.hurt) and not self.side.is_done():
                self.start(worker.tweak)

    def finish(self, seconds: float) -> bool:
        """Tend the workers until all have left; False if they have not by then."""
        deadline = time.monotonic() + seconds
        while self.workers and time.monotonic() < deadline:
            self.tend()
            time.sleep(0.1)
        return not self.workers

    def end(self) -> None:
        """Kill whoever is left."""
        for worker in self.workers:
            self.kill(worker)
        self.workers.clear()


@contextmanager
def fleet(side: Side, count: int, tweaks: Mapping[int, Tweak] | None = None) -> Iterator[Fleet]:
    """Have so many workers; none is left behind."""
    made = Fleet(side)
    try:
        for index in range(count):
            made.start((tweaks or {}).get(index))
        yield made
    finally:
        made.end()


def _be(side: Side, tweak: Tweak) -> None:
    os.setsid()  # out of reach of the terminal's Ctrl-C
    os.environ.update(tweak.environment)
    time.tzset()
    log = os.open(side.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import torch

    torch.set_num_threads(1)
    if tweak.before is not None:
        tweak.before()
    try:
        side.work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def until(holds: Callable[[], bool], seconds: float, step: float = 0.05) -> bool:
    """Wait until something holds; False if it does not by then."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True
