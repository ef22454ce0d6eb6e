"""The energy of inference, where the device counts it.

Why: 2026-11: NVIDIA's cards from Volta on count the joules that they have used since the driver was
loaded; the package `nvidia-ml-py` (module `pynvml`) reads that counter. It is not asked for by
`pip install tunesvc`. Where it is missing, or the card or driver counts nothing, the energy is not
known: it is never reckoned from a card's nominal power.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

import torch

SECONDS = 2.0  # the counter moves about every tenth of a second


def meter(device: torch.device) -> Callable[[], float] | None:
    """Return what reads a device's joules so far; None where nobody counts them.

    The whole card is counted, other processes on it included.
    """
    if device.type != "cuda":
        return None
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid  # NVML's numbers may be others
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no package, no driver, no permission, no counter: NVML's own errors
        return None
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3


def joules(
    act: Callable[[], object],
    read: Callable[[], float],
    settle: Callable[[], object],
    *,
    seconds: float = SECONDS,
) -> float:
    """Return what one run takes in joules: the counter's rise over many, by their number.

    What the card takes when idle is in it.

    Args:
        read: `meter`.
        settle: waits for the device.
        seconds: for which it is run again and again.
    """
    act()
    settle()
    runs, before, end = 0, read(), time.perf_counter() + seconds
    while runs == 0 or time.perf_counter() < end:
        act()
        settle()
        runs += 1
    return (read() - before) / runs
