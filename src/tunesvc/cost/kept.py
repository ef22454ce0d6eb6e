"""Timings that are kept on this host, one small file each.

Why: 2026-11: what a fine-tuned net takes for an image does not hang on its weights' values, so one
measurement serves every trial of the backbone. It hangs on the architecture with its arguments, the
images' size, the head's outputs, the device's name, the precision, the layout, the threads, and on
torch's and torchvision's versions: these are the key. Cards and processors of one name are alike,
so the host's name is not in it; workers in containers get a new one at every start. Counts, sizes
and reckoned memory are not kept: they take less than a second per process, and cannot be out of
date.

Why: 2026-11: kept rather than measured by each worker, because equal nets of one study are to have
equal costs: a cap between two readings of the same clock would tell noise. Who finds another
process measuring waits for it, since two at once would slow each other. Where other work had the
cores meanwhile, the next process measures once more and the lower one is kept: disturbance only
adds. `tunesvc cost` always measures anew and keeps nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from tunesvc import hostcache
from tunesvc.cost.timing import Timing

log = logging.getLogger(__name__)

_FORMAT = 1  # raise it when a timing comes to be measured in another way
_WAIT_SECONDS = 10.0  # for another process that measures


def name(kind: Mapping[str, object]) -> str:
    """Return what stands for everything that a timing hangs on.

    Args:
        kind: JSON-able.
    """
    told = json.dumps({"format": _FORMAT, **kind}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def fetch(folder: Path, kind: Mapping[str, object], measure: Callable[[], Timing]) -> Timing:
    """Return a quiet timing that was kept, or measure it now and keep it, one process at a time.

    Where it cannot be kept, or another process measures for long, it is measured all the same.
    """
    file = folder / f"{name(kind)}.json"
    known = _read(file)
    if known is not None and known.is_quiet:
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "measuring.lock")
        lock.acquire(timeout=_WAIT_SECONDS)
    except (OSError, Timeout) as error:
        log.info("a latency is measured and not kept: %s", error)
        return measure()
    try:
        known = _read(file)
        if known is not None and known.is_quiet:
            return known
        best = min(filter(None, (measure(), known)), key=lambda timing: timing.median_ms)
        _write(file, kind, best)
        return best
    finally:
        lock.release()


def _write(file: Path, kind: Mapping[str, object], timing: Timing) -> None:
    try:
        hostcache.note(file, {"kind": kind, "timing": asdict(timing)})
    except OSError as error:  # the disk is full
        log.info("a latency could not be kept: %s", error)


def _read(file: Path) -> Timing | None:
    """Return what is kept; None where the file is missing or spoiled."""
    try:
        stored = hostcache.noted(file)["timing"]
        median, p95, waited = (float(stored[key]) for key in ("median_ms", "p95_ms", "waited"))
        joules = stored.get("joules")
        spent = None if joules is None else float(joules)
        return Timing(median, p95, int(stored["runs"]), waited, spent)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
