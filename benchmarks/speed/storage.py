"""What a trial costs in the database: ask, 8 parameters, 5 reports and tell, ours against Optuna's.

Both sides run on the same server, in processes of their own; histories are inserted, not asked for
(see `history`), once for all rows of one size: each finds the trials of those before it, some
dozens, on either side. Ours does what `worker` does: the last report and the end are told together.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from faults.ground import Ground
from optuna.storages import RDBStorage
from sqlalchemy import NullPool, create_engine

from speed import storage_side
from speed.history import fill
from speed.storage_side import Done, Sampling, Work
from speed.table import Figure, figure, ratio
from speed.wire import Wire
from tunesvc.storage import open_store

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["speed.storage_side"])
BENCHMARKS = Path(__file__).resolve().parents[1]

CROWD_SPANS = 3
CROWD_SECONDS = 1.5  # each
TRIP_TRIALS = 10

Measured = dict[str, Any]


def rows(ground: Ground) -> Iterator[Measured]:
    """Yield every row; `ours` and `plain` are lists of measurements."""
    yield from sampled(both(ground, 0), 0, 1, ("random",), trials=20)
    for finished, trials, times in ((1_000, 15, 1), (20_000, 4, 3)):
        urls = both(ground, finished)
        yield from sampled(urls, finished, 1, ("tpe", "random"), trials=trials, times=times)
        yield from sampled(urls, finished, 4, ("tpe",), trials=trials)
    yield from trips(ground)
    yield many_running(ground)
    yield from crowd(ground)


def smoke(ground: Ground) -> Figure | None:
    """Return how many times as fast a trial is with TPE, at 1,000 finished ones."""
    (row,) = sampled(both(ground, 1_000), 1_000, 1, ("tpe",), trials=8)
    mine, theirs = figure(row["ours"]), figure(row["plain"])
    return ratio(mine, theirs, less_is_better=True) if mine and theirs else None


def both(ground: Ground, finished: int) -> dict[bool, str]:
    """Make a database of that history for each side; return their URLs, ours under True."""
    return {is_ours: study(ground, is_ours, finished) for is_ours in (True, False)}


def sampled(
    urls: Mapping[bool, str],
    finished: int,
    workers: int,
    samplings: tuple[Sampling, ...],
    *,
    trials: int,
    times: int = 1,
) -> Iterator[Measured]:
    """Milliseconds of a whole trial; at 20,000 with TPE, also what a new worker's first one takes.

    The first trial of each process is not among the whole trials. What is measured is added to the
    history: some dozens of trials.

    Args:
        urls: of `both`.
        workers: processes at once.
        trials: of each process, with each sampler.
        times: so often, with new processes.
    """
    did: dict[bool, list[Done]] = {}
    for is_ours, url in urls.items():
        works = [Work(url, is_ours, samplings, trials=trials, seed=n) for n in range(workers)]
        did[is_ours] = [done for _ in range(times) for done in together(works)]
    some = f"_{workers}_workers" if workers > 1 else ""
    for sampling in samplings:
        name = f"storage_{sampling}_{finished // 1000}k{some}"
        what = f"{sampling}, {finished:,} finished, workers: {workers}"
        taken = ([ms for each in did[o] for ms in each.trial_ms[sampling]] for o in did)
        yield row(name, what, "ms", *taken)
        if finished == 20_000 and sampling == "tpe":
            firsts = ([each.first_seconds for each in did[o]] for o in did)
            yield row(f"storage_first_trial{some}", what, "s", *firsts)
            if workers == 1:
                memory = ([each.memory_mb for each in did[o]] for o in did)
                yield row("storage_memory", what, "MB", *memory)


def trips(ground: Ground) -> Iterator[Measured]:
    """Round trips of a whole trial, counted on the wire."""
    for pruner in ("none", "asha"):
        found = []
        for is_ours in (True, False):
            with Wire(study(ground, is_ours, 100)) as wire:
                work = Work(wire.url, is_ours, pruner=pruner)
                with storage_side.opened(work) as trial:
                    trial("tpe")
                    counts = []
                    for _ in range(TRIP_TRIALS):
                        before = wire.trips
                        trial("tpe")
                        counts.append(wire.trips - before)
            found.append(counts)
        yield row(f"storage_trips_{pruner}", f"tpe, pruner: {pruner}", "round trips", *found)


def many_running(ground: Ground) -> Measured:
    """Milliseconds until a trial has its parameters, while 100 others of 100 steps run."""
    found = []
    for is_ours in (True, False):
        url = study(ground, is_ours, 1_000, running=100)
        (done,) = together([Work(url, is_ours, trials=6, with_reports=False)])
        found.append(done.trial_ms["tpe"])
    what = "ask and 8 parameters, tpe, 1,000 finished, 100 running × 100 steps"
    return row("storage_100_running", what, "ms", *found)


def crowd(ground: Ground) -> Iterator[Measured]:
    """Trials per second of trials that train for 50 ms; plain Optuna's at 4 workers is compared."""
    plain = _rates(ground, is_ours=False, workers=4)
    for workers in (1, 4, 32):
        mine = _rates(ground, is_ours=True, workers=workers)
        what = f"random, trials of 50 ms, workers: {workers} (plain: 4)"
        told = {"less_is_better": False, "note": f"in spans of {CROWD_SECONDS:g} s of one run"}
        yield row(f"storage_crowd_{workers}", what, "trials/s", mine, plain) | told


