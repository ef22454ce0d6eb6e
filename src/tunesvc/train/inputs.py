"""What a run's model is given: images, or what its frozen stages have made of them before.

Why: 2026-11: frozen leading stages give the same output for the same image, epoch after epoch and
trial after trial. Where training images come in a few fixed views, those outputs are computed once
per host (`frozen`), and only the rest of the model is run. Fixed views are the study's choice, so
whether the outputs were there, or could be kept at all, changes no number beyond rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tunesvc import data
from tunesvc.backbones.anatomy import Backbone
from tunesvc.data import Split
from tunesvc.spec import TrialConfig
from tunesvc.strategies import Plan
from tunesvc.train.frozen import Freezer, Outputs, Views
from tunesvc.train.placement import Placement

VIEWS = 4  # of each image, before frozen stages: itself, its mirror image, two random crops

Batches = Iterator[tuple[Tensor, Tensor]]  # what the model is given (B, …) float, targets (B,)

# Pixels of one evaluation batch: it must not need more memory than training does.
# Why: 2026-11: on the CPU twice as many took no less time (MobileNetV2 and ResNet-18 at 64 to 224
# pixels), and more memory than training a small net. Never too few: batch norms are measured, too.
_EVAL_PIXELS = {"cuda": 2**24, "mps": 2**22, "cpu": 2**18}
_EVAL_IMAGES = (8, 256)  # at least, at most


@dataclass(eq=False)
class Inputs:
    """The batches of one run, epoch by epoch.

    Args:
        freezer: gives the outputs of frozen stages.
    """

    backbone: Backbone
    train: Split
    val: Split
    config: TrialConfig
    placement: Placement
    plan: Plan
    freezer: Freezer
    frozen: int = field(init=False, default=0)  # leading stages, in the epoch under way
    outputs: Outputs | None = field(init=False, default=None)  # of those stages
    at_once: int = field(init=False, default=_EVAL_IMAGES[1])  # images, where outputs are computed
    computing: float = field(init=False, default=0.0)  # seconds that computing them has taken
    used: list[dict[str, Any]] = field(init=False, default_factory=list)

    # ---- frozen stages

    def freeze(self, epoch: int, images: int, tick: Callable[[], None]) -> None:
        """Have the outputs of an epoch's frozen stages at hand, computed now if need be.

        Args:
            images: that pass through the stages at once.
        """
        frozen = self._leading_frozen(epoch) if self._has_fixed_views else 0
        if frozen == self.frozen:
            return
        self.at_once, self.outputs, start = images, None, time.perf_counter()
        self.computing = 0.0
        self.frozen, before = frozen, self.frozen
        if frozen:
            try:
                self.outputs = self.freezer(self, frozen, self._phase_end(epoch) - epoch, tick)
            except BaseException:
                self.frozen = before  # to be tried again
                raise
            self._note(epoch, time.perf_counter() - start)

    def _note(self, epoch: int, seconds: float) -> None:
        self.used.append(
            {
                "from_epoch": epoch + 1,
                "stages": self.frozen,
                "of": len(self.backbone.stages),
                "views": self.views,
                "outputs_known": self.outputs is not None,
                "seconds": round(seconds, 4),
                "computing": round(self.computing, 4),
            }
        )

    @property
    def _has_fixed_views(self) -> bool:
        knobs = self.config.knobs
        return self.config.is_cached and not (knobs.mixup or knobs.cutmix)

    def _leading_frozen(self, epoch: int) -> int:
        """Count the leading stages of which nothing has been trained when this epoch ends."""
        begun = (p.trainable for p in self.plan.phases if p.first_epoch <= epoch)
        trained = frozenset[str]().union(*begun)
        stages = enumerate(self.backbone.stages)
        touched = (i for i, stage in stages if not trained.isdisjoint(stage.parameters))
        return next(touched, len(self.backbone.stages))

    def _phase_end(self, epoch: int) -> int:
        later = (p.first_epoch for p in self.plan.phases if p.first_epoch > epoch)
        return next(later, self.config.epochs)

    @property
    def views(self) -> int:
        """How many fixed views there are of a training image; 0: it is augmented anew each time."""
        if not self.frozen:
            return 0
        return 1 if self.config.knobs.augmentation == "none" else VIEWS

    def view_names(self, split: Split) -> list[str]:
        """Return what each fixed view of a split is; equal names mean equal images."""
        drawn = [f"{self.config.knobs.augmentation} {number}" for number in range(2, VIEWS)]
        every = ["itself", "mirrored", *drawn]
        return every[: self.views] if split is self.train else every[:1]

    def of_view(self, split: Split, view: int, batch_size: int) -> Iterator[Tensor]:
        """Return the images of one view of a split, in its order: (B, 3, crop, crop) float."""
        transform, place = self.backbone.transform, self.placement
        views = data.views(
            self.config.knobs.augmentation if split is self.train else "none",
            len(split.targets), size=split.images.shape[-1], crop=transform.crop, number=VIEWS,
        )  # fmt: skip
        return data.of_view(
            split, views[view], batch_size, mean=transform.mean, std=transform.std,
            device=place.device, memory_format=place.memory_format,
        )  # fmt: skip

    # ---- batches

    def module(self, evaluated: Split | None) -> nn.Module:
        """Return what takes the batches of training (None), or of an evaluated split."""
        is_cut = self.outputs is not None and (evaluated is None or evaluated is self.val)
        return self.outputs.rest if self.outputs is not None and is_cut else self.backbone.module

    def training(self, order: torch.Generator, skip: int) -> Batches:
        """Return one epoch, shuffled and augmented, the first `skip` batches left out unread.

        Everything is drawn from `order` now.
        """
        knobs = self.config.knobs
        if self.outputs is None:
            return self._images(
                self.train, knobs.batch_size, knobs.augmentation, order, training=True, skip=skip
            )
        count = len(self.train.targets)
        picks = data.plan(
            count, knobs.batch_size, training=True, generator=order, views=self.views, skip=skip
        )
        return self._taken(self.outputs.train, self.train.targets, picks)

    def evaluation(self, split: Split, batch_size: int, order: torch.Generator) -> Batches:
        """Return a split in its order; nothing is drawn."""
        if self.outputs is None or split is not self.val:
            return self._images(split, batch_size, "none", order, training=False)
        picks = data.plan(len(split.targets), batch_size, training=False, generator=order)
        return self._taken(self.outputs.val, split.targets, picks)

    @property
    def evaluation_batch(self) -> int:
        """How many images are evaluated at once where memory allows it."""
        (least, most), pixels = _EVAL_IMAGES, _EVAL_PIXELS[self.placement.device.type]
        return min(most, max(least, pixels // self.backbone.transform.crop**2))

    def _images(
        self, split: Split, batch_size: int, augmentation: str, order: torch.Generator,
        *, training: bool, skip: int = 0,
    ) -> Batches:  # fmt: skip
        transform, place = self.backbone.transform, self.placement
        return data.batches(
            split, batch_size, crop=transform.crop, mean=transform.mean, std=transform.std,
            augmentation=augmentation, training=training, generator=order, device=place.device,
            skip=skip, views=self.views if training else 0, memory_format=place.memory_format,
        )  # fmt: skip

    def _taken(
        self, outputs: Views, targets: Tensor, picks: Iterable[tuple[Tensor, Tensor]]
    ) -> Batches:
        device = self.placement.device
        targets = targets.to(device)
        for index, view in picks:
            taken = outputs.take(index, view).to(device)
            yield self.placement.laid_out(taken), targets[index.to(device)]
