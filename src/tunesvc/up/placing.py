"""Which devices this machine has, and where its first workers go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tunesvc.errors import UsageError

AUTO = "auto"  # so many workers for each device as turn out to fit
GPU_FILES = ("nvidia[0-9]*", "dxg", "kfd")  # in /dev: NVIDIA, Windows' Linux subsystem, AMD


def devices() -> list[str]:
    """Return the accelerators of this machine as torch names them; empty where there is none."""
    has_gpu = any(any(Path("/dev").glob(name)) for name in GPU_FILES)
    if not has_gpu and sys.platform != "darwin":
        return []  # spares machines without one the import of torch
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else []


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def placements(workers: int | None, device: str | None, per_device: str | None = None) -> list[str]:
    """Return one device per worker: one for each GPU, or two that share the CPU's cores.

    Args:
        workers: so many in all, the devices in turn.
        device: use this one alone.
        per_device: so many workers for each device, a number or "auto", which begins with one.

    Raises:
        UsageError: there is no such device here, or no worker is asked for, or the number of
            workers is given twice.
    """
    found = [_known(device)] if device else devices() or ["cpu"]
    if per_device is not None:
        return found * _each(workers, per_device)
    usual = min(2, cores()) if found == ["cpu"] else len(found)
    count = usual if workers is None else workers
    if count < 1:
        raise UsageError(f"--workers {count}: at least one worker is needed")
    return [found[index % len(found)] for index in range(count)]


def _each(workers: int | None, per_device: str) -> int:
    if workers is not None:
        raise UsageError(
            "--workers and --trials-per-device cannot be given together",
            "a worker runs one trial at a time: each of the two says how many workers there are",
            "leave one of them out",
        )
    if per_device == AUTO:
        return 1
    if not (per_device.isascii() and per_device.isdigit() and int(per_device) > 0):
        raise UsageError(f"--trials-per-device {per_device}: give a number from 1 on, or {AUTO}")
    return int(per_device)


def _known(device: str) -> str:
    name = "cuda:0" if device == "cuda" else device
    if name != "cpu" and name not in (here := devices()):
        there = ", ".join([*here, "cpu"])
        raise UsageError(f"--device {device}: no such device here", f"there is {there}")
    return name
