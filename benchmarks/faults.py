"""What faults cost: tunesvc beside plain Optuna, on the same work. See README.md.

    python benchmarks/faults.py            all of it; half an hour on two cores
    python benchmarks/faults.py --short    smaller counts, fewer rows of plain Optuna; minutes
    python benchmarks/faults.py --rows ad  some rows

The last line sums up tunesvc's column. The exit code is 1 if a trial was lost, duplicated or over
the budget, if more epochs were repeated than workers killed, or if a row is BROKEN.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import reduce
from importlib.metadata import version
from operator import add

from faults import toy
from faults.bench import LONG, SHORT, Bench
from faults.ground import ground
from faults.rows import ROWS, Outcome, Row
from faults.tally import Tally
from rich.console import Console
from rich.table import Table

from tunesvc.provenance import provenance

NOTHING = Tally(0, 0, 0, 0, 0, 0, 0)


def main() -> int:
    """Make the faults, print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="smaller counts; minutes")
    parser.add_argument("--rows", default="abcdefgh", help="letters of the rows; default: all")
    parser.add_argument("--no-plain", action="store_true", help="leave plain Optuna out")
    options = parser.parse_args()
    table = Table("", "fault", "tunesvc", "plain study.optimize", show_lines=True)
    sums: list[Tally] = []
    began = time.monotonic()
    with ground() as place:
        bench = Bench(place, SHORT if options.short else LONG)
        for row in ROWS:
            if row.letter not in options.rows:
                continue
            ours = _run(bench, row, row.ours, "tunesvc")
            plain = _plain(bench, row, short=options.short, without=options.no_plain)
            table.add_row(row.letter, row.fault, str(ours), str(plain))
            if isinstance(ours, Tally):
                sums.append(ours)
    Console(width=150).print(table)
    print(_provenance(time.monotonic() - began))
    return _judge(reduce(add, sums, NOTHING))


def _plain(bench: Bench, row: Row, *, short: bool, without: bool) -> Outcome:
    if isinstance(row.plain, str):
        return row.plain
    if without or (short and not row.plain_in_short):
        return "not run (make faults runs it)"
    return _run(bench, row, row.plain, "plain")


def _run(bench: Bench, row: Row, fault: Callable[[Bench], Outcome], column: str) -> Outcome:
    """Run one cell; tell how it goes on standard error, for the whole takes its time."""
    began = time.monotonic()
    outcome = fault(bench)
    seconds = time.monotonic() - began
    print(f"({row.letter}) {column}, {seconds:.0f} s: {outcome}", file=sys.stderr, flush=True)
    return outcome


def _provenance(seconds: float) -> str:
    facts = provenance()
    packages = ("optuna", "sqlalchemy", "psycopg2-binary", "torch")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"command: {' '.join(sys.argv)}; commit {facts['git_commit']}; {platform.platform()}, "
        f"{os.cpu_count()} cores; python {platform.python_version()}, {versions}; "
        f"{toy.EPOCHS} epochs a trial; one run of {seconds:.0f} s"
    )


def _judge(total: Tally) -> int:
    """Print the last line; return the exit code."""
    print(
        f"lost={total.lost} duplicated={total.duplicated} over_budget={total.over_budget} "
        f"repeated_epochs={total.repeated_epochs} kills={total.kills}"
    )
    failed = total.lost or total.duplicated or total.over_budget or total.is_broken
    return int(bool(failed) or total.repeated_epochs > 2 * total.kills)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
