"""One worker's work on one trial: from where it stands to its end, or until it has to be given up.

Two sides meet here: `train` computes and knows no database, `reports` tells the database and knows
no tensors. What they say to each other passes through `tick`, after every batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from tunesvc import checkpoint, interrupt, train
from tunesvc.checkpoint import Flat, Mark
from tunesvc.errors import StorageError
from tunesvc.interrupt import Stopped
from tunesvc.leases import Lease, LeaseLost, Leases, Leave
from tunesvc.spec import Knobs, TrialConfig
from tunesvc.train import Diverged, Epoch, OutOfMemory, Placement, Run
from tunesvc.trial import facts, league
from tunesvc.trial.constraints import Constraints
from tunesvc.trial.delivery import Delivery, Ending, Kept
from tunesvc.trial.desk import Desk
from tunesvc.trial.fitting import Fitting
from tunesvc.trial.reports import PHASES, Reports
from tunesvc.trial.values import check_known

log = logging.getLogger(__name__)


_CHEAP_SECONDS = 0.005  # of an epoch; to keep one that takes less would take longer


class _Ended(Exception):  # noqa: N818 (a message from `_tick`)
    """The clerk has learned how the trial is to end."""


@dataclass
class Attempt:
    """A leased trial being worked on.

    Args:
        clerk: keeps checkpoints and tells Postgres, beside training.
        on_begun: is called when the first batch is done.
        told: when the trial before this one was told, by `time.perf_counter`; None: there was none.
    """

    desk: Desk
    lease: Lease
    placement: Placement
    leases: Leases
    clerk: Executor
    on_begun: Callable[[], None] = lambda: None
    told: float | None = None
    levers: dict[str, Any] = field(default_factory=dict)  # what was spared, as the trial stores it
    diverged: Diverged | None = None
    reports: Reports = field(init=False)
    fitting: Fitting = field(init=False)
    constraints: Constraints = field(init=False)
    delivery: Delivery = field(init=False)
    training: Run | None = None
    history: list[dict[str, Any]] = field(default_factory=list)  # what finished epochs brought
    peak: dict[str, Any] = field(default_factory=dict)  # of memory, of who had the trial before
    _drawn: tuple[str, Knobs] | None = None
    _is_begun: bool = False
    _is_tidy: bool = False  # stopped between two batches: its state may be saved

    def __post_init__(self) -> None:
        self.reports = Reports(self.desk, self.lease, self.leases)
        self.fitting = Fitting(self.reports, self.placement)
        self.constraints = Constraints(self.reports, self.placement)
        self.delivery = Delivery(self.clerk, self._hand_in)

    def draw(self) -> tuple[str, Knobs]:
        """Return the trial's backbone and knobs; drawn and stored now, if not before.

        Whatever Postgres's absence causes is raised at once.
        """
        if self._drawn is None:
            self._drawn = self.reports.suggest()
        return self._drawn

    def prepare(self) -> Run:
        """Return the trial's run, at its beginning."""
        self.leases.watch(self.lease).begin()
        label, knobs = self.reports.insist(self.draw)
        config = self.desk.config(label, knobs, self.lease.number)
        self.training = self._build(label, config, None)
        return self.training

    def drawn_ending(self) -> Ending | None:
        """Return how the trial ends if it breaks a constraint by its configuration alone."""
        label, knobs = self.reports.insist(self.draw)
        config = self.desk.config(label, knobs, self.lease.number)
        return self.constraints.drawn(label, config)

    def begin_anew(self) -> None:
        """Forget what was done here; the trial waits for its turn."""
        self.history, self.training, self.diverged = [], None, None
        self.reports.seconds = dict.fromkeys(PHASES, 0.0)
        self.levers.pop("stack", None)
        self.leases.watch(self.lease).is_waiting = True

    def train(self) -> Ending:
        """Go on where the trial stands, to its last epoch or the word of the pruner.

        Raises:
            LeaseLost: not a word more is to be written.
            Leave, Stopped: it was saved between two batches, if there was time for that.
            Diverged, DoesNotFit: its configuration's fault.
        """
        self.leases.watch(self.lease).begin()
        label, knobs = self.reports.insist(self.draw)
        config = self.desk.config(label, knobs, self.lease.number)
        state = self._load()
        with self._clock("model"):
            broken = self.constraints.drawn(label, config)
        with self._clock("report"):
            ending = broken or self.reports.deliver(config.epochs)
        if ending == (TrialState.COMPLETE, "") and "run" not in self.reports.known():
            self.training = self._build(label, config, state)  # who trained it has told nothing
        while ending is None:
            interrupt.check()
            try:
                self.training = self._build(label, config, state)
                ending = self._broken(is_fresh=state is None) or self._epochs()
            except OutOfMemory as error:
                self.delivery.wait()
                self.fitting.halve(error, self.training)
                state = self._load()
        return ending

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
        self.history = [] if state is None else list(state["history"])
        reports.history = list(self.history)
        reports.reported = min(reports.reported, len(self.history))
        reports.judged = 0 if state is None else state.get("judged", 0)
        if state is not None and self.training is None:
            reports.seconds |= state["seconds"]
            self.peak = state.get("peak", {})
        self.training = None
        return state

    def _build(self, label: str, config: TrialConfig, state: dict[str, Any] | None) -> Run:
        with self._clock("data"):
            first, second = self.desk.splits(config, "train", "val", tick=self.tick)
        with self._clock("model"), self.fitting.room_for_the_model():
            training = self.desk.training(config, first, second, self.placement)
            training.compiling.apart = lambda: self.watched(is_training=False)
            league.seed_head(self.desk, label, training)
            if state is not None:
                training.load_state_dict(state["run"])
        self.fitting.limit(training)
        run = facts.of_run(label, training, self.desk.cache)
        self.reports.say({"run": run})
        check_known(self.desk.goals, label, run)
        return training

    def _broken(self, *, is_fresh: bool) -> Ending | None:
        """Return how the trial ends that breaks a constraint on the device."""
        assert self.training is not None
        with self._clock("model"):
            return self.constraints.built(self.training, self.tick if is_fresh else None)

    # ---- epochs

    def _epochs(self) -> Ending:
        training = self.training
        assert training is not None
        with interrupt.deferred(), self.watched():
            try:
                for epoch in train.fit(training, self.tick):
                    self._after(epoch, training)
                    if not self._is_unfinished:
                        break
                with self._clock("report"), self.watched(is_training=False):
                    self.delivery.wait()  # a verdict that comes after the last epoch comes too late
            except _Ended as ended:
                return ended.args[0]  # type: ignore[no-any-return]
            except (Stopped, Leave):
                if self._is_tidy and (ending := self.keep_now()) and self._is_unfinished:
                    return ending
                raise
        return TrialState.COMPLETE, ""

    def note(self, epoch: Epoch) -> None:
        """An epoch is finished."""
        for phase, seconds in epoch.seconds.items():
            self.reports.seconds[phase] += seconds
        self.history.append(facts.of_epoch(epoch))
        log.info("trial %d %s", self.lease.number, epoch)

    def _after(self, epoch: Epoch, training: Run) -> None:
        self.fitting.remember(training)
        self.note(epoch)
        self._is_tidy = True
        with self._clock("report"):
            is_dear = sum(epoch.seconds.values()) > _CHEAP_SECONDS
            copied = checkpoint.flattened(training.state_dict())
            self.delivery.post(self._kept(copied), in_turn=is_dear)
            self._look()
        self._is_tidy = False

    def tick(self) -> None:
        """Show that work advances; learn whether it is to go on.

        Raises:
            LeaseLost, Leave, Stopped: it is not.
        """
        self._is_tidy = True
        interrupt.check()
        self.leases.watch(self.lease).tick()
        self._look()
        if self.training is not None and self.training.progress:
            self.begin()
        self._is_tidy = False

    def begin(self) -> None:
        """Training has begun: call `on_begun`, once."""
        if not self._is_begun:
            self._is_begun = True
            self.on_begun()

    def _look(self) -> None:
        """Learn from the clerk whether the trial goes on."""
        ending = self.delivery.look()
        if ending is not None and self._is_unfinished:
            raise _Ended(ending)

    @property
    def _is_unfinished(self) -> bool:
        return self.training is not None and len(self.history) < self.training.config.epochs

    @contextmanager
    def watched(self, is_training: bool = True) -> Iterator[None]:
        """Have the watchdog expect batches, or not, while the block runs."""
        watch = self.leases.watch(self.lease)
        before, watch.is_training = watch.is_training, is_training
        try:
            yield
        finally:
            watch.is_training = before
            watch.beats += 1

    # ---- keeping

    def keep_now(self) -> Ending | None:
        """Keep the run as it stands, and report it; return how the trial is to end, if now."""
        assert self.training is not None
        with self.watched(is_training=False):
            ending = self.delivery.wait()
            return self._hand_in(self._kept(self.training.state_dict())) or ending

    def _kept(self, run: dict[str, Any] | Flat) -> Kept:
        assert self.training is not None
        history = list(self.history)
        known = {"seconds": dict(self.reports.seconds), "judged": self.reports.judged}
        if self.desk.wants("train_memory_mb"):
            known["peak"] = facts.of_peak(self.training)
        state = {"run": run, "history": history} | known
        return Kept(Mark(self.lease.token, *self.training.position), state, history)

    def _hand_in(self, kept: Kept) -> Ending | None:
        """Keep a state, then report it: nothing is reported that is not kept first."""
        folder = self.desk.folder(self.lease.number)
        try:
            checkpoint.save(kept.state, self.desk.shelf, folder, kept.mark)
        except StorageError as error:  # or whoever has the trial now has cleared it away
            if not self.reports.insist(lambda: self.leases.holds(self.lease)):
                raise LeaseLost from error
            raise
        self.reports.history = kept.history
        return self.reports.deliver(self.desk.study.spec.budget.epochs)

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.reports.seconds[phase] += time.perf_counter() - start
