"""What bench.py does: groups of rows, measured and told one after the other."""

from __future__ import annotations

import argparse
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from faults.ground import ground

from speed import gpu, mixed, report, rows, subjects
from speed.mixed import Mixed
from speed.rows import Singles, Sizes
from speed.sides import Bench
from speed.smoke import smoke
from speed.table import Row, cells
from speed.targets import target

MIXED: dict[str, Callable[[Mixed], Iterator[Row]]] = {
    "mixed_study": mixed.against_plain,
    "mixed_study_ray": mixed.against_ray,
    "gap": mixed.gaps,
}
STORAGE = "storage"
MIXED_PIXELS = 64
MIXED_EVERY = {"cpu": 3, "cuda": 1}  # photograph: three runs of each side in a quarter of an hour
ABSENT = 4


def main() -> int:
    """Measure, print, and write RESULTS.md if it was all."""
    options = _options()
    if options.reasons:
        path = _path(options.device)
        path.write_text(report.with_reasons(path.read_text()))
        return 0
    absent = subjects.missing()
    if absent:
        print(f"skipped: not there: {', '.join(map(str, absent))}")
        return 0 if options.smoke else ABSENT
    with ground() as place:
        bench = Bench(
            *(place, options.device),
            with_ray=not options.no_ray,
            loader_workers=_loader_workers(options),
            every=options.every or MIXED_EVERY[options.device],
        )
        if options.smoke:
            return smoke(bench)
        return _measure(bench, options.only or _every(bench.device), whole=not options.only)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed beside plain Optuna and Ray Tune.")
    parser.add_argument("--smoke", action="store_true", help="a few small rows; under 90 s")
    parser.add_argument("--only", action="append", metavar="ROW", choices=_every("cuda"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray Tune out")
    parser.add_argument("--reasons", action="store_true", help="write RESULTS.md's anew, no more")
    parser.add_argument("--every", type=int, metavar="N", help="photograph, in the mixed study")
    parser.add_argument("--loader-workers", type=int, metavar="N", help="of the peers' DataLoaders")
    return parser.parse_args()


def _loader_workers(options: argparse.Namespace) -> int:
    """Return what serves the peers best: on a CPU, decoding and training share the cores."""
    if options.loader_workers is not None:
        return options.loader_workers
    return 0 if options.device == "cpu" else min(16, len(os.sched_getaffinity(0)))


def _every(device: str) -> list[str]:
    return [*rows.ROWS, *MIXED, STORAGE, *(gpu.ROWS if device == "cuda" else ())]


def _measure(bench: Bench, wanted: Sequence[str], *, whole: bool) -> int:
    began, found, failed = time.monotonic(), [], 0
    for name, made in _groups(bench, wanted):
        try:
            for row in made():
                found.append(row)
                _tell(row, bench.device, time.monotonic() - began)
        except Exception as error:  # the other rows are worth having
            traceback.print_exc()
            failed += 1
            found.append(Row(name, "", "", None, skipped=f"failed: {str(error).splitlines()[0]}"))
    origin = report.origin(time.monotonic() - began, bench.device, bench.postgres())
    print(origin)
    if whole:
        _path(bench.device).write_text(report.page(found, origin, bench.device))
        print(f"wrote {_path(bench.device)}")
    return int(failed > 0)


def _groups(
    bench: Bench, wanted: Sequence[str]
) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """Yield what is to be measured, by name; what rows share is measured once."""
    single = [row for row in wanted if row in rows.ROWS]
    for subject in _subjects(bench) if single else ():
        on = Singles(bench, subject, single, Sizes())
        for row in single:
            yield row, lambda row=row, on=on: iter([rows.ROWS[row](on)])
    together = [row for row in wanted if row in MIXED]
    if together:
        folder = bench.ground.new_folder("data")
        whole = Mixed(bench, subjects.many(folder, MIXED_PIXELS, every=bench.every))
        for row in together:
            yield row, lambda row=row: MIXED[row](whole)
    for row in [row for row in wanted if row in gpu.ROWS]:
        yield row, lambda row=row: gpu.ROWS[row](bench)
    if STORAGE in wanted:
        yield STORAGE, lambda: _storage(bench)


def _subjects(bench: Bench) -> list[subjects.Subject]:
    if bench.device == "cuda":
        return gpu.subjects_of(bench)
    return [subjects.photos(), subjects.small(bench.ground.new_folder("data"))]


def _storage(bench: Bench) -> Iterator[Row]:
    from speed import storage

    return map(Row.of, storage.rows(bench.ground))


def _tell(row: Row, device: str, seconds: float) -> None:
    shown = " | ".join(filter(None, cells(row, target(row.row, device))))
    print(f"[{seconds:.0f} s] {shown}", flush=True)


def _path(device: str) -> Path:
    return report.RESULTS if device == "cpu" else report.RESULTS.with_stem("RESULTS-cuda")