def _rates(ground: Ground, *, is_ours: bool, workers: int) -> list[float]:
    """Return the rate of each span, of one run after whose first trials all began at once."""
    url, seconds = study(ground, is_ours, 0), CROWD_SPANS * CROWD_SECONDS
    works = [
        Work(url, is_ours, ("random",), seconds=seconds, sleep_seconds=0.01, seed=n)
        for n in range(workers)
    ]
    spans = Counter(int(end // CROWD_SECONDS) for each in together(works) for end in each.ended)
    return [spans[number] / CROWD_SECONDS for number in range(CROWD_SPANS)]


def row(name: str, what: str, unit: str, ours: list[float], plain: list[float]) -> Measured:
    """Return a row; `n` and `spread` are of ours."""
    spread = (min(ours), max(ours))
    facts = {"row": name, "what": what, "unit": unit, "n": len(ours), "spread": spread}
    return facts | {"ours": ours, "plain": plain}


def study(ground: Ground, is_ours: bool, finished: int, running: int = 0) -> str:
    """Make a database with a study of that history; return its URL."""
    url = ground.database()
    if is_ours:
        with open_store(url) as store:
            made = optuna.create_study(storage=store.optuna, study_name=storage_side.NAME)
    else:
        storage = RDBStorage(url)
        made = optuna.create_study(storage=storage, study_name=storage_side.NAME)
        storage.engine.dispose()
    engine = create_engine(url, poolclass=NullPool)
    if finished or running:
        fill(engine, made._study_id, finished, running)
    return url


def together(works: list[Work]) -> list[Done]:
    """Do them at once, each in a process of its own.

    Why: 2026-11: forked from one that has imported what they need. Python 3.11 does not tell that
    one where we find our modules, and says nothing when it finds none.
    """
    known = os.environ.get("PYTHONPATH", "")
    if str(BENCHMARKS) not in known.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(BENCHMARKS), known)))
    start = PROCESSES.Barrier(len(works))
    with ProcessPoolExecutor(len(works), PROCESSES, storage_side.keep, (start,)) as pool:
        return list(pool.map(storage_side.do, works))


def main() -> None:
    """Print each row's medians and spread as it is measured."""
    from faults.ground import ground

    with ground() as place:
        for each in rows(place):
            low, high = each["spread"]
            mine, theirs = median(each["ours"]), median(each["plain"])
            print(
                f"{each['row']:28} {mine:9.2f} ({low:.2f}–{high:.2f}, n={each['n']}) "
                f"plain {theirs:9.2f} {each['unit']}  {each['what']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
