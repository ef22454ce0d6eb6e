"""Splits that stay on the device, and the way of batches to it where they do not fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from tunesvc.data.listing import Split

_AHEAD = 2  # batches

_T = TypeVar("_T")
_Batch = tuple[Tensor, ...]


def resident(split: Split, device: torch.device, budget_bytes: int) -> Split:
    """Return the split with images and targets on the device, if they fit into the budget.

    On the CPU nothing is copied: the split is mapped into memory already.
    """
    needed = split.images.nbytes + split.targets.nbytes
    if device.type == "cpu" or needed > budget_bytes:
        return split
    return Split(split.images.to(device), split.targets.to(device), split.skipped)


def streamed(batches: Iterator[_Batch], device: torch.device) -> Generator[_Batch, None, None]:
    """Yield batches of CPU tensors on the device; a thread makes and sends the next two meanwhile.

    What making them raises is raised here. The thread ends with the iterator, however that ends.
    """
    if device.type == "cuda":
        return _sent_beside(batches, device)
    return ahead((tuple(t.to(device) for t in batch) for batch in batches), _AHEAD)


def _sent_beside(batches: Iterator[_Batch], device: torch.device) -> Generator[_Batch, None, None]:
    """Send batches from page-locked memory on a stream of its own, beside what is computed."""
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(batch: _Batch) -> tuple[_Batch, torch.cuda.Event]:
        with torch.cuda.device(device), torch.cuda.stream(beside):
            there = tuple(t.pin_memory().to(device, non_blocking=True) for t in batch)
            return there, beside.record_event()

    for batch, arrived in ahead(map(send, batches), _AHEAD):
        here = torch.cuda.current_stream(device)
        here.wait_event(arrived)
        for tensor in batch:
            tensor.record_stream(here)  # or its memory could be used anew while it is read here
        yield batch


def ahead(items: Iterator[_T], depth: int) -> Generator[_T, None, None]:
    """Yield the items; a thread takes up to `depth` of them in advance.

    What taking one raises is raised here, in its place. The thread ends with this iterator: when
    it is exhausted, closed or dropped, or has raised.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="tunesvc-batches")
    try:
        taken = deque(pool.submit(_next, items) for _ in range(depth))
        while found := taken.popleft().result():
            taken.append(pool.submit(_next, items))
            yield found[0]
    finally:
        pool.shutdown(cancel_futures=True)


def _next(items: Iterator[_T]) -> tuple[_T] | None:
    """Return the next item in a tuple; None at the end (a future cannot raise StopIteration)."""
    for item in items:
        return (item,)
    return None
