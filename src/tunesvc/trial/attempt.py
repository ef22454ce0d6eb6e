"""One worker's work on one trial: from where it stands to its end, or until it has to be given up.

Two sides meet here: `train` computes and knows no database, `reports` tells the database and knows
no tensors. What they say to each other passes through `tick`, after every batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from tunesvc import checkpoint, interrupt, train
from tunesvc.checkpoint import Mark
from tunesvc.errors import StorageError, TrainingError
from tunesvc.interrupt import Stopped
from tunesvc.leases import Lease, LeaseLost, Leases, Leave
from tunesvc.spec import TrialConfig
from tunesvc.train import Epoch, OutOfMemory, Placement, Run
from tunesvc.trial import facts
from tunesvc.trial.desk import Desk
from tunesvc.trial.reports import Ending, Reports

log = logging.getLogger(__name__)


class DoesNotFit(TrainingError):  # noqa: N818 (what it says)
    """Not even one image at a time fits into the device's memory."""


@dataclass
class Attempt:
    """A leased trial being worked on."""

    desk: Desk
    lease: Lease
    placement: Placement
    leases: Leases
    reports: Reports = field(init=False)
    training: Run | None = None
    _most: int | None = None  # images at once, since more did not fit
    _is_tidy: bool = False  # stopped between two batches: its state may be saved

    def __post_init__(self) -> None:
        self.reports = Reports(self.desk, self.lease, self.leases)

    def train(self) -> Ending:
        """Go on where the trial stands, to its last epoch or the word of the pruner.

        Raises:
            LeaseLost: not a word more is to be written.
            Leave, Stopped: it was saved between two batches, if there was time for that.
            Diverged, DoesNotFit: its configuration's fault.
        """
        label, knobs = self.reports.suggest()
        config = self.desk.config(label, knobs, self.lease.number)
        state = self._load()
        with self._clock("report"):
            ending = self.reports.deliver(config.epochs)
        while ending is None:
            interrupt.check()
            try:
                self.training = self._build(label, config, state)
                ending = self._epochs(config)
            except OutOfMemory as error:
                self._halve(error)
                state = self._load()
        return ending

    def tell(self, state: TrialState, value: float | None, reason: str) -> None:
        """End the trial.

        Raises:
            LeaseLost: it is in other hands.
        """
        self.reports.tell(state, value, self._memory() | ({"reason": reason} if reason else {}))

    def account(self) -> None:
        """Store what the trial took so far."""
        self.reports.insist(lambda: self.reports.write(self.reports.accounts() | self._memory()))

    # ---- building

    def _load(self) -> dict[str, Any] | None:
        """Return the newest checkpoint, and stand where it was taken."""
        reports, lease = self.reports, self.lease
        state = None
        if lease.resumed or self.training is not None:
            state = checkpoint.load(self.desk.shelf, self.desk.folder(lease.number))
        if state is None and lease.epoch:
            log.warning(
                "trial %d begins again: %d epochs were kept, but not in %s; workers on several "
                "hosts need one place for checkpoints (TUNESVC_ARTIFACTS)",
                *(lease.number, lease.epoch, self.desk.shelf.location),
            )
        reports.history = [] if state is None else list(state["history"])
        reports.reported = min(reports.reported, len(reports.history))
        if state is not None and self.training is None:
            reports.seconds |= state["seconds"]
        self.training = None
        return state

    def _build(self, label: str, config: TrialConfig, state: dict[str, Any] | None) -> Run:
        with self._clock("data"):
            first, second = self.desk.splits(config, "train", "val", tick=self._tick)
        fitted = self.reports.insist(lambda: self.leases.fitted(**self._place(config)))
        with self._clock("model"), self._room_for_the_model():
            training = self.desk.training(config, first, second, self.placement)
            if state is not None:
                training.load_state_dict(state["run"])
        limits = (training.micro_batch, fitted, self._most)
        training.micro_batch = min(limit for limit in limits if limit is not None)
        told = facts.of_run(label, training, self.placement)
        self.reports.insist(lambda: self.reports.write({"run": told}))
        return training

    @contextmanager
    def _room_for_the_model(self) -> Iterator[None]:
        """Tell apart a model that is itself too large for the device."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not train.is_out_of_memory(error):
                raise
            raise self._too_large(str(error)) from None  # its frames hold the half of the model

    def _halve(self, error: OutOfMemory) -> None:
        """Let fewer images pass through the model at once, from the next try on.

        Raises:
            DoesNotFit: it was one image already.
        """
        tried = min(error.micro_batch, self.training.micro_batch if self.training else 1)
        if tried <= 1:
            raise self._too_large(error.what) from error
        self._most = tried // 2
        told = "trial %d: out of memory; now %d images at a time"
        log.warning(told, self.lease.number, self._most)

    def _remember(self, config: TrialConfig, training: Run) -> None:
        """Spare later trials the search for the size that fitted."""
        if self._most is not None:
            place, self._most = self._place(config), None
            self.reports.insist(lambda: self.leases.note_fitted(training.micro_batch, **place))

    def _place(self, config: TrialConfig) -> dict[str, str | int]:
        return facts.of_memory(config, self.desk.transform(config).crop, self.placement)

    def _too_large(self, why: str) -> DoesNotFit:
        return DoesNotFit(
            f"out of memory on {self.placement.device} with a single image at a time",
            why.splitlines()[0],
            "leave this backbone out, give `data.image_size`, or use a device with more memory",
        )

    # ---- epochs

    def _epochs(self, config: TrialConfig) -> Ending:
        training = self.training
        assert training is not None
        with interrupt.deferred(), self._watched():
            try:
                for epoch in train.fit(training, self._tick):
                    ending = self._after(epoch, config, training)
                    if ending is not None:
                        return ending
            except (Stopped, Leave):
                if self._is_tidy:
                    self._save(training)
                    self.reports.deliver(config.epochs)
                raise
        raise AssertionError("a run of no epochs")

    def _after(self, epoch: Epoch, config: TrialConfig, training: Run) -> Ending | None:
        for phase, seconds in epoch.seconds.items():
            self.reports.seconds[phase] += seconds
        with self._clock("report"):
            self._remember(config, training)
            self.reports.history.append(facts.of_epoch(epoch))
            log.info("trial %d %s", self.lease.number, epoch)
            self._save(training)
            return self.reports.deliver(config.epochs)

    def _tick(self) -> None:
        self._is_tidy = True
        interrupt.check()
        self.reports.watch.tick()
        self._is_tidy = False

    @contextmanager
    def _watched(self, is_training: bool = True) -> Iterator[None]:
        """Have the watchdog expect batches, or not, while the block runs."""
        watch = self.reports.watch
        before, watch.is_training = watch.is_training, is_training
        try:
            yield
        finally:
            watch.is_training = before
            watch.beats += 1

    def _save(self, training: Run) -> None:
        """Keep the state; nothing is reported that is not kept first."""
        mark = Mark(self.lease.token, *training.position)
        kept = {"history": self.reports.history, "seconds": self.reports.seconds}
        state = {"run": training.state_dict()} | kept
        try:
            with self._watched(is_training=False):
                checkpoint.save(state, self.desk.shelf, self.desk.folder(self.lease.number), mark)
        except StorageError as error:  # or whoever has the trial now has cleared it away
            if not self.reports.insist(lambda: self.leases.holds(self.lease)):
                raise LeaseLost from error
            raise

    def _memory(self) -> dict[str, float]:
        if self.training is None:
            return {}
        return {"peak_memory_mb": round(self.training.peak_memory_mb, 1)}

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.reports.seconds[phase] += time.perf_counter() - start
