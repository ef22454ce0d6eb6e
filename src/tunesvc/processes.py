"""Which tunesvc processes of this user run on this machine: `stop` reaches them, `health` asks.

Each one holds a lock on a file of its own while it lives: a file whose lock is free belongs to a
process that died, whatever its process id names by now. Beside it lies its pulse.

    run/PID.json    role, studies           run/PID.pulse    when it last showed life, and for how
    run/PID.lock    held while it lives                      many seconds that holds

Why: 2026-11: who shows life says for how long that holds, because it knows what it does: a thread
that renews leases is late after half a minute, while reading a set of images takes its time.

Why: 2026-11: a worker that waits for Postgres is well: it is patient on purpose, and to start it
anew would lose what it trained since its last checkpoint. So every try shows life, also one that
failed. This has an end: who has waited for `OUTAGE_SECONDS` with nothing to train leaves by itself,
and a process that is gone is not well.

Why: 2026-11: times are those of the clock that no one sets, which all processes of a machine share:
neither a correction of the time nor a laptop's sleep makes a worker look dead.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from tunesvc import places
from tunesvc.errors import StorageError

PARENT = "TUNESVC_PARENT"  # process id of the `up` that started this one
LABEL = "TUNESVC_WORKER"  # what that `up` calls it

START_SECONDS = 300.0  # until the first sign of life: libraries are read, tables made
TRY_SECONDS = 30.0  # one try at a Postgres that is away: name, connection, statement, wait
BEAT_SECONDS = 1.0  # life is shown no more often


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


_NEVER = -math.inf, 0.0


class _Own:
    pulse: Path | None = None  # this process's, while it is registered
    lock = threading.Lock()  # the thread that renews leases shows life too
    last = _NEVER  # when, and for how many seconds


@contextmanager
def registered(role: str, studies: Sequence[str]) -> Iterator[None]:
    """Let other processes see this one while the context lasts.

    Raises:
        StorageError: the folder of state cannot be written to.
    """
    facts = _run() / f"{os.getpid()}.json"
    lock = FileLock(facts.with_suffix(".lock"))
    try:
        facts.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        _write(facts, {"role": role, "studies": list(studies), "parent": os.getppid()})
        _Own.pulse, _Own.last = facts.with_suffix(".pulse"), _NEVER
        pulse(START_SECONDS)
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
        _Own.pulse = None
        _forget(facts)
        lock.release()


def pulse(seconds: float) -> None:
    """Show that this process lives, which holds for so many seconds; nothing if none can see it.

    A pulse that cannot be written is told by `unwell`, not here: the process has other work.
    """
    with _Own.lock:
        now, file = time.monotonic(), _Own.pulse
        before, allowed = _Own.last
        if file is None or (now < before + BEAT_SECONDS and allowed == seconds):
            return
        _Own.last = now, seconds
        with suppress(OSError):
            _write(file, {"at": now, "seconds": seconds})


def unwell(role: str, seconds: float | None = None) -> str:
    """Return in one sentence what is wrong with the processes of a role; empty: they are well.

    Args:
        seconds: so long may a process show no life; None: as long as it said itself.
    """
    found = [process for process in running() if process.role == role]
    if not found:
        return f"no {role} runs here (none is registered in {_run()})"
    told = (_late(process, seconds) for process in found)
    return "; ".join(filter(None, told))


def _late(process: Process, seconds: float | None) -> str:
    who = f"{process.role} {process.pid}"
    try:
        told = json.loads((_run() / f"{process.pid}.pulse").read_text())
        silent = time.monotonic() - float(told["at"])
        allowed = float(told["seconds"]) if seconds is None else seconds
    except (OSError, ValueError, KeyError, TypeError):
        return f"{who} shows no life, or {_run()} cannot be written to"
    if silent <= allowed:
        return ""
    return f"{who} has shown no life for {silent:.0f} seconds; {allowed:g} are allowed"


def _run() -> Path:
    return places.home() / "run"


def _write(file: Path, told: dict[str, object]) -> None:
    """Write at once: nobody reads half of it."""
    draft = file.with_name(f"{file.name}.tmp")
    draft.write_text(json.dumps(told))
    draft.replace(file)


def _forget(facts: Path) -> None:
    for each in (facts, facts.with_suffix(".pulse")):
        each.unlink(missing_ok=True)


def running() -> list[Process]:
    """Return the registered processes that live; forget those that died."""
    found = (_look(facts) for facts in sorted(_run().glob("*.json")))
    return [process for process in found if process]


def _look(facts: Path) -> Process | None:
    try:
        with FileLock(facts.with_suffix(".lock")).acquire(timeout=0):
            _forget(facts)
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
