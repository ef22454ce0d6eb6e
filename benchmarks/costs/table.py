"""A few hundred configurations, each really run once: what both samplers are replayed on."""

from __future__ import annotations

import gzip
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faults.ground import ground

from costs import spaces
from costs.running import Ran, run
from tunesvc.provenance import provenance

FILE = Path(__file__).resolve().parents[1] / "cost_aware.json.gz"


@dataclass(frozen=True)
class Table:
    """What was run of each case, and where and when."""

    rows: dict[str, list[Ran]]
    made: dict[str, Any]


def make(minutes: float) -> Table:
    """Run random configurations for so many minutes; one case after the other.

    Seconds are those of the processor: the machine may have other work.
    """
    load = os.getloadavg()[1]
    rows: dict[str, list[Ran]] = {}
    with ground() as place:
        for case in spaces.CASES.values():
            data = spaces.images(case, place.folder)
            hours = minutes / 60 / len(spaces.CASES)
            wanted = spaces.spec(case, case.name, data, sampler={"kind": "random"}, hours=hours)
            ran = run(place, wanted, by_processor=True)
            rows[case.name] = [each for each in ran if each.is_complete]
    made = provenance() | {
        "cores": os.cpu_count(),
        "threads": 1,
        "minutes": minutes,
        "load": [round(load, 1), round(os.getloadavg()[1], 1)],
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return Table(rows, made)


def write(table: Table) -> None:
    """Keep the table."""
    text = json.dumps({"made": table.made, "rows": _plain(table)}, sort_keys=True)
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))


def read() -> Table:
    """Return the table that is kept."""
    known = json.loads(gzip.decompress(FILE.read_bytes()))
    rows = {
        name: [Ran(**(each | {"epochs": tuple(map(tuple, each["epochs"]))})) for each in made]
        for name, made in known["rows"].items()
    }
    return Table(rows, known["made"])


def _plain(table: Table) -> dict[str, list[dict[str, Any]]]:
    return {name: [asdict(each) for each in made] for name, made in table.rows.items()}
