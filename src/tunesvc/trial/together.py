"""Head-only trials of one backbone, trained as one stack and told in one transaction.

Why: 2026-11: such an epoch takes milliseconds, and a word to Postgres as long. So a stack is not
pruned, and keeps no checkpoint on its way: a worker that dies repeats some seconds. Where training
in a stack meets an error, every trial is run by itself, where its error is its own.

Why: 2026-11: a trial that is alone is a stack of one. A step of it takes a fifth of an ordinary
one's time, and its numbers are the same to rounding whoever else is in the stack, dropout's masks
included.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from optuna.trial import TrialState

from tunesvc import interrupt, train
from tunesvc.leases import LeaseLost, Leave, Word, tell_together
from tunesvc.storage import patiently
from tunesvc.train import Diverged, Epoch, HeadEpoch, Run, Stack, stackable
from tunesvc.trial.attempt import Attempt
from tunesvc.trial.run import Outcome, conclude, run, tidy

log = logging.getLogger(__name__)

MOST = 200  # trials that one statement tells; the server reads it in one piece


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
        log.info("a stack of trials is given back: %s", wish or "all are in other hands")
        return {attempt.lease.number: None for attempt in attempts}
    except Exception:
        log.exception("%d trials cannot be trained together; each by itself now", len(attempts))
        stack = None
    if stack is None:
        for attempt in attempts:
            attempt.begin_anew()
        return None
    return _ended(stack, attempts)


def _stack(attempts: Sequence[Attempt]) -> Stack | None:
    """Return the stack; None where there is none, also where a constraint is broken.

    Alike as they are, all of them break it or none: what each is to be told is known then.
    """
    if any(attempt.drawn_ending() for attempt in attempts):
        return None
    jobs = [train.job_of(attempt.prepare()) for attempt in attempts]
    first = attempts[0].training
    assert first is not None
    first.freeze(lambda: _tick(attempts))
    for attempt in attempts:
        if attempt.training is not None:
            attempt.training.inputs.used = first.inputs.used
    return None if _is_broken(attempts) else train.stack_of(first, jobs)


def _is_broken(attempts: Sequence[Attempt]) -> bool:
    """Whether they break a constraint on the device; it is the first that tries."""
    first, *others = (attempt.constraints for attempt in attempts)
    assert attempts[0].training is not None
    ending = first.built(attempts[0].training, lambda: _tick(attempts))
    for each in others:
        each.take(first)
    return ending is not None


def _tick(attempts: Sequence[Attempt]) -> None:
    """Show that all advance; one whose lease is lost is trained along, and left out at the end."""
    interrupt.check()
    lost = 0
    for attempt in attempts:
        try:
            attempt.reports.watch.tick()
        except LeaseLost:
            lost += 1
    if lost == len(attempts):
        raise LeaseLost
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


def _ended(stack: Stack, attempts: Sequence[Attempt]) -> dict[int, Outcome | None]:
    """Keep every head, then tell all trials; None for those in other hands."""
    ends: list[tuple[Attempt, Outcome, Word]] = []
    for job, attempt in enumerate(attempts):
        with suppress(LeaseLost):  # whoever has it now has cleared the folder
            ends.append((attempt, *_kept(stack, job, attempt)))
    told = [end for place in range(0, len(ends), MOST) for end in _told(ends[place : place + MOST])]
    if told:
        tidy([attempt for attempt, _ in told])
    outcomes = {attempt.lease.number: outcome for attempt, outcome in told}
    for attempt in attempts:
        if attempt.lease.number not in outcomes:
            log.warning("trial %d is in other hands, or deleted; left", attempt.lease.number)
    return {a.lease.number: outcomes.get(a.lease.number) for a in attempts}


def _kept(stack: Stack, job: int, attempt: Attempt) -> tuple[Outcome, Word]:
    """Keep the head; return how the trial ended, and what is to be told of it.

    Raises:
        LeaseLost: it is in other hands.
    """
    training = attempt.training
    assert training is not None
    if attempt.reports.watch.is_lost:
        raise LeaseLost
    if attempt.diverged is not None:
        return conclude(attempt, TrialState.PRUNED, str(attempt.diverged))
    _finish(training, stack.head(job))
    attempt.keep_now()
    return conclude(attempt, TrialState.COMPLETE, "")


def _told(ends: Sequence[tuple[Attempt, Outcome, Word]]) -> list[tuple[Attempt, Outcome]]:
    """Tell trials in one transaction; return those that were still this worker's."""
    store = ends[0][0].desk.study.store
    words = [(attempt.reports.storage, word) for attempt, _, word in ends]

    def wait(_seconds: float) -> None:
        interrupt.check()
        for attempt, *_ in ends:
            attempt.reports.watch.beats += 1  # it is Postgres that hangs, not this worker

    is_told = patiently(
        lambda: tell_together(store.engine, words), revive=store.revive, on_wait=wait
    )
    return [end[:2] for end, is_mine in zip(ends, is_told, strict=True) if is_mine]


def _finish(training: Run, head: Sequence[torch.Tensor]) -> None:
    """Put a run at its end, with this head."""
    with torch.no_grad():
        for name, value in zip(training.backbone.head.parameters, head, strict=True):
            training.module.get_parameter(name).copy_(value)
    training.next_epoch = training.config.epochs
