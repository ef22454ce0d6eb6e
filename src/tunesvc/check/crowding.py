"""How much slower workers are that share a CPU than one that has it to itself.

Why: 2026-11: two cores of a cloud's machine are often two threads of one, and all share caches,
memory and whatever else runs there. Without this factor the quickstart was told to take 24 seconds
on two busy cores where it took 42; with it, 43.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

import torch
from torch.nn import functional

_SECONDS = 0.1  # that the work takes, or a bit more


def crowding(workers: int) -> float:
    """Return by what factor each takes longer, from 1 to their number."""
    if workers == 1:
        return 1.0
    images, filters = torch.rand(32, 32, 32, 32), torch.rand(32, 32, 3, 3)
    times = 1

    def work(_worker: int = 0) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(times):
                functional.relu(functional.conv2d(images, filters))
        return time.perf_counter() - start

    while work() < _SECONDS:
        times *= 2
    with ThreadPoolExecutor(workers) as threads:
        pairs = [(work(), fmean(threads.map(work, range(workers)))) for _ in range(3)]
    alone, together = (sum(each) for each in zip(*pairs, strict=True))
    factor: float = together / alone
    return min(float(workers), max(1.0, factor))
