"""Head-only trials of one backbone, trained as one stack and told one after the other.

Why: 2026-11: such an epoch takes milliseconds, and a word to Postgres as long. So a stack is not
pruned, and keeps no checkpoint on its way: a worker that dies repeats some seconds. Where training
in a stack meets an error, every trial is run by itself, where its error is its own.

Why: 2026-11: a trial that is alone is a stack of one. A step of it takes a fifth of an ordinary
one's time, and its numbers are the same whoever else is in the stack, dropout's masks included.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from optuna.trial import TrialState

from tunesvc import data, interrupt
from tunesvc.backbones import has_plain_head
from tunesvc.leases import LeaseLost, Leave
from tunesvc.spec import derive_seed
from tunesvc.train import Diverged, Epoch, HeadEpoch, HeadJob, Run, Stack, stackable
from tunesvc.trial.attempt import Attempt
from tunesvc.trial.run import Outcome, conclude, run, tidy

log = logging.getLogger(__name__)


def is_head_only(attempt: Attempt) -> bool:
    """Whether a trial can be trained in a stack: a new head on outputs that can be known."""
    _, knobs = attempt.draw()
    is_cached = attempt.desk.study.spec.augment == "cached"
    is_fresh = attempt.lease.epoch == 0 and not attempt.lease.is_over
    return knobs.strategy == "linear-probe" and stackable(knobs) and is_cached and is_fresh


def run_together(attempts: Sequence[Attempt]) -> Iterator[tuple[Attempt, Outcome | None]]:
    """Run head-only trials of one study, in as few stacks as they allow; yield each with its end.

    Raises:
        StorageError, DataError, WeightsError, TrainingError, Stopped: as `run`.
    """
    for alike in _alike(attempts):
        stacked = _stacked(alike)
        for attempt in alike:
            yield attempt, stacked[attempt.lease.number] if stacked else run(attempt)


def _alike(attempts: Sequence[Attempt]) -> list[list[Attempt]]:
    found = defaultdict(list)
    for attempt in attempts:
        label, knobs = attempt.draw()
        found[label, knobs.augmentation, knobs.batch_size].append(attempt)
    return list(found.values())


def _stacked(attempts: Sequence[Attempt]) -> dict[int, Outcome | None] | None:
    """Return how each ended, by its number; None where they have to be run one by one."""
    try:
        stack = _stack(attempts)
        if stack is not None:
            _train(stack, attempts)
    except (LeaseLost, Leave) as wish:
        log.info("a stack of trials is given back: %s", wish or "one is in other hands")
        return {attempt.lease.number: None for attempt in attempts}
    except Exception:
        log.exception("%d trials cannot be trained together; each by itself now", len(attempts))
        stack = None
    if stack is None:
        for attempt in attempts:
            attempt.begin_anew()
        return None
    return {a.lease.number: _ended(stack, job, a) for job, a in enumerate(attempts)}


def _stack(attempts: Sequence[Attempt]) -> Stack | None:
    jobs = [_job(attempt.prepare()) for attempt in attempts]
    first = attempts[0].training
    assert first is not None
    first.freeze(lambda: _tick(attempts))
    for attempt in attempts:
        if attempt.training is not None:
            attempt.training.inputs.used = first.inputs.used
    outputs = first.inputs.outputs
    if outputs is None or not has_plain_head(first.backbone) or outputs.val.one(0).dim() != 2:
        return None
    train, val = outputs.train.stacked, outputs.val.one(0)
    if train is None:
        return None
    views, device = first.inputs.views, first.placement.device

    def draw(job: HeadJob, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.Generator().manual_seed(derive_seed(str(job.seed), "epoch", epoch))
        count, size = len(first.train.targets), job.knobs.batch_size
        return data.plan(count, size, training=True, generator=order, views=views)

    return Stack(
        train.float(), first.train.targets, val, first.val.targets,
        jobs=jobs, task=first.task, draw=draw, device=device,
    )  # fmt: skip


def _job(training: Run) -> HeadJob:
    weight, bias = (training.module.get_parameter(n) for n in training.backbone.head.parameters)
    config = training.config
    return HeadJob(
        config.knobs, config.seed, config.epochs, weight.detach().clone(), bias.detach().clone()
    )


def _tick(attempts: Sequence[Attempt]) -> None:
    interrupt.check()
    for attempt in attempts:
        attempt.leases.watch(attempt.lease).tick()
    attempts[0].begin()


def _train(stack: Stack, attempts: Sequence[Attempt]) -> None:
    """Train to the end; every attempt's history has its epochs then."""
    for attempt in attempts:
        if attempt.training is not None:
            attempt.training.begun = time.perf_counter()
    with attempts[0].watched():
        while epochs := stack.epoch(lambda: _tick(attempts)):
            for epoch in epochs:
                _note(epoch, attempts[epoch.job], len(attempts))


def _note(epoch: HeadEpoch, attempt: Attempt, size: int) -> None:
    told = Epoch(epoch.index, epoch.metrics, epoch.train_loss, epoch.seconds)
    attempt.levers["stack"] = size
    if epoch.diverged:
        loss = epoch.train_loss if epoch.diverged == "train" else epoch.metrics["loss"]
        attempt.diverged = Diverged(epoch.index, loss, epoch.diverged)
        return
    attempt.note(told)


def _ended(stack: Stack, job: int, attempt: Attempt) -> Outcome | None:
    """Keep the head, and tell the trial."""
    training = attempt.training
    assert training is not None
    try:
        if attempt.diverged is not None:
            outcome = conclude(attempt, TrialState.PRUNED, str(attempt.diverged))
        else:
            _finish(training, stack.head(job))
            attempt.keep_now()
            outcome = conclude(attempt, TrialState.COMPLETE, "")
    except LeaseLost:
        log.warning("trial %d is in other hands, or deleted; left", attempt.lease.number)
        return None
    tidy(attempt)
    return outcome


def _finish(training: Run, head: Sequence[torch.Tensor]) -> None:
    """Put a run at its end, with this head."""
    with torch.no_grad():
        for name, value in zip(training.backbone.head.parameters, head, strict=True):
            training.module.get_parameter(name).copy_(value)
    training.next_epoch = training.config.epochs
