"""Images through a model, as many as come: threads read and decode while it computes.

    items ─ one thread takes them ─▶ several decode, two batches ahead ─▶ batches ─▶ outputs

No more than three batches are in memory, however many images there are. Pillow and torch both let
other threads run while they work.
"""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesvc.data.cache import threads
from tunesvc.data.picture import UnreadableError
from tunesvc.errors import DataError

T = TypeVar("T")

_WAIT_SECONDS = 0.2

_Square = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Batch(Generic[T]):
    """Some items, in order, and what came of them.

    Args:
        items: as they were given.
        errors: one for each, "" where it could be read.
        outputs: (b, num_outputs) float32 on the CPU, of those that could.
    """

    items: list[T]
    errors: list[str]
    outputs: Tensor


@dataclass(frozen=True, eq=False)
class _End:
    """No more items; `error` is what taking them raised, if anything."""

    error: BaseException | None = None


def stream(
    read: Callable[[T], _Square],
    compute: Callable[[Tensor], Tensor],
    items: Iterable[T],
    *,
    batch_size: int,
    is_patient: bool = True,
) -> Generator[Batch[T]]:
    """Yield batch after batch, in the order of the items.

    Args:
        read: item → (3, S, S) uint8; it may raise UnreadableError or DataError.
        compute: (B, 3, S, S) uint8 → (B, num_outputs) float32 on the CPU.
        items: taken in a thread of its own, a few batches ahead; what taking one raises passes.
        is_patient: wait until a batch is full; else take what is there already.
    """
    with _ahead(read, items, 2 * batch_size) as waiting:
        end: _End | None = None
        while end is None:
            batch, end = _some(waiting, batch_size, is_patient)
            squares, errors = _read([future for _, future in batch])
            outputs = compute(torch.from_numpy(np.stack(squares))) if squares else torch.empty(0)
            if batch:
                yield Batch([item for item, _ in batch], errors, outputs)
        if end.error is not None:
            raise end.error


_Waiting = queue.Queue[tuple[T, Future[_Square]] | _End]


@contextmanager
def _ahead(read: Callable[[T], _Square], items: Iterable[T], depth: int) -> Generator[_Waiting[T]]:
    """Have items taken and decoded in advance, up to `depth` of them, while the block runs."""
    pool = ThreadPoolExecutor(threads(), thread_name_prefix="tunesvc-decode")
    waiting: _Waiting[T] = queue.Queue(depth)
    is_over = threading.Event()

    def put(entry: tuple[T, Future[_Square]] | _End) -> bool:
        while not is_over.is_set():
            try:
                waiting.put(entry, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def feed() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if is_over.is_set() or not put((item, pool.submit(read, item))):
                    return
        except BaseException as raised:
            error = raised
        put(_End(error))

    # A daemon: it may wait for a line of standard input that never comes.
    threading.Thread(target=feed, daemon=True, name="tunesvc-items").start()
    try:
        with warnings.catch_warnings():
            # Pillow's remarks about odd but readable files: nothing that the user could act on.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield waiting
    finally:
        is_over.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _some(
    waiting: _Waiting[T], most: int, is_patient: bool
) -> tuple[list[tuple[T, Future[_Square]]], _End | None]:
    """Return the next items, at least one unless they are over."""
    batch: list[tuple[T, Future[_Square]]] = []
    while len(batch) < most:
        try:
            entry = waiting.get(block=is_patient or not batch)
        except queue.Empty:
            break
        if isinstance(entry, _End):
            return batch, entry
        batch.append(entry)
    return batch, None


def _read(futures: list[Future[_Square]]) -> tuple[list[_Square], list[str]]:
    squares, errors = [], []
    for future in futures:
        try:
            squares.append(future.result())
            errors.append("")
        except UnreadableError as error:
            errors.append(str(error))
        except DataError as error:
            errors.append(error.why or error.what)
    return squares, errors
