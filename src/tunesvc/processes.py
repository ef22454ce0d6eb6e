"""Which tunesvc processes of this user run on this machine, so that `stop` can reach them.

Each one holds a lock on a file of its own while it lives: a file whose lock is free belongs to a
process that died, whatever its process id names by now.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock, Timeout

from tunesvc import places


@dataclass(frozen=True)
class Process:
    """A live process: its role ("worker", "up") and the studies it was named, or () for all."""

    pid: int
    role: str
    studies: tuple[str, ...]


@contextmanager
def registered(role: str, studies: Sequence[str]) -> Iterator[None]:
    """Let other processes see this one while the context lasts."""
    folder = places.home() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    facts = folder / f"{os.getpid()}.json"
    with FileLock(facts.with_suffix(".lock")):
        facts.write_text(json.dumps({"role": role, "studies": list(studies)}))
        try:
            yield
        finally:
            facts.unlink(missing_ok=True)


def running() -> list[Process]:
    """Return the registered processes that live; forget those that died."""
    found = []
    for facts in sorted((places.home() / "run").glob("*.json")):
        lock = FileLock(facts.with_suffix(".lock"))
        try:
            with lock.acquire(timeout=0):
                facts.unlink(missing_ok=True)
        except Timeout:
            told = json.loads(facts.read_text())
            found.append(Process(int(facts.stem), told["role"], tuple(told["studies"])))
    return found


def stop(study: str | None = None) -> list[Process]:
    """Ask the processes that serve a study, or all of them, to stop; return those asked."""
    asked = [p for p in running() if study is None or study in p.studies]
    for process in asked:
        os.kill(process.pid, signal.SIGTERM)
    return asked
