"""The state of one run: model, optimizer, and where it stands.

Why: 2026-11: chance is drawn anew for each epoch from (seed, epoch), not carried from epoch to
epoch. A resumed run then needs no generator's state to be bit-identical to an uninterrupted one,
also when it goes on in another process or beside another run in the same one.
"""

from __future__ import annotations

import random
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
from tunesvc.train.optimization import optimizer
from tunesvc.train.placement import Placement

# Pixels of one evaluation batch: it must not need more memory than training does.
_EVAL_PIXELS = {"cuda": 2**24, "mps": 2**22, "cpu": 2**20}


def seed(value: int) -> None:
    """Seed torch's global generators, from which new layers and dropout are drawn."""
    torch.manual_seed(value)


@dataclass(eq=False)
class Run:
    """One configuration under way, from `next_epoch` on."""

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
    _generator: torch.Generator = field(init=False, default_factory=torch.Generator)

    def __post_init__(self) -> None:
        device = self.placement.device
        module = self.backbone.module.to(device)
        self.module = module.to(memory_format=self.placement.memory_format)
        parameters = dict(self.module.named_parameters())
        self.optimizer = optimizer(self.config.knobs, self.plan.groups, parameters)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that `data.batches` gives: a last one of a single image is left out."""
        full, rest = divmod(len(self.train.targets), self.config.knobs.batch_size)
        return full + (rest > 1)

    def begin_epoch(self, index: int) -> random.Random:
        """Seed everything, and free the parameters that this epoch trains.

        Returns:
            The source of chance for mixing.
        """
        chance = derive_seed(str(self.config.seed), "epoch", index)
        seed(chance)
        self._generator.manual_seed(chance)
        self._free(index)
        return random.Random(chance)

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

    def training_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one shuffled, augmented epoch: images (B, 3, crop, crop) float, targets (B,)."""
        knobs = self.config.knobs
        return self._batches(self.train, knobs.batch_size, knobs.augmentation, training=True)

    def evaluation_batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a split in its order: images (B, 3, crop, crop) float, targets (B,)."""
        pixels = _EVAL_PIXELS[self.placement.device.type]
        batch_size = min(256, max(1, pixels // self.backbone.transform.crop**2))
        return self._batches(split, batch_size, "none", training=False)

    def _batches(
        self, split: Split, batch_size: int, augmentation: str, *, training: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        transform = self.backbone.transform
        for images, targets in data.batches(
            split,
            batch_size,
            crop=transform.crop,
            mean=transform.mean,
            std=transform.std,
            augmentation=augmentation,
            training=training,
            generator=self._generator,
            device=self.placement.device,
        ):
            yield images.contiguous(memory_format=self.placement.memory_format), targets

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's outputs, (B, num_outputs) float32."""
        with self.placement.precision():
            outputs: Tensor = self.module(images)
        return outputs.float()

    def state_dict(self) -> dict[str, Any]:
        """Return what a later process needs to go on after the last finished epoch.

        Parameters that are never trained are left out: the backbone's weights hold them. The
        tensors are the run's own, not copies: save them before the next epoch begins.
        """
        return {
            "next_epoch": self.next_epoch,
            "model": {
                n: t for n, t in self.module.state_dict().items() if n not in self._untrained
            },
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken; the run must be of the same configuration."""
        self.module.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.next_epoch = state["next_epoch"]

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
