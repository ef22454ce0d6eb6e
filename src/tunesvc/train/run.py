"""The state of one run: model, optimizer, and where it stands.

Why: 2026-11: chance is drawn anew for each epoch from (seed, epoch), not carried from epoch to
epoch. Between two epochs a resumed run then needs no generator's state to be bit-identical to an
uninterrupted one, also when it goes on in another process or beside another run in the same one.
Between two batches it does: the epoch's order and augmentation are drawn again from its seed, the
batches done are passed over unread, and the generators that dropout and mixing draw from are put
back to where they stood.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tunesvc.backbones.anatomy import Backbone
from tunesvc.data import Split
from tunesvc.spec import TrialConfig, derive_seed
from tunesvc.strategies import Phase, Plan
from tunesvc.tasks import Task
from tunesvc.tasks.image_classification import ImageClassification
from tunesvc.train.chance import Chance
from tunesvc.train.compiled import Compiling
from tunesvc.train.counts import Counts
from tunesvc.train.frozen import Freezer, nothing_kept
from tunesvc.train.inputs import Batches, Inputs
from tunesvc.train.optimization import optimizer
from tunesvc.train.placement import Placement

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


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

    `freezer` gives the outputs of frozen stages; `compiling` decides which steps are compiled.
    """

    backbone: Backbone
    task: Task
    train: Split
    val: Split
    config: TrialConfig
    placement: Placement
    plan: Plan
    freezer: Freezer = nothing_kept
    is_warm: bool = False  # the backbone was built for an earlier run
    compiling: Compiling = field(default_factory=Compiling)
    inputs: Inputs = field(init=False)
    next_epoch: int = field(init=False, default=0)
    module: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)  # of losses in float16; else it does nothing
    micro_batch: int = field(init=False)
    is_short_of_memory: bool = field(init=False, default=False)
    chance: Chance = field(init=False)
    progress: Progress | None = field(init=False, default=None)  # of the epoch under way
    _phase: Phase | None = field(init=False, default=None)  # whose parameters are free
    _live: list[nn.Module] = field(init=False)  # what is not frozen in it
    _metrics: MetricCollection | Counts | None = field(init=False, default=None)
    begun: float | None = field(init=False, default=None)  # by `time.perf_counter`: its first step

    def __post_init__(self) -> None:
        device = self.placement.device
        self.inputs = Inputs(
            self.backbone, self.train, self.val, self.config, self.placement, self.plan,
            self.freezer,
        )  # fmt: skip
        self.module = self.backbone.module
        if not self.is_warm:  # else it is there already
            self.module.to(device)
            self.module.to(memory_format=self.placement.memory_format)
        self._live = [self.module]
        self.optimizer = optimizer(self.config.knobs, self.plan.groups, self.backbone.parameters)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.placement.is_scaled)
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

    def freeze(self, tick: Callable[[], None]) -> None:
        """Have what this epoch's frozen stages give at hand, computed now if need be."""
        self.inputs.freeze(self.next_epoch, self.evaluation_batch, tick)

    def training_batches(self, progress: Progress) -> Batches:
        """Return what is left of the epoch just begun, shuffled and augmented."""
        batches = self.inputs.training(self.chance.order, progress.batches)
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
        """Have this epoch's parameters trained, and its modules behave as in training."""
        phase = [phase for phase in self.plan.phases if phase.first_epoch <= index][-1]
        if phase is not self._phase:
            self._phase, self._live = phase, self._trained_modules(phase)
            self.module.eval()
            for name, parameter in self.backbone.parameters.items():
                parameter.requires_grad_(name in phase.trainable)
        self.behave(training=True)

    def _trained_modules(self, phase: Phase) -> list[nn.Module]:
        """Return what is not frozen: the whole model, or some of its stages and the head."""
        frozen = [
            stage
            for stage in self.backbone.stages
            if stage.parameters and phase.trainable.isdisjoint(stage.parameters)
        ]
        if not frozen:
            return [self.module]
        parts = (*self.backbone.stages, self.backbone.head)
        names = [name for stage in parts if stage not in frozen for name in stage.modules]
        return [self.module.get_submodule(name) for name in names]

    def behave(self, *, training: bool) -> None:
        """Set what is not frozen to training, or the model to evaluation; frozen is always so.

        Why: 2026-11: setting every module of MobileNetV2 takes 3 ms, longer than a head's epoch.
        """
        for module in self._live:
            module.train(training)
            if training and self.config.knobs.frozen_bn and self.plan.pretrained:
                for part in module.modules():
                    if isinstance(part, _BatchNorm):
                        part.eval()

    @property
    def evaluation_batch(self) -> int:
        """How many images are evaluated at once."""
        images = self.inputs.evaluation_batch
        if self.is_short_of_memory or self.micro_batch < self.config.knobs.batch_size:
            return min(images, self.micro_batch)
        return images

    def evaluation_batches(self, split: Split) -> Batches:
        """Return a split in its order."""
        return self.inputs.evaluation(split, self.evaluation_batch, self.chance.order)

    def fresh_metrics(self, outputs: int) -> MetricCollection | Counts:
        """Return the task's metrics, of nothing yet; made once: torchmetrics' take milliseconds."""
        if self._metrics is None:
            device = self.placement.device
            is_usual = type(self.task) is ImageClassification
            self._metrics = (
                Counts(outputs, device)
                if is_usual
                else self.task.metric_collection(outputs).to(device)
            )
        self._metrics.reset()
        return self._metrics

    def forward(self, given: Tensor, evaluated: Split | None = None) -> Tensor:
        """Return the model's outputs, (B, num_outputs) float32.

        Args:
            given: a batch of training (B, …), or of the split that is evaluated.
        """
        module = self.inputs.module(evaluated)
        with self.placement.precision():
            is_training = evaluated is None
            outputs = self.compiling.forward(module, given) if is_training else module(given)
            return outputs.float()

    def state_dict(self) -> dict[str, Any]:
        """Return what a later process needs to go on from here: between two epochs, or two batches.

        What is never trained is left out: the backbone's weights hold it. The
        tensors are the run's own, not copies: copy or save them before training goes on.
        """
        progress = None
        if self.progress is not None:
            chance = self.progress.chance or self.chance.state_dict()
            progress = {**vars(self.progress), "chance": chance}
        return {
            "next_epoch": self.next_epoch,
            "progress": progress,
            "model": self._values(self.changing),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _values(self, names: Collection[str]) -> dict[str, Tensor]:
        return {n: t.detach() for n, t in self.backbone.tensors.items() if n in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken; the run must be of the same configuration."""
        self.module.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.placement.is_scaled and state.get("scaler"):  # whose worker may have been another
            self.scaler.load_state_dict(state["scaler"])
        self.next_epoch, self.progress = state["next_epoch"], None
        if state["progress"] is not None:
            self.progress = Progress(**state["progress"])
            self.progress.loss = self.progress.loss.to(self.placement.device, copy=True)

    @cached_property
    def trained(self) -> frozenset[str]:
        """The names of the parameters that some epoch trains."""
        return self.plan.trained

    @cached_property
    def changing(self) -> frozenset[str]:
        """The names of what does not stay as the weights have it: parameters, and statistics."""
        still = [s for s in self.backbone.stages if self.trained.isdisjoint(s.parameters)]
        owners = tuple(f"{name}." for stage in still if stage.parameters for name in stage.modules)
        buffers = self.backbone.buffers
        return self.trained | {name for name in buffers if not name.startswith(owners)}

    @property
    def parameters_total(self) -> int:
        """How many numbers the model has."""
        return self.backbone.size

    @property
    def parameters_trainable(self) -> int:
        """How many of them some epoch trains."""
        known = self.backbone.parameters
        return sum(known[name].numel() for name in self.trained)

    @property
    def peak_memory_mb(self) -> float:
        """The most memory in use so far: the run's own on CUDA, else the whole process's."""
        if self.placement.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.placement.device) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux
