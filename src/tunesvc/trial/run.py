"""One trial from its lease to its end.

    suggest → data → model → fit → (checkpoint → report → prune?) per epoch → tell

Why: 2026-11: a checkpoint is written before its epoch is reported. Whoever takes a trial over
after a crash finds in the checkpoint every epoch that may have been reported, and delivers those
that were not: no value is lost, none is doubled, at most the epoch under way is trained again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from tunesvc import checkpoint, search, train
from tunesvc.errors import DataError, StorageError, TrainingError, TuneError, WeightsError
from tunesvc.leases import Lease, Leases
from tunesvc.provenance import provenance
from tunesvc.spec import TrialConfig
from tunesvc.train import Diverged, Epoch, Placement, Run
from tunesvc.trial import retention
from tunesvc.trial.desk import Desk

log = logging.getLogger(__name__)

History = list[dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    number: int
    state: TrialState
    value: float | None  # the objective after the last epoch
    reason: str = ""
    is_fatal: bool = False  # the device is unusable: no other trial can run in this process


class LeaseLost(Exception):  # noqa: N818 (a message to `run`, not an error of anybody's)
    """Somebody else may be running the trial: not a word more is written to it."""


def run(desk: Desk, lease: Lease, placement: Placement, leases: Leases) -> Outcome | None:
    """Run a leased trial to its end and tell Optuna.

    What the configuration caused is told on the trial. A stop signal, and what is wrong with this
    machine or the database, leave it RUNNING, to be taken over: no budget is spent on them.

    Returns:
        How it ended; None when it was taken over, ended or deleted by somebody else.

    Raises:
        StorageError, DataError, WeightsError: this machine cannot go on.
        TrainingError: the accelerator is out of order; the trial has failed.
    """
    trial = _trial(desk, lease)
    try:
        attempt = _Attempt(desk, trial, lease, placement, leases)
        outcome = _attempt(attempt)
        attempt.check_lease()
        attempt.account()
        if outcome.reason:
            trial.set_user_attr("reason", outcome.reason)
        value = outcome.value if outcome.state is TrialState.COMPLETE else None
        desk.trials.tell(trial, value, state=outcome.state)
    except (LeaseLost, UpdateFinishedTrialError, KeyError):  # Optuna's word for a deleted trial
        log.warning("trial %d is in other hands, or deleted; left", trial.number)
        return None
    retention.forget(desk.artifacts, desk.study, desk.trials)
    if outcome.is_fatal:
        raise TrainingError(
            f"{placement.device} is out of order after trial {trial.number}",
            outcome.reason.splitlines()[-1],
            "start the worker again; a device that stays out of order needs a reset",
        )
    return outcome


def _trial(desk: Desk, lease: Lease) -> optuna.Trial:
    """Return the trial as `ask` gave it; one taken over as its first worker would have it."""
    if desk.asked is not None and desk.asked._trial_id == lease.trial_id:
        return desk.asked
    desk.trials.get_trials(deepcopy=False)  # a cold storage does not know the trial's id yet
    number = desk.trials._storage.get_trial_number_from_id(lease.trial_id)
    desk.trials.sampler = search.sampler(desk.study.spec, number)
    return optuna.Trial(desk.trials, lease.trial_id)


def _attempt(attempt: _Attempt) -> Outcome:
    number = attempt.trial.number
    try:
        state, value = attempt.train()
    except (LeaseLost, StorageError, DataError, WeightsError, UpdateFinishedTrialError):
        raise
    except Diverged as error:
        return Outcome(number, TrialState.PRUNED, None, str(error))
    except TuneError as error:
        return Outcome(number, TrialState.FAIL, None, str(error))
    except Exception as error:
        if _from_database(error):
            raise
        log.exception("trial %d failed", number)
        is_fatal = isinstance(error, torch.AcceleratorError)
        return Outcome(number, TrialState.FAIL, None, traceback.format_exc(), is_fatal)
    return Outcome(number, state, value)


def _from_database(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in ("sqlalchemy", "psycopg2")


@dataclass
class _Attempt:
    desk: Desk
    trial: optuna.Trial
    lease: Lease
    placement: Placement
    leases: Leases
    training: Run | None = None
    history: History = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("data", "model", "train", "eval", "report"), 0.0)
    )

    def train(self) -> tuple[TrialState, float | None]:
        label, knobs = self.desk.space.suggest(self.trial)
        config = self.desk.config(label, knobs, self.trial.number)
        training = self.training = self._training(config)
        self._describe(label, training)
        with self._clock("report"):
            pruned = self._deliver(training)
        for epoch in () if pruned else train.fit(training):
            for phase, seconds in epoch.seconds.items():
                self.seconds[phase] += seconds
            with self._clock("report"):
                self.history.append(_as_json(epoch))
                pruned = self._save_and_deliver(training)
            if pruned:
                break
        return (TrialState.PRUNED if pruned else TrialState.COMPLETE), self._value()

    def _training(self, config: TrialConfig) -> Run:
        with self._clock("data"):
            first, second = self.desk.splits(config, "train", "val")
        with self._clock("model"):
            training = self.desk.training(config, first, second, self.placement)
            path = self.desk.checkpoint(self.trial.number)
            state = checkpoint.load(path) if self.lease.resumed else None
            if state is not None:
                training.load_state_dict(state["run"])
                self.history.extend(state["history"])
                for phase, seconds in state["seconds"].items():
                    self.seconds[phase] += seconds
        return training

    def _save_and_deliver(self, training: Run) -> bool:
        self.check_lease()
        state = {"run": training.state_dict(), "history": self.history, "seconds": self.seconds}
        checkpoint.save(state, self.desk.checkpoint(self.trial.number))
        return self._deliver(training)

    def _deliver(self, training: Run) -> bool:
        """Report what the storage has not got yet; return whether the trial is to be pruned."""
        known = self.trial.storage.get_trial(self.trial._trial_id).intermediate_values
        for entry in self.history:
            if entry["epoch"] not in known:
                self.trial.report(entry[self.desk.metric], entry["epoch"])
        if not self.history:
            return False
        self.trial.set_user_attr("history", self.history)
        log.info("trial %d epoch %d: %s", self.trial.number, len(self.history), self.history[-1])
        is_last = training.next_epoch == training.config.epochs
        return not is_last and not self._is_default() and self.trial.should_prune()

    def _is_default(self) -> bool:
        """Untuned runs go to their end: everything tuned is compared with them."""
        return "default" in self.trial.user_attrs

    def _value(self) -> float | None:
        return float(self.history[-1][self.desk.metric]) if self.history else None

    def _describe(self, label: str, training: Run) -> None:
        facts = {
            "backbone": label,
            "knobs": training.config.knobs.model_dump(mode="json"),
            "seed": training.config.seed,
            "parameters": training.parameters_total,
            "parameters_trainable": training.parameters_trainable,
            "weights_sha256": training.backbone.weights_sha256,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            **self.placement.describe(),
            **provenance(),
        }
        self.trial.set_user_attr("run", facts)

    def check_lease(self) -> None:
        """Raise LeaseLost if somebody else may be running the trial."""
        if not self.leases.keeps(self.lease):
            raise LeaseLost

    def account(self) -> None:
        """Store what the trial took, however it ended."""
        if self.training is None:
            return
        seconds = {phase: round(spent, 3) for phase, spent in self.seconds.items()}
        self.trial.set_user_attr("seconds", seconds)
        self.trial.set_user_attr("peak_memory_mb", round(self.training.peak_memory_mb, 1))

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start


def _as_json(epoch: Epoch) -> dict[str, Any]:
    """One epoch as it is stored on the trial; `epoch` counts the finished ones, from 1."""
    return {
        "epoch": epoch.index + 1,
        "train_loss": epoch.train_loss,
        **epoch.metrics,
        "seconds": {phase: round(seconds, 4) for phase, seconds in epoch.seconds.items()},
    }
