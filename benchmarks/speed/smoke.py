"""A few rows, small enough for every change: one process a side, ants and bees at 64 pixels."""

from __future__ import annotations

import time
from importlib.util import find_spec

from peers.job import Job

from speed import report
from speed.rows import FULL, HEAD, LAST
from speed.sides import Bench, paces, span
from speed.subjects import photos
from speed.table import Figure, figure, ratio, smoke_line

PIXELS = 64
EPOCHS = 2


def smoke(bench: Bench) -> int:
    """Measure and print; the last line has the ratios to plain Optuna in this run."""
    began = time.monotonic()
    ratios = _training(bench) | {"storage_1k": _storage(bench)}
    print(report.origin(time.monotonic() - began, bench.device, bench.postgres()))
    print(smoke_line(ratios))
    return 0


def _training(bench: Bench) -> dict[str, Figure | None]:
    subject = photos(PIXELS)

    def jobs(trials: dict[str, int]) -> list[Job]:
        return [
            subject.job(study, [study.partition("+")[0]], count, EPOCHS, device=bench.device)
            for study, count in trials.items()
        ]

    plain = bench.plain(jobs({FULL: 1, HEAD: 2, LAST: 2})).trials
    done = bench.ours(jobs({FULL: 1, f"{HEAD}+first": 2, HEAD: 10, LAST: 3}), league=False)
    ours = done.trials
    figures = {
        "head_only": (figure([span(ours[HEAD]) / len(ours[HEAD])]), figure(paces(plain[HEAD]))),
        "last_stage": (figure(paces(ours[LAST])[1:]), figure(paces(plain[LAST]))),
        "full": (figure([ours[FULL][0].ended - done.ready]), figure(paces(plain[FULL]))),
    }
    for name, (mine, theirs) in figures.items():
        print(f"{name}: tunesvc {mine} s a trial, plain Optuna {theirs} s")
    return {
        name: ratio(mine, theirs, less_is_better=True)
        for name, (mine, theirs) in figures.items()
        if mine and theirs
    }


def _storage(bench: Bench) -> Figure | None:
    if find_spec("speed.storage") is None:
        print("storage_1k: skipped, there is no speed/storage.py")
        return None
    from speed import storage

    return storage.smoke(bench.ground)
