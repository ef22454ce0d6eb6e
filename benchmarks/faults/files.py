"""Checkpoints damaged, and a disk without room for them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from faults import journal
from faults.bench import FINISH_SECONDS, Bench
from faults.ours import Ours
from faults.tally import Tally
from faults.workers import fleet, until


def truncate(path: Path) -> None:
    """Keep the first half."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "deleted": Path.unlink,
    "bit-flipped": flip,
}


def damaged(bench: Bench, side: Ours) -> Tally:
    """Kill the one worker in its fourth epoch and damage its newest checkpoint; three times."""
    done = []
    for name, damage in DAMAGES.items():
        with fleet(side, 1) as workers:
            until(partial(_is_fourth_epoch, side, set(journal.read(side.steps))), 60)
            workers.kill(workers.workers[0])
            newest = newest_checkpoint(side)
            if newest is not None:
                damage(newest)
                done.append(name)
            workers.workers.clear()
    with fleet(side, 1) as workers:
        ended = workers.finish(FINISH_SECONDS)
    # The damage takes one more epoch than the kill does.
    return bench.count(side, workers, ended=ended, kills=2 * len(done), note=", ".join(done))


def newest_checkpoint(side: Ours) -> Path | None:
    """Return the file written last below the study's artifacts."""
    files = side.artifacts.rglob("*.ckpt")
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_fourth_epoch(side: Ours, known: set[journal.Step]) -> bool:
    return any(step.epoch >= 3 for step in journal.read(side.steps) if step not in known)


def full(bench: Bench, side: Ours) -> Tally | str:
    """Fill the disk below the checkpoints in the middle of the study, then make room again."""
    side.artifacts.mkdir()
    with _small_disk(side.artifacts) as problem:
        if problem:
            return f"skipped: {problem}"
        with fleet(side, 2) as workers:
            until(lambda: len(journal.read(side.steps)) > 50, 60)
            ballast = side.artifacts / "ballast"
            _fill(ballast)
            _tended(workers.tend, 3)
            ballast.unlink()
            ended = workers.finish(FINISH_SECONDS)
            died, workers.deaths = len(workers.deaths), []
        note = f"workers ended {died} times with an error and were started again"
        # What they had trained since the last checkpoint could be kept nowhere.
        return bench.count(side, workers, ended=ended, kills=died, note=note)


def _tended(tend: Callable[[], None], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tend()
        time.sleep(0.5)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(2**16)):
                pass
        except OSError:
            return


@contextmanager
def _small_disk(folder: Path) -> Iterator[str]:
    """Mount a tmpfs of 64 MB there while the block runs; yield why it cannot be, or nothing."""
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        problem = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        problem = "there is no command mount here"
    try:
        yield problem
    finally:
        if not problem:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
