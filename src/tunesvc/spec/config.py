"""One trial's configuration: what the study side hands to the training side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tunesvc.spec.data_spec import BackboneSpec
from tunesvc.spec.knobs import Knobs
from tunesvc.spec.search_spec import GivenSampler
from tunesvc.spec.study_spec import StudySpec


@dataclass(frozen=True)
class TrialConfig:
    """Everything that one run needs to know, the data aside."""

    backbone: BackboneSpec
    knobs: Knobs
    epochs: int
    seed: int
    is_cached: bool = False  # frozen stages see fixed views, whose outputs may be kept
    evaluated: frozenset[int] | None = None  # epochs, from 1 on, besides the last; None: all

    def is_evaluated(self, epoch: int) -> bool:
        """Whether validation follows an epoch, counted from 1."""
        return self.evaluated is None or epoch in self.evaluated or epoch == self.epochs

    @property
    def pretrained(self) -> bool:
        """Whether the body starts from its pretrained weights."""
        return self.knobs.strategy != "from-scratch"


def derive_seed(digest: str, *parts: str | int) -> int:
    """Return a seed below 2**31 that depends only on the study's digest and `parts`."""
    text = ":".join([digest, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def trial_seed(spec: StudySpec, number: int) -> int:
    """Return the seed of the trial of this number.

    Each has its own; where runs are given, those that are to be compared share one.
    """
    given = spec.sampler.runs if isinstance(spec.sampler, GivenSampler) else ()
    if number < len(given):
        return derive_seed(spec.digest, "seed", given[number].seed)
    return derive_seed(spec.digest, "trial", number)
