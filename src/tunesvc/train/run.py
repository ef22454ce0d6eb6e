"""The state of one run: model, optimizer, and where it stands.

Why: 2026-11: chance is drawn anew for each epoch from (seed, epoch), not carried from epoch to
epoch. Between two epochs a resumed run then needs no generator's state to be bit-identical to an
uninterrupted one, also when it goes on in another process or beside another run in the same one.
Between two batches it does: the epoch's order is drawn again from its seed, the batches done are
passed over unread, and the generators are put back to where they stood.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tunesvc import data
from tunesvc.backbones.anatomy import Backbone
from tunesvc.data import Split
from tunesvc.spec import TrialConfig, derive_seed
from tunesvc.strategies import Plan
from tunesvc.tasks import Task
from tunesvc.train.chance import Chance
from tunesvc.train.optimization import optimizer
from tunesvc.train.placement import Placement

# Pixels of one evaluation batch: it must not need more memory than training does.
_EVAL_PIXELS = {"cuda": 2**24, "mps": 2**22, "cpu": 2**20}
_EVAL_IMAGES = 256


@dataclass(eq=False)
class Progress:
    """An epoch under way, between two of its batches.

    Args:
        loss: () float on the device: the sum over the images trained on.
        batches: done.
        images: in them.
        seconds: spent on them.
        chance: where the generators stood when the epoch was interrupted; None while it runs.
    """

    loss: Tensor
    batches: int = 0
    images: int = 0
    seconds: float = 0.0
    chance: dict[str, Any] | None = None


@dataclass(eq=False)
class Run:
    """One configuration under way, from `next_epoch` on.

    `micro_batch` is how many images pass through the model at once, at most: a larger batch is
    learned from in pieces, whose gradients add up to the batch's. It starts as the batch size, and
    whoever knows that this does not fit into memory lowers it before training. Batch-norm then
    takes its statistics from each piece alone, so the numbers of a model that has it change.

    `is_short_of_memory`: evaluation, too, takes no more than `micro_batch` images at once.
    """

    backbone: Backbone
    task: Task
    train: Split
    val: Split
    config: TrialConfig
    placement: Placement
    plan: Plan
    next_epoch: int = field(init=False, default=0)
    module: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    micro_batch: int = field(init=False)
    is_short_of_memory: bool = field(init=False, default=False)
    chance: Chance = field(init=False)
    progress: Progress | None = field(init=False, default=None)  # of the epoch under way

    def __post_init__(self) -> None:
        device = self.placement.device
        module = self.backbone.module.to(device)
        self.module = module.to(memory_format=self.placement.memory_format)
        parameters = dict(self.module.named_parameters())
        self.optimizer = optimizer(self.config.knobs, self.plan.groups, parameters)
        self.micro_batch = self.config.knobs.batch_size
        self.chance = Chance(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that `data.batches` gives: a last one of a single image is left out."""
        full, rest = divmod(len(self.train.targets), self.config.knobs.batch_size)
        return full + (rest > 1)

    @property
    def position(self) -> tuple[int, int]:
        """Return how many epochs are finished, and how many batches of the one under way."""
        return self.next_epoch, self.progress.batches if self.progress else 0

    def begin_epoch(self) -> Progress:
        """Begin the next epoch, or go on with it where it was interrupted.

        Everything is seeded, and the parameters that this epoch trains are freed.

        Returns:
            Its progress, for the caller to advance.
        """
        self.chance.seed(derive_seed(str(self.config.seed), "epoch", self.next_epoch))
        self._free(self.next_epoch)
        if self.progress is None:
            self.progress = Progress(torch.zeros((), device=self.placement.device))
        return self.progress

    def training_batches(self, progress: Progress) -> Iterator[tuple[Tensor, Tensor]]:
        """Return what is left of the epoch just begun, shuffled and augmented.

        Images are (B, 3, crop, crop) float, targets (B,).
        """
        knobs, done = self.config.knobs, progress.batches
        batches = self._batches(  # this draws the order
            self.train, knobs.batch_size, knobs.augmentation, training=True, skip=done
        )
        if progress.chance is not None:
            self.chance.load_state_dict(progress.chance)
            progress.chance = None
        return batches

    def pause(self) -> None:
        """Note where chance stands: others may draw before the run is saved or goes on."""
        if self.progress is not None:
            self.progress.chance = self.chance.state_dict()

    def end_epoch(self) -> None:
        """The epoch under way is finished."""
        self.next_epoch += 1
        self.progress = None

    def _free(self, index: int) -> None:
        begun = [phase for phase in self.plan.phases if phase.first_epoch <= index]
        trainable = begun[-1].trainable
        self.module.train()
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(name in trainable)
        for stage in self.backbone.stages:
            if stage.parameters and trainable.isdisjoint(stage.parameters):
                for name in stage.modules:
                    self.module.get_submodule(name).eval()
        if self.config.knobs.frozen_bn and self.plan.pretrained:
            for module in self.module.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    @property
    def evaluation_batch(self) -> int:
        """How many images are evaluated at once."""
        pixels = _EVAL_PIXELS[self.placement.device.type]
        images = min(_EVAL_IMAGES, max(1, pixels // self.backbone.transform.crop**2))
        if self.is_short_of_memory or self.micro_batch < self.config.knobs.batch_size:
            return min(images, self.micro_batch)
        return images

    def evaluation_batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Return a split in its order: images (B, 3, crop, crop) float, targets (B,)."""
        return self._batches(split, self.evaluation_batch, "none", training=False)

    def _batches(
        self, split: Split, batch_size: int, augmentation: str, *, training: bool, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        transform, memory_format = self.backbone.transform, self.placement.memory_format
        batches = data.batches(
            split,
            batch_size,
            crop=transform.crop,
            mean=transform.mean,
            std=transform.std,
            augmentation=augmentation,
            training=training,
            generator=self.chance.order,
            device=self.placement.device,
            skip=skip,
        )
        return ((i.contiguous(memory_format=memory_format), t) for i, t in batches)

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's outputs, (B, num_outputs) float32."""
        with self.placement.precision():
            outputs: Tensor = self.module(images)
        return outputs.float()

    def state_dict(self) -> dict[str, Any]:
        """Return what a later process needs to go on from here: between two epochs, or two batches.

        Parameters that are never trained are left out: the backbone's weights hold them. The
        tensors are the run's own, not copies: save them before training goes on.
        """
        progress = None
        if self.progress is not None:
            chance = self.progress.chance or self.chance.state_dict()
            progress = {**vars(self.progress), "chance": chance}
        return {
            "next_epoch": self.next_epoch,
            "progress": progress,
            "model": {
                n: t for n, t in self.module.state_dict().items() if n not in self._untrained
            },
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken; the run must be of the same configuration."""
        self.module.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.next_epoch, self.progress = state["next_epoch"], None
        if state["progress"] is not None:
            self.progress = Progress(**state["progress"])
            self.progress.loss = self.progress.loss.to(self.placement.device, copy=True)

    @cached_property
    def _untrained(self) -> frozenset[str]:
        trained = {name for group in self.plan.groups for name in group.names}
        return frozenset(name for name, _ in self.module.named_parameters()) - trained

    @property
    def parameters_total(self) -> int:
        """How many numbers the model has."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def parameters_trainable(self) -> int:
        """How many of them some epoch trains."""
        named = self.module.named_parameters()
        return sum(p.numel() for name, p in named if name not in self._untrained)

    @property
    def peak_memory_mb(self) -> float:
        """The most memory in use so far: the run's own on CUDA, else the whole process's."""
        if self.placement.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.placement.device) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux
