"""Which tunesvc processes of this user run on this machine, so that `stop` can reach them.

Each one holds a lock on a file of its own while it lives: a file whose lock is free belongs to a
process that died, whatever its process id names by now.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from tunesvc import places
from tunesvc.errors import StorageError

PARENT = "TUNESVC_PARENT"  # process id of the `up` that started this one
LABEL = "TUNESVC_WORKER"  # what that `up` calls it


def end_with_parent() -> None:
    """Stop this process, as by SIGTERM, when the `up` that started it is gone, if one did."""
    if parent := os.environ.get(PARENT):
        threading.Thread(target=_outlive, args=(int(parent),), daemon=True).start()


def _outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class Process:
    """A live process: its role ("worker", "up", "dashboard") and the studies it was named.

    A worker that was named none serves them all.
    """

    pid: int
    role: str
    studies: tuple[str, ...]
    parent: int = field(default=0, compare=False)


@contextmanager
def registered(role: str, studies: Sequence[str]) -> Iterator[None]:
    """Let other processes see this one while the context lasts.

    Raises:
        StorageError: the folder of state cannot be written to.
    """
    facts = places.home() / "run" / f"{os.getpid()}.json"
    lock = FileLock(facts.with_suffix(".lock"))
    try:
        facts.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        _write(facts, {"role": role, "studies": list(studies), "parent": os.getppid()})
    except OSError as error:
        lock.release()
        raise StorageError(
            f"{facts.parent} cannot be written to",
            error.strerror or str(error),
            "make it writable, free some space, or name another folder in TUNESVC_HOME",
        ) from error
    try:
        yield
    finally:
        facts.unlink(missing_ok=True)
        lock.release()


def _write(facts: Path, told: dict[str, object]) -> None:
    """Write at once: nobody reads half of it."""
    draft = facts.with_suffix(".tmp")
    draft.write_text(json.dumps(told))
    draft.replace(facts)


def running() -> list[Process]:
    """Return the registered processes that live; forget those that died."""
    found = (_look(facts) for facts in sorted((places.home() / "run").glob("*.json")))
    return [process for process in found if process]


def _look(facts: Path) -> Process | None:
    try:
        with FileLock(facts.with_suffix(".lock")).acquire(timeout=0):
            facts.unlink(missing_ok=True)
        return None
    except Timeout:
        pass  # it lives
    except OSError:  # somebody else's
        return None
    try:
        told = json.loads(facts.read_text())
        parent = told.get("parent", 0)
        return Process(int(facts.stem), told["role"], tuple(told["studies"]), parent)
    except (OSError, ValueError, KeyError, TypeError):  # it has just ended
        return None


def stop(study: str | None = None) -> list[Process]:
    """Ask the processes that serve a study, or all of them, to stop; return those asked.

    What an `up` started is left to it: a second signal would end a worker in its clean-up.
    """
    wanted = [p for p in running() if study is None or study in p.studies]
    leading = {process.pid for process in wanted}
    return [p for p in wanted if p.parent not in leading and _ask(p.pid)]


def _ask(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError:  # it is gone, or another user's
        return False
    return True


def left_after(asked: Sequence[Process], seconds: float) -> list[Process]:
    """Wait for processes to end; return those that have not."""
    deadline = time.monotonic() + seconds
    while left := [process for process in running() if process in asked]:
        if time.monotonic() >= deadline:
            return left
        time.sleep(0.2)
    return []
