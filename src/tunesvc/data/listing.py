"""What a data set holds: before it is split, split, and decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Items:
    """One split before decoding.

    `images` are paths, or (N, H, W) or (N, H, W, 3) uint8; `targets` are (N,) int64 class
    indices, or (N,) float32 numbers.
    """

    images: Sequence[Path] | NDArray[np.uint8]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)

    def pick(self, positions: NDArray[np.int64]) -> Items:
        """Return the items at these positions, in this order."""
        if isinstance(self.images, np.ndarray):
            return Items(self.images[positions], self.targets[positions])
        return Items([self.images[i] for i in positions], self.targets[positions])


@dataclass(frozen=True)
class Found:
    """What a source holds, divided only as far as the source itself divides it.

    `parts` has "train", and "val" and "test" where the source brings them. File names are told
    relative to `root`.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Items]
    root: Path


@dataclass(frozen=True)
class Listing:
    """A data set divided into splits.

    `classes` is () for number targets. `splits` has "train", "val", and "test" where there is
    one. `fingerprint` (hex) tells contents, labels and division apart, not the place.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Items]
    fingerprint: str


@dataclass(frozen=True)
class Split:
    """One split, decoded.

    `images` are (N, 3, S, S) uint8 RGB, memory-mapped; `targets` (N,) int64 or float32;
    `skipped` names the unreadable images that were left out.
    """

    images: Tensor
    targets: Tensor
    skipped: tuple[str, ...] = ()


def describe(listing: Listing) -> dict[str, Any]:
    """Return the counts of each split, JSON-able: per class, or the spread of the numbers."""
    classes = {"classes": list(listing.classes)} if listing.classes else {}
    return {
        "fingerprint": listing.fingerprint,
        **classes,
        "splits": {
            name: {"images": len(items)} | _targets(items.targets, listing.classes)
            for name, items in listing.splits.items()
        },
    }


def _targets(targets: NDArray[Any], classes: tuple[str, ...]) -> dict[str, Any]:
    if classes:
        counts = np.bincount(targets, minlength=len(classes)).tolist()
        return {"per_class": dict(zip(classes, counts, strict=True))}
    return {
        "target": {
            "min": float(targets.min()),
            "mean": float(targets.mean()),
            "max": float(targets.max()),
        }
    }
