"""What a trial has to tell Postgres, in order, until Postgres has it; and what it is told back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunesvc import interrupt, search
from tunesvc.leases import Fenced, Lease, LeaseLost, Leases, Watch, Word, tell_together
from tunesvc.spec import Knobs
from tunesvc.storage import is_passing, patiently
from tunesvc.trial.delivery import Ending
from tunesvc.trial.desk import Desk

log = logging.getLogger(__name__)

T = TypeVar("T")

PHASES = ("data", "model", "features", "train", "eval", "report")


@dataclass
class Reports:
    """One leased trial, as the database is to know it.

    Args:
        history: what each finished epoch brought; the first `reported` of them Postgres has, and
            of the first `judged` the pruner knew.
        seconds: of each phase.
    """

    desk: Desk
    lease: Lease
    leases: Leases
    history: list[dict[str, Any]] = field(default_factory=list)
    reported: int = 0
    judged: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    _unsaid: dict[str, Any] = field(default_factory=dict)  # goes with the next write
    _trial: optuna.Trial | None = None
    _storage: Fenced | None = None

    @property
    def storage(self) -> Fenced:
        """Where this trial alone is written to."""
        if self._storage is None:
            self._storage = self.desk.storage(self.lease)
        return self._storage

    @property
    def trial(self) -> optuna.Trial:
        """The trial, as Optuna's samplers know it."""
        if self._trial is None:
            self._trial = self.desk.take(self.lease, self.storage)
        return self._trial

    @property
    def watch(self) -> Watch:
        """The lease as the thread that renews it sees it."""
        return self.leases.watch(self.lease, self.desk.terms)

    def insist(self, act: Callable[[], T]) -> T:
        """Do something in the database, however long (up to a limit) it is away."""

        def wait(_seconds: float) -> None:
            interrupt.check()
            self.watch.beats += 1  # it is Postgres that hangs, not this worker

        return patiently(act, revive=self.desk.study.store.revive, on_wait=wait)

    def suggest(self) -> tuple[str, Knobs]:
        """Return the trial's backbone and knobs, those drawn before as they were drawn.

        It may be repeated: what was drawn and not stored yet is kept.
        """
        is_new = not self.trial.params
        drawn = self.desk.space.suggest(self.trial)
        if is_new:
            self.say({"drawn": search.drawn(self.trial)})
        self.write()
        return drawn

    def say(self, attributes: dict[str, Any]) -> None:
        """Store user attributes, with the next write."""
        self._unsaid |= attributes

    def known(self) -> dict[str, Any]:
        """Return the user attributes of the trial, with those that wait to be stored."""
        return self.storage.get_trial(self.lease.trial_id).user_attrs | self._unsaid

    def write(self) -> None:
        """Store what Postgres has not got yet, in one round trip.

        Raises:
            LeaseLost: it is in other hands.
        """
        said = self._attributes()
        epoch, is_begun = len(self.history), not self.watch.is_waiting
        number, steps = self.lease.trial_id, self._steps()
        self.storage.report(number, steps, said, epoch=epoch, is_begun=is_begun)
        self.reported = len(self.history)
        self._forget(said)

    def _steps(self) -> dict[int, float]:
        metric = self.desk.metric
        fresh = self.history[self.reported :]
        return {each["epoch"]: each[metric] for each in fresh if metric in each}

    def _attributes(self) -> dict[str, Any]:
        is_new = len(self.history) > self.reported
        return self._unsaid | ({"history": self.history} if is_new else {})

    def _forget(self, said: dict[str, Any]) -> None:
        self._unsaid = {key: value for key, value in self._unsaid.items() if key not in said}

    def deliver(self, epochs: int) -> Ending | None:
        """Store what finished epochs brought; return how the trial is to end, if now.

        While Postgres is away nothing is decided, and what was to be stored waits.
        """
        if len(self.history) == epochs:
            return TrialState.COMPLETE, ""  # told with the trial's end
        if not self.history or not self._try_to_write():
            return self._over() if not self.history and self.watch.is_over else None
        if self.watch.is_over:
            return self._over()
        return self._beaten()

    def _try_to_write(self) -> bool:
        if not self.leases.is_reachable:
            return False
        try:
            self.write()
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("trial %d: its reports wait for Postgres", self.lease.number)
            return False
        return True

    def _over(self) -> Ending:
        budget = self.desk.terms.limits.in_words(self.watch.over)
        return TrialState.PRUNED, f"the budget's {budget} were over before its last epoch"

    def _beaten(self) -> Ending | None:
        """Ask the pruner about every epoch that it has not judged.

        Untuned runs go to their end: everything tuned is compared with them. So do controls, by
        which the pruner is judged: it is noted after which epoch it would have stopped them.
        """
        marks = self.storage.get_trial(self.lease.trial_id).user_attrs
        if "default" in marks or "stop_epoch" in marks:
            return None
        is_control = self.desk.is_control(self.lease.number)
        if is_control:
            self.say({"control": True})
        try:
            while self.judged < len(self.history):
                is_new = self.desk.metric in self.history[self.judged]
                if is_new and self._is_hopeless(self.history[: self.judged + 1]):
                    kind = self.desk.study.spec.pruner.kind
                    after = f"others were better after epoch {self.judged + 1}"
                    if not is_control:
                        return TrialState.PRUNED, f"{after} (pruner: {kind})"
                    self.say({"stop_epoch": self.judged + 1})
                    self.write()
                    return None
                self.judged += 1
        except Exception as error:
            if not is_passing(error):
                raise
        return None

    def _is_hopeless(self, history: Sequence[dict[str, Any]]) -> bool:
        study = self.trial.study
        metric = self.desk.metric
        known = {each["epoch"]: each[metric] for each in history if metric in each}
        return study.pruner.prune(study, self._after(known))

    def _after(self, values: dict[int, float]) -> FrozenTrial:
        """Return the trial as it was when it had reported these."""
        then = copy.copy(self.storage.get_trial(self.lease.trial_id))
        then.intermediate_values = values
        return then

    def end(self, state: TrialState, values: Sequence[float], told: dict[str, Any]) -> Word:
        """Return how the trial ends, with its last reports."""
        told = self._attributes() | self.accounts() | told
        epoch = len(self.history)
        return self.insist(lambda: self.storage.end(state, values, self._steps(), told, epoch))

    def tell(self, end: Word) -> None:
        """End the trial, in one round trip.

        Raises:
            LeaseLost: it is in other hands.
        """
        engine = self.desk.study.store.engine
        if self.insist(lambda: tell_together(engine, [(self.storage, end)])) != [True]:
            raise LeaseLost
        self.reported = len(self.history)

    def accounts(self) -> dict[str, Any]:
        """Return what the trial took so far."""
        return {"seconds": {phase: round(spent, 4) for phase, spent in self.seconds.items()}}

    def is_gone(self) -> bool:
        """Whether the trial was deleted, with its study."""
        try:
            self.desk.study.store.fresh().get_trial(self.lease.trial_id)
        except KeyError:
            return True
        return False
