"""One worker's work on one trial: from where it stands to its end, or until it has to be given up.

Two sides meet here: `train` computes and knows no database, `leases` and the storage know no
tensors. What they say to each other passes through `tick`, after every batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.trial import TrialState

from tunesvc import checkpoint, interrupt, train
from tunesvc.checkpoint import Mark
from tunesvc.errors import StorageError, TrainingError
from tunesvc.interrupt import Stopped
from tunesvc.leases import Lease, LeaseLost, Leases, Leave, Watch
from tunesvc.spec import TrialConfig
from tunesvc.storage import is_passing, patiently
from tunesvc.train import Epoch, OutOfMemory, Placement, Run
from tunesvc.trial import facts
from tunesvc.trial.desk import Desk

log = logging.getLogger(__name__)

T = TypeVar("T")
History = list[dict[str, Any]]
Ending = tuple[TrialState, str]  # and its reason


class DoesNotFit(TrainingError):  # noqa: N818 (what it says)
    """Not even one image at a time fits into the device's memory."""


@dataclass
class Attempt:
    """A leased trial being worked on.

    Args:
        history: what each finished epoch brought; the first `reported` of them Postgres has.
    """

    desk: Desk
    lease: Lease
    placement: Placement
    leases: Leases
    history: History = field(default_factory=list)
    reported: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("data", "model", "train", "eval", "report"), 0.0)
    )
    training: Run | None = None
    _trial: optuna.Trial | None = None
    _is_tidy: bool = False  # stopped between two batches: its state may be saved

    @property
    def trial(self) -> optuna.Trial:
        """The trial, as Optuna's samplers and pruners know it."""
        if self._trial is None:
            self._trial = self.desk.take(self.lease)
        return self._trial

    @property
    def watch(self) -> Watch:
        """The lease as the thread that renews it sees it."""
        return self.leases.watch or Watch(self.lease, self.desk.terms)

    def insist(self, act: Callable[[], T]) -> T:
        """Do something in the database, however long (up to a limit) it is away."""

        def wait(_seconds: float) -> None:
            interrupt.check()
            self.watch.beats += 1  # it is Postgres that hangs, not this worker

        return patiently(act, revive=self.desk.study.store.revive, on_wait=wait)

    def is_gone(self) -> bool:
        """Whether the trial was deleted, with its study."""
        store, lease = self.desk.study.store, self.lease
        try:
            store.fresh().get_trial(lease.trial_id)
        except KeyError:
            return True
        return False

    # ---- from where the trial stands to its end

    def train(self) -> Ending:
        """Go on where the trial stands, to its last epoch or the word of the pruner.

        Raises:
            LeaseLost: not a word more is to be written.
            Leave, Stopped: it was saved between two batches, if there was time for that.
            Diverged, DoesNotFit: its configuration's fault.
        """
        label, knobs = self.insist(lambda: self.desk.space.suggest(self.trial))
        config = self.desk.config(label, knobs, self.lease.number)
        state = self._load()
        with self._clock("report"):
            ending = self._report(config)
        while ending is None:
            try:
                self.training = self._build(label, config, state)
                ending = self._epochs(config)
            except OutOfMemory as error:
                self._halve(config, error)
                state = self._load()
        return ending

    def _load(self) -> dict[str, Any] | None:
        """Return the newest checkpoint, and stand where it was taken."""
        if self.lease.resumed or self.training is not None:
            state = checkpoint.load(self.desk.shelf, self.desk.folder(self.lease.number))
        else:
            state = None
        if state is None and self.lease.epoch:
            log.warning(
                "trial %d begins again: %d epochs were kept, but not in %s; workers on several "
                "hosts need one place for checkpoints (TUNESVC_ARTIFACTS)",
                *(self.lease.number, self.lease.epoch, self.desk.shelf.location),
            )
        self.history = [] if state is None else list(state["history"])
        self.reported = min(self.reported, len(self.history))
        if state is not None and self.training is None:
            self.seconds |= {phase: state["seconds"].get(phase, 0.0) for phase in self.seconds}
        self.training = None
        return state

    def _build(self, label: str, config: TrialConfig, state: dict[str, Any] | None) -> Run:
        with self._clock("data"):
            first, second = self.desk.splits(config, "train", "val", tick=self._tick)
        with self._clock("model"):
            training = self.desk.training(config, first, second, self.placement)
            fitted = self.insist(lambda: self.leases.fitted(**self._place(config)))
            training.micro_batch = min(training.micro_batch, fitted or training.micro_batch)
            if state is not None:
                training.load_state_dict(state["run"])
        told = facts.of_run(label, training, self.placement)
        self.insist(lambda: self._write({}, {"run": told}))
        return training

    def _epochs(self, config: TrialConfig) -> Ending:
        training = self.training
        assert training is not None
        with interrupt.deferred():
            self.watch.is_training = True
            try:
                for epoch in train.fit(training, self._tick):
                    ending = self._after(epoch, config, training)
                    if ending is not None:
                        return ending
            except (Stopped, Leave):
                if self._is_tidy:
                    self._save(training)
                    self._report(config)
                raise
            finally:
                self.watch.is_training = False
        raise AssertionError("a run of no epochs")

    def _after(self, epoch: Epoch, config: TrialConfig, training: Run) -> Ending | None:
        for phase, seconds in epoch.seconds.items():
            self.seconds[phase] += seconds
        with self._clock("report"):
            self.history.append(facts.of_epoch(epoch))
            log.info("trial %d %s", self.lease.number, epoch)
            self._save(training)
            return self._report(config)

    def _tick(self) -> None:
        self._is_tidy = True
        interrupt.check()
        self.watch.tick()
        self._is_tidy = False

    def _save(self, training: Run) -> None:
        """Keep the state; nothing is reported that is not kept first."""
        epochs, batches = training.position
        mark = Mark(self.lease.token, epochs, batches)
        state = {"run": training.state_dict(), "history": self.history, "seconds": self.seconds}
        try:
            checkpoint.save(state, self.desk.shelf, self.desk.folder(self.lease.number), mark)
        except StorageError as error:  # or whoever has the trial now has cleared it away
            if not self.insist(lambda: self.leases.holds(self.lease)):
                raise LeaseLost from error
            raise
        self.watch.beats += 1

    # ---- to the database

    def _report(self, config: TrialConfig) -> Ending | None:
        """Store what the database has not got yet; return how the trial is to end, if now.

        While Postgres is away nothing is decided, and what was to be stored waits.
        """
        is_last = len(self.history) == config.epochs
        if not self.history or not (is_last or self._deliver()):
            return self._over() if not self.history and self.watch.is_over else None
        if is_last:
            return TrialState.COMPLETE, ""
        if self.watch.is_over:
            return self._over()
        return (TrialState.PRUNED, "") if self._is_hopeless() else None

    def _over(self) -> Ending:
        hours = self.desk.terms.hours
        return TrialState.PRUNED, f"the budget's {hours:g} hours were over before its last epoch"

    def _deliver(self) -> bool:
        if self.reported == len(self.history):
            return True
        if not self.leases.is_reachable:
            return False
        try:
            self._write(self._unreported(), {"history": self.history})
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("trial %d: its reports wait for Postgres", self.lease.number)
            return False
        self.reported = len(self.history)
        return True

    def _unreported(self) -> dict[int, float]:
        return {each["epoch"]: each[self.desk.metric] for each in self.history[self.reported :]}

    def _write(self, steps: dict[int, float], attributes: dict[str, Any]) -> None:
        self.desk.storage.report(self.lease.trial_id, steps, attributes)

    def _is_hopeless(self) -> bool:
        """Ask the pruner; untuned runs go to their end: everything tuned is compared with them."""
        if "default" in self.trial.user_attrs:
            return False
        try:
            now = self.desk.storage.get_trial(self.lease.trial_id)
            return self.desk.trials.pruner.prune(self.desk.trials, now)
        except Exception as error:
            if not is_passing(error):
                raise
            return False

    def tell(self, state: TrialState, value: float | None, reason: str) -> None:
        """End the trial: the last reports first, then its state and value.

        Raises:
            LeaseLost: it is in other hands.
        """
        attributes = self._accounts() | ({"reason": reason} if reason else {})
        if self.history:
            attributes["history"] = self.history
        self.insist(lambda: self._write(self._unreported(), attributes))
        self.insist(
            lambda: self.desk.trials.tell(self.trial, value, state=state, skip_if_finished=True)
        )

    def account(self) -> None:
        """Store what the trial took so far."""
        self.insist(lambda: self._write({}, self._accounts()))

    def _accounts(self) -> dict[str, Any]:
        told: dict[str, Any] = {"seconds": {k: round(v, 3) for k, v in self.seconds.items()}}
        if self.training is not None:
            told["peak_memory_mb"] = round(self.training.peak_memory_mb, 1)
        return told

    # ---- memory

    def _halve(self, config: TrialConfig, error: OutOfMemory) -> None:
        """Let fewer images pass through the model at once, from the next try on.

        Raises:
            DoesNotFit: it was one image already.
        """
        tried = min(error.micro_batch, self.training.micro_batch if self.training else 1)
        if tried <= 1:
            raise DoesNotFit(
                f"out of memory on {self.placement.device} with a single image at a time",
                error.what,
                "leave this backbone out, give `data.image_size`, or use a device with more memory",
            ) from error
        half = tried // 2
        log.warning("trial %d: out of memory; now %d images at a time", self.lease.number, half)
        self.insist(lambda: self.leases.note_fitted(half, **self._place(config)))

    def _place(self, config: TrialConfig) -> dict[str, str | int]:
        return facts.of_memory(config, self.desk.transform(config).crop, self.placement)

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start
