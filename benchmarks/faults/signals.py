"""Workers killed, asked to leave, frozen."""

from __future__ import annotations

import signal
import time
from typing import Any

from faults import journal
from faults.bench import FINISH_SECONDS, Bench
from faults.ours import Ours
from faults.plain import Plain
from faults.tally import Tally
from faults.tweaks import Slow
from faults.workers import Fleet, Tweak, Worker, fleet, until

WORKERS = 4
LEAVE_SECONDS = 10.0  # a worker that is asked leaves within
STEPS_AFTER = 8  # a frozen worker may take on a busy machine until it has asked for its lease


def killed(bench: Bench, side: Ours | Plain) -> Tally:
    """`kill -9` a random one of four workers, again and again."""
    kills = 0
    with fleet(side, WORKERS) as workers:
        while kills < bench.sizes.kills and not side.is_done():
            _tended_sleep(workers, bench.sizes.kill_seconds)
            victim = workers.any()
            if victim and not side.is_done():
                workers.kill(victim)
                kills += 1
        ended = workers.finish(FINISH_SECONDS)
    return bench.count(side, workers, ended=ended, kills=kills)


def asked(bench: Bench, side: Ours | Plain) -> Tally:
    """SIGTERM a random one of four workers, again and again; a kill is none of it."""
    left: list[tuple[int, float]] = []
    with fleet(side, WORKERS) as workers:
        while len(left) < bench.sizes.kills and not side.is_done():
            _tended_sleep(workers, bench.sizes.kill_seconds)
            victim = workers.any()
            if victim and not side.is_done():
                left.append(workers.ask(victim))
        ended = workers.finish(FINISH_SECONDS)
    bad = [code for code, seconds in left if code != 0 or seconds > LEAVE_SECONDS]
    slowest = max((seconds for _, seconds in left), default=0.0)
    note = f"{len(left)} asked, {len(left) - len(bad)} left with exit code 0 in ≤ {slowest:.1f} s"
    workers.deaths.extend(bad)
    return bench.count(side, workers, ended=ended, note=note)


def frozen(bench: Bench, side: Ours | Plain) -> Tally:
    """SIGSTOP a worker in the middle of a trial until another has ended it, then SIGCONT.

    A step takes 50 ms, as in training at its usual size: the question is how many more are made.
    """
    slow = Tweak(before=Slow(0.05))
    with fleet(side, 2, {0: slow, 1: slow}) as workers:
        victim = _at_work(side, workers)
        victim.signal(signal.SIGSTOP)
        mine = _last(side, victim)
        taken = until(lambda: _told(side, mine) is not None, 60)
        before, steps = _told(side, mine), _steps(side, victim, mine)
        victim.signal(signal.SIGCONT)
        time.sleep(2)
        ended = workers.finish(FINISH_SECONDS)
        more = _steps(side, victim, mine) - steps
        wrote = taken and _told(side, mine) != before
    notes = [
        "taken over and ended by the other" if taken else "nobody took the trial over",
        f"{more} steps after SIGCONT",
        "wrote to it afterwards" if wrote else "wrote no more of it",
        "the worker died of it" if workers.deaths else "the worker went on",
    ]
    outcome = bench.count(side, workers, ended=ended, kills=1, note=", ".join(notes))
    broken = isinstance(side, Ours) and (wrote or not taken or more > STEPS_AFTER)
    return outcome.broken() if broken else outcome


def _tended_sleep(workers: Fleet, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        workers.tend()
        time.sleep(0.1)


def _at_work(side: Ours | Plain, workers: Fleet) -> Worker:
    """Wait for a worker to be in the third epoch of a trial; return it."""
    found: list[Worker] = []

    def look() -> bool:
        for step in reversed(journal.read(side.steps)):
            if step.epoch == 2:
                found.extend(w for w in workers.workers if w.pid == step.pid)
        return bool(found)

    if not until(look, 60):
        raise RuntimeError(f"no worker came to its third epoch: {side.log.read_text()[-2000:]}")
    return found[0]


def _last(side: Ours | Plain, worker: Worker) -> int:
    """Return the seed of the trial that the worker trained last."""
    return [s.seed for s in journal.read(side.steps) if s.pid == worker.pid][-1]


def _steps(side: Ours | Plain, worker: Worker, seed: int) -> int:
    steps = journal.read(side.steps)
    return sum(step.pid == worker.pid and step.seed == seed for step in steps)


def _told(side: Ours | Plain, seed: int) -> tuple[Any, ...] | None:
    """Return all that is stored of the trial with this seed once it is complete, else None."""
    for trial in side.trials():
        if side.seed(trial) == seed and trial.state.name == "COMPLETE":
            stored = (trial.intermediate_values, trial.user_attrs, trial.datetime_complete)
            return (trial.number, trial.value, *stored)
    return None
