"""Does cost-aware TPE find more in the same seconds? Beside plain TPE, with the same seeds.

    python benchmarks/cost_aware.py            replays both on the table; writes docs/cost-aware.md
    python benchmarks/cost_aware.py --live     trains: five seeds each, 60 s each; 12 minutes
    python benchmarks/cost_aware.py --table    makes the table anew; 12 minutes and more
    python benchmarks/cost_aware.py --page     only writes the page, from what was found before

Each writes the page from all that is known. See README.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
from costs import page, replay, running, spaces, table
from costs.curves import Pair, Told, pair
from faults.ground import ground

from tunesvc.provenance import provenance

LIVE_CASE, LIVE_SECONDS, LIVE_SEEDS = "tiny", 60.0, 5
STRATEGIES = {"all strategies": spaces.STRATEGIES, "body trained": spaces.BODY}
HORIZONS = {"all strategies": 60.0, "body trained": 120.0}


def main() -> int:
    """Do what is asked for, and write the page."""
    options = _options()
    if missing := spaces.missing() if options.live or options.table else []:
        print(f"needs {missing[0]}, which is not there")
        return 4
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    began = time.monotonic()
    if options.table:
        table.write(table.make(options.minutes))
    elif options.live:
        found = [_live(options.seconds, options.seeds or LIVE_SEEDS)]
        page.keep("live", found, _made(time.monotonic() - began))
    elif not options.page:
        found = []
        for each in _replayed(options.seeds or 30, options.processes):
            found.append(each)  # kept at once: all of them take minutes
            page.keep("replay", found, _made(time.monotonic() - began))
            print(each.title, each.area, each.spread, each.ends, flush=True)
    if page.FOUND.exists():
        print(page.write(table.read()))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--live", action="store_true", help="real trials, by the clock")
    which.add_argument("--table", action="store_true", help="train the table's configurations")
    which.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--seeds", type=int, help="of each sampler; replayed 30, live 5")
    parser.add_argument("--seconds", type=float, default=LIVE_SECONDS, help="of a live study")
    parser.add_argument("--minutes", type=float, default=12.0, help="for the table")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _replayed(seeds: int, processes: int) -> Iterator[Pair]:
    known = table.read()
    with ProcessPoolExecutor(processes) as pool:
        for case in spaces.CASES:
            for words in STRATEGIES:
                for pruner in ("none", "asha"):
                    seconds = HORIZONS[words]
                    one = partial(_one, known.rows[case], case, words, pruner)
                    jobs = [(seed, aware) for aware in (False, True) for seed in range(seeds)]
                    told = list(pool.map(one, jobs))
                    title = f"{case}, {words}" + (", asha" if pruner == "asha" else "")
                    yield pair(title, seconds, told[:seeds], told[seeds:])


def _one(
    rows: list[running.Ran], case: str, words: str, pruner: str, job: tuple[int, bool]
) -> Told:
    """Replay one study; in a process of its own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    strategies = STRATEGIES[words]
    lookup = replay.Lookup.of([row for row in rows if row.params["strategy"] in strategies])
    spec = spaces.spec(
        spaces.CASES[case], "replay", Path(case),
        sampler={"kind": "tpe"}, strategies=strategies, pruner=pruner, trials=replay.MOST,
    )  # fmt: skip
    seed, cost_aware = job
    return replay.replay(lookup, spec, seed, HORIZONS[words], cost_aware=cost_aware)


def _live(seconds: float, seeds: int) -> Pair:
    """Run the study with both samplers by turns, each from an empty home."""
    case = spaces.CASES[LIVE_CASE]
    told: dict[bool, list[Told]] = {False: [], True: []}
    with ground() as place:
        data = spaces.images(case, place.folder)
        for seed in range(seeds):
            for cost_aware in (False, True) if seed % 2 else (True, False):
                sampler = {"kind": "tpe", "cost_aware": cost_aware}
                spec = spaces.spec(
                    case, "live", data, sampler=sampler, seed=seed, hours=seconds / 3600
                )
                ran = running.run(place, spec)
                done = [each for each in ran if each.is_complete and each.ended <= seconds]
                told[cost_aware].append([(each.ended, each.epochs[-1][0]) for each in done])
                print(f"seed {seed}, cost-aware {cost_aware}: {len(done)} trials", flush=True)
    return pair(f"{LIVE_CASE}, all strategies, live", seconds, told[False], told[True])


def _made(seconds: float) -> str:
    made = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return (
        f"{versions}; {made['platform']}, {len(os.sched_getaffinity(0))} cores, "
        f"load {os.getloadavg()[0]:.1f} at the end; commit {str(made['git_commit'])[:12]}; "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}; "
        f"`{shlex.join(['python', *sys.argv])}`, {seconds:.0f} s."
    )


if __name__ == "__main__":
    sys.exit(main())
