"""One process, one device: lease a trial, run it, next.

A stop signal (see `interrupt`) leaves the trial under way with its last checkpoint; it goes on
in the next worker that asks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from optuna.trial import TrialState

from tunesvc import places, study
from tunesvc.errors import DataError, TrainingError, WeightsError
from tunesvc.leases import Lease, Leases
from tunesvc.storage import Store, open_store
from tunesvc.study import Study
from tunesvc.train import Placement, place
from tunesvc.trial import Desk, Outcome, run

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5  # between two looks for work
FAILURES_IN_A_ROW = 3  # of one study in one worker: its cause is not the configuration


@dataclass
class _Worker:
    store: Store
    leases: Leases
    placement: Placement
    names: Sequence[str]
    on_trial: Callable[[str], None]
    desks: dict[int, Desk] = field(default_factory=dict)
    unusable: set[int] = field(default_factory=set)
    failed_in_a_row: dict[int, int] = field(default_factory=dict)

    def studies(self) -> list[Study]:
        if self.names:
            return [study.open_study(self.store, name) for name in self.names]
        return [each for each in study.all_open(self.store) if each.id not in self.unusable]

    def step(self) -> bool:
        """Run one trial of the oldest study that has one to run; return whether there was one."""
        for candidate in self.studies():
            if study.is_paused(candidate):
                continue
            desk = self._desk(candidate)
            if desk is None:
                continue
            lease = self.leases.claim(candidate.id, study.limit_now(candidate), desk.begin)
            if lease is not None:
                self._run(desk, lease)
                return True
        return False

    def _run(self, desk: Desk, lease: Lease) -> None:
        try:
            outcome = run(desk, lease, self.placement, self.leases)
        finally:
            self.leases.release(lease)
        if outcome is None:
            return
        self.on_trial(_line(outcome))
        failed = outcome.state is TrialState.FAIL
        self.failed_in_a_row[desk.study.id] = failed * (self._failed(desk) + 1)
        if self._failed(desk) >= FAILURES_IN_A_ROW:
            study.pause(desk.study)
            raise TrainingError(
                f"{FAILURES_IN_A_ROW} trials of {desk.study.name!r} failed in a row; it is paused",
                outcome.reason.strip().splitlines()[-1],
                f"mend the cause, then: tunesvc resume {desk.study.name}",
            )

    def _failed(self, desk: Desk) -> int:
        return self.failed_in_a_row.get(desk.study.id, 0)

    def _desk(self, candidate: Study) -> Desk | None:
        """Return a study ready for trials; None if this machine cannot serve one of many."""
        if candidate.id not in self.desks:
            try:
                desk = Desk(candidate, places.cache(), places.artifacts())
            except (DataError, WeightsError) as error:
                if self.names:
                    raise
                log.warning("study %s is passed over here: %s", candidate.name, error)
                self.unusable.add(candidate.id)
                return None
            self.desks[candidate.id] = desk
        return self.desks[candidate.id]

    def done(self) -> bool:
        """Whether every served study has used its budget and has no running trial."""
        return all(study.status(each).state == "done" for each in self.studies())


def serve(
    storage: str | None,
    names: Sequence[str],
    *,
    device: str | None,
    until_done: bool,
    on_trial: Callable[[str], None] = log.info,
) -> None:
    """Run trials of the named studies, or of all open ones, oldest study first.

    Args:
        names: study names; empty serves every open study, also those created later.
        until_done: return when the served studies are done, instead of waiting for more work.
        on_trial: is given one line for each finished trial.

    Raises:
        TuneError: this machine cannot go on; a trial under way is left to be taken over.
        Stopped: a signal came; the trial under way is left to be taken over.
    """
    placement = place(device)
    with open_store(storage) as store, closing(Leases(store.engine)) as leases:
        worker = _Worker(store, leases, placement, names, on_trial)
        while True:
            if worker.step():
                continue
            if until_done and worker.done():
                return
            time.sleep(IDLE_SECONDS)


def _line(outcome: Outcome) -> str:
    value = "" if outcome.value is None else f" {outcome.value:.4f}"
    reason = f": {outcome.reason.splitlines()[-1]}" if outcome.reason else ""
    return f"trial {outcome.number} {outcome.state.name.lower()}{value}{reason}"
