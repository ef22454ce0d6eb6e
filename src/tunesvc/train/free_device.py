"""The first accelerator that no other worker of this host holds (`--device free`).

A worker locks a file that is named by the device's own id, and keeps the lock while it lives: the
kernel frees it however the worker ends. The files lie in the cache, which the workers of a host
share, also those in containers.

Why: 2026-11: not by the leases' database: that knows no hosts of containers, and a worker that was
killed would keep its device until its lease expires. Not by the number of a replica: `docker
compose up --scale` gives it to no process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from tunesvc import interrupt
from tunesvc.errors import StorageError

log = logging.getLogger(__name__)

FREE = "free"
LOOK_SECONDS = 2.0  # between two looks at devices that are all held


@dataclass(frozen=True)
class Accelerator:
    """A device: `name` as this process calls it, `identity` as every process does."""

    name: str
    identity: str


def accelerators() -> list[Accelerator]:
    """Return the accelerators that this process sees; empty where there is none."""
    if torch.cuda.is_available():
        return [_cuda(index) for index in range(torch.cuda.device_count())]
    return [Accelerator("mps", "mps")] if torch.backends.mps.is_available() else []


def _cuda(index: int) -> Accelerator:
    return Accelerator(f"cuda:{index}", f"GPU-{torch.cuda.get_device_properties(index).uuid}")


@contextmanager
def held(
    device: str | None,
    folder: Path,
    there: Callable[[], Sequence[Accelerator]] = accelerators,
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[str | None]:
    """Hold an accelerator that is free while the context lasts; wait until there is one.

    Args:
        device: FREE; anything else is handed through, and nothing is held.
        folder: of the locks; every worker of the host sees it.
        there: returns the devices to choose from, in this order; where there is none at all, the
            worker computes on the CPU.
        on_wait: called again and again while every device is held.

    Raises:
        StorageError: the folder cannot be written to.
        Stopped: a signal came before a device was free.
    """
    found = there() if device == FREE else []
    if not found:
        if device == FREE:
            log.warning("no accelerator can be seen here: this worker computes on the CPU")
        yield "cpu" if device == FREE else device
        return
    name, lock = _wait(found, folder, on_wait)
    log.info("device %s is held by this worker", name)
    try:
        yield name
    finally:
        lock.release()


def _wait(
    found: Sequence[Accelerator], folder: Path, on_wait: Callable[[], None]
) -> tuple[str, FileLock]:
    if free := _first(found, folder):
        return free
    names = ", ".join(each.name for each in found)
    log.warning("every device (%s) is held by another worker; waiting for one", names)
    while not (free := _first(found, folder)):
        interrupt.check()
        on_wait()
        time.sleep(LOOK_SECONDS)
    return free


def _first(found: Sequence[Accelerator], folder: Path) -> tuple[str, FileLock] | None:
    for each in found:
        if lock := _locked(folder / f"{each.identity}.lock"):
            return each.name, lock
    return None


def _locked(path: Path) -> FileLock | None:
    """Return the lock on a file, or None if another process has it."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        raise StorageError(
            f"{path.parent} cannot be written to",
            error.strerror or str(error),
            "make it writable, or name another folder in TUNESVC_HOME: there workers note which "
            "device they hold",
        ) from error
    return lock
