"""One trial's configuration: what the study side hands to the training side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tunesvc.spec.knobs import Knobs
from tunesvc.spec.study_spec import BackboneSpec


@dataclass(frozen=True)
class TrialConfig:
    """Everything that one run needs to know, the data aside."""

    backbone: BackboneSpec
    knobs: Knobs
    epochs: int
    seed: int


def derive_seed(digest: str, *parts: str | int) -> int:
    """Return a seed below 2**31 that depends only on the study's digest and `parts`."""
    text = ":".join([digest, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
