"""One trial from its lease to its end.

    suggest → checkpoint? → data → model → fit → (checkpoint → report → prune?) per epoch → tell

Why: 2026-11: a checkpoint is written before its epoch is reported. Whoever takes a trial over
finds in the checkpoint every epoch that may have been reported, and delivers those that were not:
no value is lost, none is doubled. For the same
reason a report that Postgres does not take waits for the next one: nothing in it is lost when the
worker dies meanwhile.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from optuna.trial import TrialState

from tunesvc.errors import (
    REPLACE,
    DataError,
    StorageError,
    TrainingError,
    TuneError,
    WeightsError,
)
from tunesvc.leases import LeaseLost, Leave, Word
from tunesvc.storage import is_passing
from tunesvc.train import Diverged
from tunesvc.trial import accounts, retention
from tunesvc.trial.attempt import Attempt
from tunesvc.trial.desk import Desk
from tunesvc.trial.fitting import DoesNotFit
from tunesvc.trial.score import final_score, wants_score
from tunesvc.trial.values import note_reached, settled

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0  # between two looks for checkpoints that are not kept


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    number: int
    state: TrialState
    value: float | None  # the first objective after the last epoch
    reason: str = ""


def run(attempt: Attempt) -> Outcome | None:
    """Run a leased trial to its end and tell Optuna.

    What the configuration caused is told on the trial, other exceptions after the last of several
    attempts. A stop signal, and what is wrong with this machine or the database, cost no attempt:
    the trial waits for the next worker, with its newest checkpoint.

    Returns:
        How it ended; None when it goes on elsewhere, or was ended or deleted by somebody else.

    Raises:
        StorageError, DataError, WeightsError: this machine cannot go on.
        TrainingError: the accelerator is out of order; the attempt has failed.
        Stopped: a signal came.
    """
    lease = attempt.lease
    try:
        outcome = _outcome(attempt)
    except (LeaseLost, KeyError) as error:
        if isinstance(error, KeyError) and not attempt.reports.is_gone():  # Optuna's word for it
            raise
        log.warning("trial %d is in other hands, or deleted; left", lease.number)
        gc.collect()  # the error's frames hold the model in a circle
        return None
    except Leave as wish:
        log.info("trial %d is given back: its study is %s", lease.number, wish)
        return None
    finally:
        attempt.delivery.quiet()
    if outcome is not None:
        tidy([attempt])
    return outcome


def tidy(attempts: Sequence[Attempt]) -> None:
    """Trials of one study were told: have the clerk delete checkpoints that are not kept now.

    Unless it has just done so: then a later trial's end will do, or `sweep`.
    """
    for attempt in attempts:
        attempt.leases.forget(attempt.lease)
    desk = attempts[0].desk
    desk.is_swept = False
    if time.monotonic() > desk.swept + SWEEP_SECONDS:
        attempts[0].clerk.submit(sweep, desk)


def sweep(desk: Desk) -> None:
    """Delete the checkpoints of a study that are not kept, if a trial was told since the last time.

    Why: 2026-11: it reads the study's trials, 5 ms; after every head-only trial of 45 that was a
    tenth of the worker's time.
    """
    if desk.is_swept:
        return
    desk.is_swept, desk.swept = True, time.monotonic()  # first: who is told meanwhile unsets it
    try:
        retention.forget(desk.shelf, desk.study, desk.records())
    except Exception as error:
        log.info("old checkpoints stay until the next trial ends: %s", error)


def _outcome(attempt: Attempt) -> Outcome | None:
    try:
        return _told(attempt)
    except (LeaseLost, Leave, StorageError, DataError, WeightsError):
        raise
    except DoesNotFit as error:
        attempt.constraints.note_memory()
        return _failed(attempt, str(error), alike=None, is_final=True)
    except TuneError as error:
        return _failed(attempt, str(error), alike=error.what, is_final=True)
    except Exception as error:
        if is_passing(error) or (isinstance(error, KeyError) and attempt.reports.is_gone()):
            raise
        log.exception("trial %d failed", attempt.lease.number)
        first = next(iter(str(error).splitlines()), "")
        alike = f"{type(error).__name__}: {first}"[:300]
        outcome = _failed(attempt, traceback.format_exc(), alike=alike, is_final=False)
        if isinstance(error, torch.AcceleratorError):
            raise _out_of_order(attempt, error) from error
        return outcome


def _told(attempt: Attempt) -> Outcome:
    """Train to the end, and tell it."""
    try:
        state, reason = attempt.train()
    except Diverged as error:
        attempt.diverged = error
        state, reason = TrialState.PRUNED, str(error)
    outcome, end = conclude(attempt, state, reason)
    attempt.reports.tell(end)
    return outcome


def conclude(attempt: Attempt, state: TrialState, reason: str) -> tuple[Outcome, Word]:
    """Return how a trial ended whose training is over, and what is to be told of it."""
    state, values, reason = settled(attempt, state, reason)
    if state is TrialState.COMPLETE and wants_score(attempt.desk):
        attempt.reports.say(final_score(attempt))
    if state is TrialState.PRUNED:
        note_reached(attempt)
    end = accounts.end(attempt, state, values, reason)
    return Outcome(attempt.lease.number, state, values[0] if values else None, reason), end


def _failed(attempt: Attempt, why: str, *, alike: str | None, is_final: bool) -> Outcome | None:
    """Tell the trial FAIL, or give it back for another attempt (None)."""
    accounts.store(attempt)
    leases, lease = attempt.leases, attempt.lease
    told = attempt.reports.insist(
        lambda: leases.note_attempt(lease, why, alike=alike, is_final=is_final)
    )
    if told is None:
        log.warning("trial %d goes on from its last checkpoint: %s", lease.number, alike)
        return None
    return Outcome(lease.number, TrialState.FAIL, None, told)


def _out_of_order(attempt: Attempt, error: BaseException) -> TrainingError:
    told = TrainingError(
        f"{attempt.placement.device} is out of order after trial {attempt.lease.number}",
        str(error).splitlines()[0] if str(error) else type(error).__name__,
        "start the worker again; a device that stays out of order needs a reset",
    )
    told.exit_code = REPLACE
    return told
