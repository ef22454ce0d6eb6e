"""Head-only trials on the same features, trained together.

    G    heads in the stack
    K    views of the N training images, D features of each; M validation images
    C    outputs of a head

But for rounding, a head's numbers do not depend on which others are in its stack, nor on when those
leave it: each has its own order of images, its own dropout and its own optimizer's state.

Why: 2026-11: a stack is divided into bundles of one optimizer, each small enough that a step's
features stay in a CPU's cache; every bundle is trained for a whole epoch before the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from tunesvc.train.bundle import Batches, Bundle, Draw, HeadJob
from tunesvc.train.stacked_losses import loss_of
from tunesvc.train.stacked_metrics import measure

if TYPE_CHECKING:
    from torch import Tensor

    from tunesvc.spec import Knobs
    from tunesvc.tasks import Task

__all__ = ["Batches", "Draw", "HeadEpoch", "HeadJob", "Stack", "groups", "stackable"]

# Bytes of features and weights that a step of one bundle may touch.
_BUNDLE_BYTES = {"cpu": 2**23, "cuda": 2**30}


@dataclass(frozen=True)
class HeadEpoch:
    """What one epoch brought for one head.

    Args:
        job: its place in the stack's jobs.
        index: of the epoch, counted from 0.
        metrics: of the validation split: all of the task's, "loss" included.
        train_loss: mean over the epoch, as it was minimized.
        seconds: "train" and "eval", the stack's shared evenly among its heads.
        diverged: the split whose loss is no longer a number; the head has left the stack.
    """

    job: int
    index: int
    metrics: dict[str, float]
    train_loss: float
    seconds: dict[str, float]
    diverged: Literal["train", "validation"] | None


def stackable(knobs: Knobs) -> bool:
    """Tell whether a head can be trained in a stack: mixed images have no features."""
    return not (knobs.mixup or knobs.cutmix)


def groups(jobs: Sequence[HeadJob]) -> list[list[int]]:
    """Return which jobs can share a stack: as many steps of the same size.

    Those that are not stackable are in none.
    """
    found: dict[tuple[int, int], list[int]] = {}
    for number, job in enumerate(jobs):
        if stackable(job.knobs):
            found.setdefault((job.knobs.batch_size, job.epochs), []).append(number)
    return list(found.values())


def _nothing() -> None:
    pass


class Stack:
    """Heads under way; `epoch()` takes all of them one epoch further.

    Args:
        features: (K, N, D) float: of every view of the training images.
        targets: (N,).
        val_features: (M, D) float.
        val_targets: (M,).
        jobs: one of `groups`.
        task: what is learned.
        draw: (job, epoch) ↦ batches of (index (B,) int64, view (B,) int64) on the CPU; the sizes
            must be the same for every job and epoch.
        device: where everything is held.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        val_features: Tensor,
        val_targets: Tensor,
        *,
        jobs: Sequence[HeadJob],
        task: Task,
        draw: Draw,
        device: torch.device,
    ) -> None:
        if len(groups(jobs)) != 1 or not all(stackable(job.knobs) for job in jobs):
            raise ValueError("these jobs are not one of `groups`")
        self._features, self._targets = features.to(device), targets.to(device)
        self._val_features = val_features.to(device, torch.float32)
        self._val_targets = val_targets.to(device)
        self._task, self._draw, self._epochs = task, draw, jobs[0].epochs
        self._bundles = list(_bundles(jobs, task, device))
        self._next_epoch = 0
        self._running: Iterator[None] | None = None
        self._losses: list[Tensor] = []
        self._seconds = 0.0

    @property
    def alive(self) -> tuple[int, ...]:
        """The jobs that neither diverged nor were dropped, by number."""
        return tuple(sorted(number for bundle in self._bundles for number in bundle.numbers))

    def drop(self, job: int) -> None:
        """Train a head no further; between two epochs only."""
        self._bundles = [bundle for bundle in self._bundles if bundle.numbers != [job]]
        for bundle in self._bundles:
            if job in bundle.numbers:
                bundle.keep([number for number in bundle.numbers if number != job])

    def head(self, job: int) -> tuple[Tensor, Tensor]:
        """Return a living head as it stands, (C, D) and (C,) float32 on the CPU."""
        (bundle,) = (bundle for bundle in self._bundles if job in bundle.numbers)
        return bundle.head(job)

    def epoch(self, tick: Callable[[], None] = _nothing) -> list[HeadEpoch]:
        """Take every living head one epoch further; none is left to take where all are done.

        Args:
            tick: called after every step. What it raises passes, and the next call goes on there.
        """
        if self._next_epoch == self._epochs or not self._bundles:
            return []
        if self._running is None:
            self._running, self._seconds = self._train(), 0.0
        start = time.perf_counter()
        try:
            for _ in self._running:
                tick()
            losses = torch.cat(self._losses).tolist()  # waits for the device
        finally:
            self._seconds += time.perf_counter() - start
        epochs = self._evaluate(losses)
        self._next_epoch, self._running = self._next_epoch + 1, None
        for epoch in epochs:
            if epoch.diverged:
                self.drop(epoch.job)
        return sorted(epochs, key=lambda epoch: epoch.job)

    def _train(self) -> Iterator[None]:
        self._losses = [
            torch.zeros(len(bundle.numbers), device=self._features.device)
            for bundle in self._bundles
        ]
        for bundle, losses in zip(self._bundles, self._losses, strict=True):
            yield from bundle.train(
                self._features, self._targets, self._draw, self._next_epoch, losses
            )

    def _evaluate(self, losses: Sequence[float]) -> list[HeadEpoch]:
        start = time.perf_counter()
        measured = [
            metrics
            for bundle in self._bundles
            for outputs in bundle.outputs(self._val_features)
            for metrics in measure(self._task, outputs, self._val_targets)
        ]
        spent = {"train": self._seconds, "eval": time.perf_counter() - start}
        seconds = {name: value / len(measured) for name, value in spent.items()}
        numbers = [number for bundle in self._bundles for number in bundle.numbers]
        return [
            HeadEpoch(number, self._next_epoch, metrics, loss, seconds, _failed(loss, metrics))
            for number, metrics, loss in zip(numbers, measured, losses, strict=True)
        ]


def _failed(loss: float, metrics: dict[str, float]) -> Literal["train", "validation"] | None:
    if not math.isfinite(loss):
        return "train"
    return None if math.isfinite(metrics["loss"]) else "validation"


def _bundles(jobs: Sequence[HeadJob], task: Task, device: torch.device) -> Iterator[Bundle]:
    """Divide the jobs by optimizer, and then by what fits."""
    outputs, width = jobs[0].weight.shape
    touched = 4 * width * (jobs[0].knobs.batch_size + 5 * outputs)  # weights, gradient, state
    most = max(1, _BUNDLE_BYTES.get(device.type, 2**26) // touched)
    loss = loss_of(task)
    for name in dict.fromkeys(job.knobs.optimizer for job in jobs):
        same = [n for n, job in enumerate(jobs) if job.knobs.optimizer == name]
        for first in range(0, len(same), most):
            numbers = same[first : first + most]
            yield Bundle(numbers, [jobs[n] for n in numbers], loss, device)
