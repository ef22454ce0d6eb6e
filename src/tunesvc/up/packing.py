"""How many workers share a device, by the memory that trials were measured to need.

Why: 2026-11: what a trial needs is measured, not estimated beforehand: an estimate would have to
know every backbone's activations, the optimizer, cached outputs and cuDNN's workspaces. A trial
that needs more than any before, and finds its neighbours in the way, runs in smaller micro-batches
(`trial.fitting`). So nothing is taken back here: workers are added, and stay.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy import text

from tunesvc import study as studies
from tunesvc.study import Study
from tunesvc.up import placing

MOST_TOGETHER = 4  # workers on one device, however much memory is left
MEASURED_TRIALS = 3  # that ended on devices of this name, before more workers share one
USABLE = 0.9  # of a device's memory; the rest is other programs', and lost between allocations
LARGER = 1.1  # times the largest trial measured: the next may be a little larger
CONTEXT_MB = 500.0  # of a process on a GPU: CUDA's kernels and libraries, in no trial's measure
LOOK_SECONDS = 5.0  # between two looks at what trials were measured to need
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # bytes


class _Sql:
    # On the CPU it is the process's memory that is measured, alike on every kind of CPU.
    MEASURED = text("""
        SELECT CASE run.value_json::json ->> 'device' WHEN 'cpu' THEN 'cpu'
               ELSE run.value_json::json ->> 'device_name' END AS name,
               count(*) AS trials, max(peak.value_json::float) AS peak_mb
        FROM trials t
        JOIN trial_user_attributes peak ON peak.trial_id = t.trial_id
                                       AND peak.key = 'peak_memory_mb'
        JOIN trial_user_attributes run ON run.trial_id = t.trial_id AND run.key = 'run'
        WHERE t.study_id = :study_id AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
        GROUP BY 1
    """)


@dataclass(frozen=True)
class Room:
    """What a device has for workers.

    Args:
        device: as torch calls it.
        name: the kind of device, as trials store it.
        memory_mb: all of it, in MiB.
        context_mb: what a process takes beside its trial, in MiB.
        most: workers, however much memory there is.
    """

    device: str
    name: str
    memory_mb: float
    context_mb: float = CONTEXT_MB
    most: int = MOST_TOGETHER


@dataclass(frozen=True)
class Measured:
    """So many trials ended on devices of one name, and the largest took `peak_mb` MiB."""

    trials: int
    peak_mb: float


Look = Callable[[], tuple[Mapping[str, Measured], int]]
"""() → what was measured, by the name of the device, and how many trials have not ended."""


def rooms(devices: Sequence[str]) -> list[Room]:
    """Return what each of the devices has for workers; torch is imported only for a GPU."""
    return [_room(device) for device in dict.fromkeys(devices)]


def _room(device: str) -> Room:
    if device == "cpu":
        most = min(MOST_TOGETHER, placing.cores())
        return Room(device, device, _ram_mb(), context_mb=0.0, most=most)
    if device == "mps":  # what trials take of Apple's GPU is not measured
        return Room(device, device, 0.0, most=1)
    import torch

    facts = torch.cuda.get_device_properties(device)
    return Room(device, facts.name, facts.total_memory / 2**20)


def _ram_mb() -> float:
    """Return this machine's memory in MiB, or what its container may have of it."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    told = [Path(path).read_text().strip() for path in LIMITS if Path(path).exists()]
    return min([installed, *(int(limit) for limit in told if limit.isdigit())]) / 2**20


def fitting(room: Room, peak_mb: float) -> int:
    """Return how many workers fit: 0.9 × memory / (1.1 × peak + context), from 1 to the most.

    Args:
        peak_mb: the most that a trial was measured to take, in MiB.
    """
    count = int(USABLE * room.memory_mb / (LARGER * peak_mb + room.context_mb))
    return max(1, min(room.most, count))


def together(rooms: Sequence[Room], measured: Mapping[str, Measured], trials: int) -> list[str]:
    """Return one device per worker: one on each, then in turn as many as fit where that is known.

    Args:
        measured: by the name of the device.
        trials: that have not ended; there are no more workers than these.
    """
    counts = {room.device: _known(room, measured) or 1 for room in rooms}
    turns = range(max(counts.values(), default=0))
    wanted = (device for turn in turns for device, count in counts.items() if turn < count)
    return list(islice(wanted, max(0, trials)))


def _known(room: Room, measured: Mapping[str, Measured]) -> int | None:
    """Return how many fit; None while too few trials have told."""
    found = measured.get(room.name)
    return fitting(room, found.peak_mb) if found and found.trials >= MEASURED_TRIALS else None


def look(study: Study) -> tuple[dict[str, Measured], int]:
    """Return what trials that ended were measured to need, and how many have not ended.

    Of a study that is paused or done, none is to be waited for.
    """
    with study.store.engine.connect() as connection:
        found = connection.execute(_Sql.MEASURED, {"study_id": study.id}).all()
    now = studies.status(study)
    left = sum(now.trials[state] for state in ("running", "waiting", "remaining"))
    measured = {row.name: Measured(row.trials, row.peak_mb) for row in found}
    return measured, left if now.state == "open" else 0


@dataclass
class Packing:
    """Tells where workers are to be added (`--trials-per-device auto`)."""

    rooms: Sequence[Room]
    look: Look
    _next: float = field(default=0.0, init=False)  # when to look again, monotonic

    @property
    def most(self) -> int:
        """So many workers there may be in the end."""
        return sum(room.most for room in self.rooms)

    def more(self, devices: Sequence[str]) -> list[str]:
        """Return the device of each worker to add.

        Args:
            devices: of the workers that were started.
        """
        if time.monotonic() < self._next:
            return []
        measured, trials = self.look()
        wanted = together(self.rooms, measured, trials)
        is_known = all(_known(room, measured) for room in self.rooms)
        # The largest trial only grows: no later look finds that more fit.
        is_final = is_known and len(wanted) < trials
        self._next = math.inf if is_final else time.monotonic() + LOOK_SECONDS
        return list((Counter(wanted) - Counter(devices)).elements())
