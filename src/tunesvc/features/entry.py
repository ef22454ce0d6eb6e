"""Making the outputs of frozen stages, finding them again, taking batches of them.

Legend: as in the room's first page; B batch size.

Why: 2026-11: 16 bits are stored as the uint16 that has the same, since NumPy has no bfloat16.

Why: 2026-11: on the CPU NumPy takes the batches: 1.0 ms for 64 of (256, 14, 14), where
`index_select` needed 2 to 5, since NumPy asks for huge pages. For vectors both need 9 µs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesvc import hostcache
from tunesvc.features.key import Key
from tunesvc.hostcache import Draft

_log = logging.getLogger("tunesvc.features")

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TELL_BATCHES = 64  # from one line of progress to the next

Compute = Callable[[int, slice], Tensor]
"""(view, images) → (b, *F) without gradient, of any float type, on any device."""


def _nothing() -> None:
    pass


def fetch(
    key: Key,
    count: int,
    views: int,
    compute: Compute,
    *,
    cache: Path,
    batch_size: int = 256,
    tick: Callable[[], None] = _nothing,
) -> Tensor | None:
    """Return the outputs for a whole split, computed now or before.

    Args:
        key: what they hang on.
        count: N.
        views: K.
        compute: called by the one process that makes them, view after view, in each for one slice
            of images after the other.
        cache: folder of the host's cache.
        batch_size: images of a slice.
        tick: called after every batch, and about every second while another process computes.
            What it raises passes, and nothing is left behind.

    Returns:
        (K, N, *F) in the key's dtype, memory-mapped; None where they may not be kept: a body
        without weights, no room in the cache or on the disk. Then the log says why.
    """
    if not key.weights_sha256:
        return None

    def make(draft: Draft) -> dict[str, Any]:
        slices = [slice(s, min(s + batch_size, count)) for s in range(0, count, batch_size)]
        _fill(draft, key, [(view, rows) for view in range(views) for rows in slices], compute, tick)
        return asdict(key)

    try:
        array = hostcache.fetch(cache, key.name, make, tick=tick).array
    except OSError as error:
        reason = error.strerror or str(error)
        _log.warning("outputs of %s are not kept: %s", _called(key), reason)
        return None
    return torch.from_numpy(array).view(_DTYPES[key.dtype]).view(views, count, *array.shape[1:])


def _fill(
    draft: Draft,
    key: Key,
    parts: Sequence[tuple[int, slice]],
    compute: Compute,
    tick: Callable[[], None],
) -> None:
    """Compute part after part; the first tells how much room all of them need."""
    rows = sum(part.stop - part.start for _, part in parts)
    for number, (view, part) in enumerate(parts):
        outputs = _stored(compute(view, part), key.dtype)
        if number == 0:
            draft.begin(outputs.dtype, (rows, *outputs.shape[1:]))
        if len(outputs) != part.stop - part.start:
            raise ValueError(f"{len(outputs)} outputs for {part.stop - part.start} images")
        draft.append(outputs)
        if number % _TELL_BATCHES == 0:
            _log.info("computing %s: batch %d of %d", _called(key), number + 1, len(parts))
        tick()


def _called(key: Key) -> str:
    return f"{key.cut} stages of {key.backbone} ({key.split}, {key.views})"


def _stored(outputs: Tensor, dtype: str) -> NDArray[Any]:
    """Return outputs as they are written: (b, *F) float32, or the bits of 16-bit numbers."""
    stored = outputs.detach().to("cpu", _DTYPES[dtype]).contiguous()
    kind = np.float32 if dtype == "float32" else np.uint16
    return stored.view(torch.uint8).numpy().view(kind).reshape(stored.shape)


def take(features: Tensor, index: Tensor, view: Tensor | None = None) -> Tensor:
    """Return a batch, (B, *F), as a copy on the features' device.

    Args:
        features: (K, N, *F).
        index: (B,) int64, on the same device; which images.
        view: (B,) int64, likewise; which view of each; null: the first of all.
    """
    row = index if view is None else view * features.shape[1] + index
    rows = features.flatten(0, 1)
    if rows.device.type != "cpu":
        return rows.index_select(0, row)
    bits = rows.view(torch.int16) if rows.dtype == torch.bfloat16 else rows
    return torch.from_numpy(np.take(bits.numpy(), row.numpy(), 0)).view(rows.dtype)
