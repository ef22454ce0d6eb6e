"""The training loop: a run in, epochs out."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesvc.data import Split
from tunesvc.errors import TrainingError
from tunesvc.train.mixing import mix
from tunesvc.train.optimization import rate_factor, set_rate
from tunesvc.train.run import Run


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought.

    Args:
        index: counted from 0.
        metrics: of the validation split: all of the task's, "loss" included.
        train_loss: mean over the epoch, as it was minimized (smoothed, mixed).
        seconds: "train" and "eval".
    """

    index: int
    metrics: dict[str, float]
    train_loss: float
    seconds: dict[str, float]

    def __str__(self) -> str:
        """Return one line for a person: `epoch 3: train_loss 0.812, accuracy 0.744, … (8.1 s)`."""
        numbers = {"train_loss": self.train_loss} | self.metrics
        shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        return f"epoch {self.index + 1}: {shown} ({sum(self.seconds.values()):.1f} s)"


class Diverged(TrainingError):  # noqa: N818 (the field's word)
    """The loss is no longer a number; `epoch` is counted from 0."""

    def __init__(self, epoch: int, loss: float, split: str = "train") -> None:
        super().__init__(
            f"diverged in epoch {epoch + 1}: the {split} loss is {loss}",
            "most often the learning rate is too high for this optimizer and batch size",
            "lower `lr`, or add warm-up (`warmup: 0.1`)",
        )
        self.args = (epoch, loss, split)  # what pickle calls the class with
        self.epoch = epoch


def fit(run: Run) -> Iterator[Epoch]:
    """Train from the run's next epoch to its last, yielding after each.

    Raises:
        Diverged: the loss is infinite or not a number.
        TrainingError: the device's memory does not suffice.
    """
    for index in range(run.next_epoch, run.config.epochs):
        try:
            epoch = _epoch(run, index)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"out of memory on {run.placement.device} in epoch {index + 1}",
                f"batch_size {run.config.knobs.batch_size} of {run.backbone.transform.crop}-pixel "
                "images does not fit beside what else runs there",
                "narrow `batch_size`, or give `data.image_size`",
            ) from error
        run.next_epoch = index + 1
        yield epoch


def _epoch(run: Run, index: int) -> Epoch:
    start = time.perf_counter()
    train_loss = _train(run, index)
    trained = time.perf_counter()
    if not math.isfinite(train_loss):
        raise Diverged(index, train_loss)
    metrics = evaluate(run, run.val)
    if not math.isfinite(metrics["loss"]):
        raise Diverged(index, metrics["loss"], "validation")
    seconds = {"train": trained - start, "eval": time.perf_counter() - trained}
    return Epoch(index, metrics, train_loss, seconds)


def _train(run: Run, index: int) -> float:
    """Return the mean loss; the device is waited for once, at the end."""
    knobs, steps = run.config.knobs, run.steps_per_epoch
    rng = run.begin_epoch(index)
    total, seen = torch.zeros((), device=run.placement.device), 0
    for step, (images, targets) in enumerate(run.training_batches(), start=index * steps):
        factor = rate_factor(
            step, run.config.epochs * steps, schedule=knobs.schedule, warmup=knobs.warmup
        )
        set_rate(run.optimizer, factor)
        total += _step(run, images, targets, rng) * len(images)
        seen += len(images)
    return total.item() / seen


def _step(run: Run, images: Tensor, targets: Tensor, rng: random.Random) -> Tensor:
    """Learn from one batch; return its loss, () float."""
    knobs = run.config.knobs
    mixture = mix(images, knobs, rng)
    outputs = run.forward(mixture.images if mixture else images)
    if mixture:
        targets = mixture.targets(run.task.soft_targets(targets, outputs.shape[1]))
    loss = run.task.loss(outputs, targets, label_smoothing=knobs.label_smoothing)
    run.optimizer.zero_grad()
    torch.autograd.backward(loss)
    run.optimizer.step()
    return loss.detach()


@torch.inference_mode()
def evaluate(run: Run, split: Split) -> dict[str, float]:
    """Return the task's metrics and the mean loss of the model as it stands, on a split."""
    run.module.eval()
    metrics, total = None, torch.zeros((), device=run.placement.device)
    for images, targets in run.evaluation_batches(split):
        outputs = run.forward(images)
        if metrics is None:
            metrics = run.task.metric_collection(outputs.shape[1]).to(run.placement.device)
        metrics.update(run.task.predictions(outputs), targets)
        total += run.task.loss(outputs, targets) * len(targets)
    values = metrics.compute() if metrics is not None else {}
    measured = {name: float(value) for name, value in values.items()}
    return measured | {"loss": total.item() / len(split.targets)}
