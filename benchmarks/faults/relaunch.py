"""`tunesvc up` itself killed, and started again with the same command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from faults.bench import FINISH_SECONDS, Bench
from faults.ours import Ours
from faults.tally import Tally
from faults.workers import Fleet
from tunesvc import processes
from tunesvc.storage import VARIABLE

STOP_SECONDS = 20.0  # `up` gives its workers ten


def relaunched(bench: Bench, side: Ours) -> Tally:
    """Kill -9 it after some seconds, again and again; then let it end.

    Its workers lead sessions of their own and live on, so that each start adds two.
    """
    file = side.folder / f"{side.spec.name}.yaml"
    file.write_text(json.dumps(side.spec.model_dump(mode="json", exclude={"name"})))
    try:
        kills = _killed(bench, side, file)
        with _up(side, file) as last:
            code = last.wait(FINISH_SECONDS)
    finally:
        end_survivors(side)
    note = f"up killed {kills} times; at last it left with exit code {code}"
    return bench.count(side, Fleet(side), ended=code == 0, note=note)


def _killed(bench: Bench, side: Ours, file: Path) -> int:
    """Return how often it was killed before the study was done."""
    kills = 0
    while kills < bench.sizes.relaunches and not side.is_done():
        with _up(side, file) as process:
            try:
                process.wait(random.uniform(6, 10))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    return kills


@contextmanager
def _up(side: Ours, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have it run; one that is still there when the block ends is asked to stop all it started."""
    arguments = ["up", str(file), "--until-done", "--no-dashboard", "--workers", "2"]
    with side.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesvc", *arguments, "--device", "cpu"],
            env=os.environ | {VARIABLE: side.url, "TUNESVC_HOME": str(side.folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_survivors(side: Ours) -> None:
    """Kill the workers that `up` left behind and that still run."""
    with patch.dict(os.environ, TUNESVC_HOME=str(side.folder)):
        for process in processes.running():
            os.kill(process.pid, signal.SIGKILL)
