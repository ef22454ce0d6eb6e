"""Outputs of a backbone's frozen leading stages, for both splits: computed once, or not at all.

    n    leading stages that are frozen
    K    fixed views of a training image; a validation image has one
    F    shape of what the stages give for one image

Why: 2026-11: outputs are computed for all K views before the first batch, which costs K epochs of
the frozen stages' forward pass. A phase of one epoch in the middle of a backbone (gradual
unfreezing) would pay that for a single use, so there the whole model is run. After the last stage
they are so small, and wanted by so many trials, that they are always computed. Each view is an
entry of its own: the image itself and its mirror image are the same under every augmentation.
"""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tunesvc import features
from tunesvc.backbones import Cut
from tunesvc.data import Split
from tunesvc.features import Compute, Key

if TYPE_CHECKING:
    from tunesvc.train.inputs import Inputs
    from tunesvc.train.placement import Placement

Tick = Callable[[], None]

_HELD = 12  # splits whose outputs a worker holds; what it maps of the cache cannot be evicted
_LEAST_EPOCHS = 2  # of a phase that outputs in the middle of a backbone are computed for


@dataclass(frozen=True, eq=False)
class Views:
    """What the frozen stages give for the fixed views of a split.

    Args:
        each: K tensors, (N, *F) float32 or bfloat16, mapped from files; none where all are stacked.
        stacked: (K, N, *F), in one piece on the device; None where that has no room.
    """

    each: tuple[Tensor, ...]
    stacked: Tensor | None

    def one(self, view: int) -> Tensor:
        """Return the outputs for one view, (N, *F)."""
        return self.each[view] if self.stacked is None else self.stacked[view]

    def take(self, index: Tensor, view: Tensor) -> Tensor:
        """Return a batch, (B, *F), as a copy.

        Args:
            index: (B,) int64 on the CPU; which images.
            view: (B,) int64 on the CPU; which view of each.
        """
        if self.stacked is not None:
            device = self.stacked.device
            return features.take(self.stacked, index.to(device), view.to(device))
        taken = self.each[0].new_empty((len(index), *self.each[0].shape[1:]))
        for number, outputs in enumerate(self.each):
            (where,) = torch.nonzero(view == number, as_tuple=True)
            taken[where] = features.take(outputs[None], index[where])
        return taken


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the frozen stages give for both splits, and what comes after them.

    Args:
        train: K views.
        val: one.
        rest: (B, *F) → (B, num_outputs); the later stages, and the head.
    """

    train: Views
    val: Views
    rest: nn.Module


Freezer = Callable[["Inputs", int, int, Tick], Outputs | None]


def nothing_kept(_inputs: Inputs, _frozen: int, _epochs: int, _tick: Tick) -> None:
    """Have every run compute everything: a `Freezer`."""


@dataclass(eq=False)
class Shared:
    """Outputs that lie in the host's cache, for all workers on it.

    Args:
        fingerprint: of the data.
        cache: folder of the outputs.
    """

    fingerprint: str
    cache: Path
    _held: OrderedDict[tuple[Key, ...], Views] = field(init=False, default_factory=OrderedDict)

    def freezer(self, cut: Callable[[int], Cut | None]) -> Freezer:
        """Return the freezer for one backbone.

        Args:
            cut: returns the backbone cut after so many stages.
        """

        def freeze(inputs: Inputs, frozen: int, epochs: int, tick: Tick) -> Outputs | None:
            is_middle = frozen < len(inputs.backbone.stages)
            found = None if is_middle and epochs < _LEAST_EPOCHS else cut(frozen)
            if found is None:
                return None
            val = self._views(inputs, frozen, found.prefix, inputs.val, tick)
            train = val and self._views(inputs, frozen, found.prefix, inputs.train, tick)
            return Outputs(train, val, found.rest) if val and train else None

        return freeze

    def _views(
        self, inputs: Inputs, frozen: int, prefix: nn.Module, split: Split, tick: Tick
    ) -> Views | None:
        """Return a split's outputs; None where they cannot be kept."""
        names = inputs.view_names(split)
        keys = tuple(self._key(inputs, frozen, split, name) for name in names)
        if keys not in self._held:
            made = []
            for number, key in enumerate(keys):
                compute = _compute(inputs, prefix, split, number)
                batch, count = inputs.at_once, len(split.targets)
                outputs = features.fetch(
                    key, count, 1, compute, cache=self.cache, batch_size=batch, tick=tick
                )
                if outputs is None:
                    return None
                made.append(outputs[0])
            self._held[keys] = self._admitted(made, inputs.placement)
        self._held.move_to_end(keys)
        return self._held[keys]

    def clear(self) -> None:
        """Hold nothing any more; the cache keeps it."""
        self._held.clear()

    def _admitted(self, made: Sequence[Tensor], placement: Placement) -> Views:
        """Put the views in one piece on the device, if those used longest ago can make room."""
        size = sum(outputs.nbytes for outputs in made)
        fits = size <= placement.room(self._bytes)
        while len(self._held) >= _HELD or (
            fits and self._bytes + size > placement.room(self._bytes)
        ):
            self._held.popitem(last=False)
        if not fits:
            return Views(tuple(made), None)
        return Views((), torch.stack(list(made)).to(placement.device))

    @property
    def _bytes(self) -> int:
        stacked = (views.stacked for views in self._held.values())
        return sum(outputs.nbytes for outputs in stacked if outputs is not None)

    def _key(self, inputs: Inputs, frozen: int, split: Split, view: str) -> Key:
        spec = inputs.config.backbone
        dtype = inputs.placement.computed_in
        return Key(
            backbone=spec.model_dump_json(include={"name", "kwargs"}),
            weights_sha256=inputs.backbone.weights_sha256,
            cut=frozen,
            transform=repr(inputs.backbone.transform),
            fingerprint=self.fingerprint,
            split="train" if split is inputs.train else "val",
            views=view,
            skipped=zlib.crc32("\n".join(split.skipped).encode()),
            precision=dtype,
            dtype=dtype,
        )


def _compute(inputs: Inputs, prefix: nn.Module, split: Split, view: int) -> Compute:
    """Return what gives the outputs for one view, batch after batch in the split's order."""
    batches: list[Iterator[Tensor]] = []

    @torch.inference_mode()
    def compute(_view: int, _samples: slice) -> Tensor:
        start = time.perf_counter()
        if not batches:
            prefix.eval()
            batches.append(inputs.of_view(split, view, inputs.at_once))
        images = next(batches[0])
        with inputs.placement.precision():
            outputs: Tensor = prefix(images)
        inputs.computing += time.perf_counter() - start
        return outputs

    return compute
