"""What the outputs of frozen stages hang on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

_FORMAT = 1  # raise it when the same key comes to mean other outputs: they are then made anew


@dataclass(frozen=True)
class Key:
    """Two runs with equal keys get the same outputs.

    Why: 2026-11: torch's version and the device are left out. They move the last digits, and
    runs of one study may be computed on several devices anyhow.

    Args:
        backbone: name and constructor arguments.
        weights_sha256: of the weights file; "" for a random start, whose outputs are not kept.
        cut: how many leading stages are frozen.
        transform: resize, crop, interpolation, mean and std.
        fingerprint: of the data.
        split: "train" or "val".
        views: how the views are made: augmentation, seed, number; that they are centre crops.
        skipped: tells apart which unreadable images of the split were left out; 0: none.
        precision: the type that was computed in: "float32", or autocast's.
        dtype: the type that is stored: "float32", "bfloat16" or "float16".
    """

    backbone: str
    weights_sha256: str
    cut: int
    transform: str
    fingerprint: str
    split: str
    views: str
    skipped: int = 0
    precision: str = "float32"
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """A file name that stands for all of it."""
        fields = json.dumps({"format": _FORMAT} | asdict(self), sort_keys=True)
        return f"features-{hashlib.sha256(fields.encode()).hexdigest()[:32]}"
