"""Where figures come from, and RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from speed.table import HEAD, Row, cells, markdown
from speed.targets import NOTES, target
from tunesvc.provenance import provenance
from tunesvc.train import place

PACKAGES = ("torch", "torchvision", "optuna", "ray")
RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"


def origin(seconds: float, device: str, postgres: str) -> str:
    """Return one line: hardware, versions, commit, command, duration."""
    described = place(device).describe()
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{described['device_name']} ({device}), {cores} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'its share of the cores')}, "
        f"{platform.platform()}; python {platform.python_version()}, {_versions()}, "
        f"PostgreSQL {postgres}; commit {provenance()['git_commit']}; "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}; `{shlex.join(['python', *sys.argv])}`, "
        f"{seconds:.0f} s, load {load:.1f} at the end"
    )


def _versions() -> str:
    shown = []
    for name in PACKAGES:
        try:
            shown.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            shown.append(f"no {name}")
    return ", ".join(shown)


def page(rows: Sequence[Row], origin_line: str, device: str) -> str:
    """Return RESULTS.md."""
    table = markdown([cells(row, target(row.row, device)) for row in rows], HEAD)
    notes = [
        f"- **{row.row}**, {row.subject}: {note}" for row in rows if (note := notes_of(row, device))
    ]
    return "\n".join(
        [
            "# Speed, measured",
            "",
            "Written by `benchmarks/bench.py` (`make bench`); never edited by hand. Figures are",
            "medians (lowest–highest, number of measurements); a ratio says how many times as good",
            "tunesvc is as the peer in the same run. `README.md` tells how each row is measured.",
            "",
            origin_line,
            "",
            table,
            "",
            "## Notes",
            "",
            *notes,
            "",
        ]
    )


def notes_of(row: Row, device: str) -> str:
    """Return what has to be said of a row; why it is short only where it is."""
    wanted = target(row.row, device)
    short = wanted is not None and wanted.verdict(row) == "SHORT"
    return "; ".join(filter(None, (row.note, _reason(row.row) if short else "")))


def with_reasons(page: str) -> str:
    """Return a page with today's reasons; what was measured stays."""
    return re.sub(
        r"^(- \*\*(\w+)\*\*, .*?)SHORT: .*$",
        lambda note: note[1] + _reason(note[2]),
        page,
        flags=re.MULTILINE,
    )


def _reason(row: str) -> str:
    return f"SHORT: {NOTES.get(row, 'no reason noted yet')}"
