"""What a trial has to tell Postgres, in order, until Postgres has it; and what it is told back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from tunesvc import interrupt
from tunesvc.leases import Lease, Leases, Watch
from tunesvc.spec import Knobs
from tunesvc.storage import is_passing, patiently
from tunesvc.trial.desk import Desk

log = logging.getLogger(__name__)

T = TypeVar("T")
Ending = tuple[TrialState, str]  # and its reason

PHASES = ("data", "model", "train", "eval", "report")
_RUNG = "completed_rung_"  # how Optuna's successive halving marks what it has judged


@dataclass
class Reports:
    """One leased trial, as the database is to know it.

    Args:
        history: what each finished epoch brought; the first `reported` of them Postgres has.
        seconds: of each phase.
    """

    desk: Desk
    lease: Lease
    leases: Leases
    history: list[dict[str, Any]] = field(default_factory=list)
    reported: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    _trial: optuna.Trial | None = None

    @property
    def trial(self) -> optuna.Trial:
        """The trial, as Optuna's samplers know it."""
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

    def suggest(self) -> tuple[str, Knobs]:
        """Return the trial's backbone and knobs, those drawn before as they were drawn."""

        def draw() -> tuple[str, Knobs]:
            try:
                drawn = self.desk.space.suggest(self.trial)
                self.write({})
                return drawn
            except BaseException:  # perhaps stored, and the reply lost: read it anew
                self._trial = None
                raise

        return self.insist(draw)

    def write(self, attributes: dict[str, Any]) -> None:
        """Store the epochs that Postgres has not got yet, and user attributes.

        Raises:
            LeaseLost: it is in other hands.
        """
        steps = {each["epoch"]: each[self.desk.metric] for each in self.history[self.reported :]}
        told = attributes | ({"history": self.history} if steps else {})
        self.desk.storage.report(self.lease.trial_id, steps, told)
        self.reported = len(self.history)

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
        return (TrialState.PRUNED, self._beaten()) if self._is_hopeless() else None

    def _beaten(self) -> str:
        kind = self.desk.study.spec.pruner.kind
        return f"others were better after epoch {len(self.history)} (pruner: {kind})"

    def _try_to_write(self) -> bool:
        if not self.leases.is_reachable:
            return False
        try:
            self.write({})
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("trial %d: its reports wait for Postgres", self.lease.number)
            return False
        return True

    def _over(self) -> Ending:
        hours = self.desk.terms.hours
        return TrialState.PRUNED, f"the budget's {hours:g} hours were over before its last epoch"

    def _is_hopeless(self) -> bool:
        """Ask the pruner; untuned runs go to their end: everything tuned is compared with them."""
        if "default" in self.trial.user_attrs:
            return False
        try:
            now = self.desk.storage.get_trial(self.lease.trial_id)
            return self.desk.trials.pruner.prune(self.desk.trials, _unjudged(now))
        except Exception as error:
            if not is_passing(error):
                raise
            return False

    def tell(self, state: TrialState, value: float | None, told: dict[str, Any]) -> None:
        """End the trial: the last reports first, then its state and value.

        Raises:
            LeaseLost: it is in other hands.
        """
        self.insist(lambda: self.write(self.accounts() | told))
        self.insist(
            lambda: self.desk.trials.tell(self.trial, value, state=state, skip_if_finished=True)
        )

    def accounts(self) -> dict[str, Any]:
        """Return what the trial took so far."""
        return {"seconds": {phase: round(spent, 3) for phase, spent in self.seconds.items()}}

    def is_gone(self) -> bool:
        """Whether the trial was deleted, with its study."""
        try:
            self.desk.study.store.fresh().get_trial(self.lease.trial_id)
        except KeyError:
            return True
        return False


def _unjudged(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as it was before successive halving judged its present value.

    The mark of a rung is stored before the verdict is given. A worker that dies between the two
    leaves a trial that looks as if it had been let through.
    """
    rungs = [key for key in trial.system_attrs if key.startswith(_RUNG)]
    latest = max(rungs, key=lambda key: int(key.removeprefix(_RUNG)), default=None)
    step = trial.last_step
    if latest is None or step is None:
        return trial
    if trial.system_attrs[latest] != trial.intermediate_values[step]:
        return trial
    before = copy.copy(trial)
    before.system_attrs = {k: v for k, v in trial.system_attrs.items() if k != latest}
    return before
