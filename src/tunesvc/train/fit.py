"""The training loop: a run in, epochs out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tunesvc.data import Split
from tunesvc.errors import TrainingError
from tunesvc.train.memory import OutOfMemory, within_memory
from tunesvc.train.mixing import Mixture, mix
from tunesvc.train.optimization import rate_factor, set_rate
from tunesvc.train.run import Progress, Run


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought.

    Args:
        index: counted from 0.
        metrics: of the validation split: all of the task's, "loss" included; {} where the epoch
            was not to be evaluated.
        train_loss: mean over the epoch, as it was minimized (smoothed, mixed).
        seconds: "features", until the outputs of frozen stages were known; "train", of all
            processes that worked on the epoch; "eval".
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


def _nothing() -> None:
    pass


def fit(run: Run, tick: Callable[[], None] = _nothing) -> Iterator[Epoch]:
    """Train from where the run stands to its last epoch, yielding after each.

    Args:
        tick: called after every batch, of training and of evaluation. What it raises ends the
            training between two batches: the state of the run can be taken then, and training goes
            on from it as if nothing had happened. An evaluation that was interrupted is repeated.

    Raises:
        Diverged: the loss is infinite or not a number.
        OutOfMemory: the run stands in the middle of a step; to go on, build it anew with a lower
            `micro_batch` and load a state taken earlier.
    """
    while run.next_epoch < run.config.epochs:
        epoch = _epoch(run, tick)
        run.end_epoch()
        yield epoch


def _epoch(run: Run, tick: Callable[[], None]) -> Epoch:
    index = run.next_epoch
    begun = time.perf_counter()
    progress = _begin(run, tick)
    known = time.perf_counter()
    run.compiling.begin(run, progress)
    train_loss = _train(run, progress, tick)
    run.compiling.end(progress)
    if not math.isfinite(train_loss):
        raise Diverged(index, train_loss)
    trained = time.perf_counter()
    metrics = evaluate(run, run.val, tick) if run.config.is_evaluated(index + 1) else {}
    if not math.isfinite(metrics.get("loss", 0.0)):
        raise Diverged(index, metrics["loss"], "validation")
    seconds = {
        "features": known - begun,
        "train": progress.seconds,
        "eval": time.perf_counter() - trained,
    }
    return Epoch(index, metrics, train_loss, seconds)


def _begin(run: Run, tick: Callable[[], None]) -> Progress:
    """Begin the epoch, or go on with it, with the outputs of its frozen stages at hand."""
    progress, images = run.begin_epoch(), run.evaluation_batch
    try:
        for _ in within_memory(run, _freeze(run, tick), images):
            pass
    except OutOfMemory:
        if images <= run.micro_batch:
            raise
        run.is_short_of_memory = True
        return _begin(run, tick)
    run.begun = run.begun or time.perf_counter()
    return progress


def _train(run: Run, progress: Progress, tick: Callable[[], None]) -> float:
    """Return the mean loss; the device is waited for once, at the end."""
    images = min(run.micro_batch, run.config.knobs.batch_size, len(run.train.targets))
    start = time.perf_counter() - progress.seconds
    for _ in within_memory(run, _learn(run, progress), images):
        progress.seconds = time.perf_counter() - start
        try:
            tick()
        except BaseException:
            run.pause()
            raise
    loss = progress.loss.item() / progress.images
    progress.seconds = time.perf_counter() - start
    return loss


def _freeze(run: Run, tick: Callable[[], None]) -> Iterator[None]:
    run.freeze(tick)
    yield


def _learn(run: Run, progress: Progress) -> Iterator[None]:
    """Learn from one batch after the other."""
    knobs, steps = run.config.knobs, run.steps_per_epoch
    for images, targets in run.training_batches(progress):
        factor = rate_factor(
            run.next_epoch * steps + progress.batches,
            run.config.epochs * steps,
            schedule=knobs.schedule,
            warmup=knobs.warmup,
        )
        set_rate(run.optimizer, factor)
        _step(run, progress, images, targets)
        progress.images += len(images)
        progress.batches += 1
        yield


def _step(run: Run, progress: Progress, images: Tensor, targets: Tensor) -> None:
    """Learn from one batch, whole or in pieces; add its loss to the epoch's."""
    mixture = mix(images, run.config.knobs, run.chance.mixing)
    run.optimizer.zero_grad()
    for piece in pieces(len(images), run.micro_batch):
        count = piece.stop - piece.start
        loss = _loss(run, images, targets, mixture, piece)
        torch.autograd.backward(run.scaler.scale(loss * (count / len(images))))
        progress.loss += loss.detach() * count
    run.scaler.step(run.optimizer)  # but where gradients are too large for float16
    run.scaler.update()


def _loss(
    run: Run, images: Tensor, targets: Tensor, mixture: Mixture | None, piece: slice
) -> Tensor:
    """Return the mean loss, () float, of a piece of a batch that was mixed as a whole."""
    outputs = run.forward((mixture.images if mixture else images)[piece])
    if mixture:
        targets = mixture.targets(run.task.soft_targets(targets, outputs.shape[1]))
    smoothing = run.config.knobs.label_smoothing
    return run.task.loss(outputs, targets[piece], label_smoothing=smoothing)


def pieces(count: int, most: int) -> list[slice]:
    """Divide `count` images into as few pieces of at most `most` as can be, as equal as can be."""
    number = math.ceil(count / most)
    ends = [count * i // number for i in range(number + 1)]
    return [slice(first, end) for first, end in pairwise(ends)]


def evaluate(run: Run, split: Split, tick: Callable[[], None] = _nothing) -> dict[str, float]:
    """Return the task's metrics and the mean loss of the model as it stands, on a split.

    Where a batch does not fit into memory, batches of training's size are tried, which did fit.

    Args:
        tick: called after every batch; what it raises passes.

    Raises:
        OutOfMemory: nor does a batch of training's size fit.
    """
    images = min(run.evaluation_batch, len(split.targets))
    measured: dict[str, float] = {}
    try:
        for _ in within_memory(run, _measure(run, split, measured), images):
            tick()
    except OutOfMemory:
        if images <= run.micro_batch:
            raise
        run.is_short_of_memory = True
    else:
        return measured
    return evaluate(run, split, tick)


@torch.inference_mode()
def _measure(run: Run, split: Split, measured: dict[str, float]) -> Iterator[None]:
    """Evaluate one batch after the other; in the end, put the metrics into `measured`."""
    run.behave(training=False)
    total, metrics = torch.zeros((), device=run.placement.device), None
    for images, targets in run.evaluation_batches(split):
        outputs = run.forward(images, split)
        metrics = metrics or run.fresh_metrics(outputs.shape[1])
        metrics.update(run.task.predictions(outputs), targets)
        total += run.task.loss(outputs, targets) * len(targets)
        yield
    values = metrics.compute() if metrics is not None else {}
    measured |= {name: float(value) for name, value in values.items()}
    measured["loss"] = total.item() / len(split.targets)
