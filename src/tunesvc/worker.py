"""One process, one device: lease a trial, run it, next.

A stop signal (see `interrupt`) ends the batch under way, keeps its state and gives the trial back;
it goes on in the next worker that asks.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError

from tunesvc import interrupt, places, study
from tunesvc.errors import StudyError, TuneError
from tunesvc.leases import Lease, Leases
from tunesvc.processes import LABEL
from tunesvc.shelf import Shelf
from tunesvc.storage import Store, open_store, patiently
from tunesvc.storage.artifacts import open_artifacts
from tunesvc.study import Study
from tunesvc.train import Placement, place
from tunesvc.trial import Desk, Outcome, run

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5  # between two looks for work


@dataclass
class _Worker:
    store: Store
    leases: Leases
    shelf: Shelf
    placement: Placement
    names: Sequence[str]
    on_trial: Callable[[str], None]
    desks: dict[int, Desk] = field(default_factory=dict)
    unusable: set[int] = field(default_factory=set)

    def studies(self) -> list[Study]:
        """Return the studies to serve: not those that were stopped since this worker began."""
        if self.names:
            found = [each for name in self.names if (each := self._named(name))]
        else:
            found = [each for each in study.all_open(self.store) if each.id not in self.unusable]
        return [each for each in found if not self.leases.is_stopped(each.id)]

    def _named(self, name: str) -> Study | None:
        """Return a study by its name; None if it was deleted since this worker served it."""
        try:
            return study.open_study(self.store, name)
        except StudyError:
            if name not in {desk.study.name for desk in self.desks.values()}:
                raise
            log.warning("study %s was deleted", name)
            return None

    def next(self) -> tuple[Desk, Lease] | None:
        """Claim a trial of the oldest study that has one to run."""
        for candidate in self.studies():
            desk = self._desk(candidate)
            lease = desk and self.leases.claim(candidate.id, desk.terms)
            if desk and lease:
                return desk, lease
        return None

    def run(self, desk: Desk, lease: Lease) -> None:
        """Run a claimed trial, and give it back unless it was told."""
        try:
            outcome = run(desk, lease, self.placement, self.leases)
        finally:
            self.leases.release(lease)
        if outcome is None:
            return
        self.on_trial(_line(outcome))
        if outcome.state is TrialState.FAIL:
            patiently(lambda: self._check_paused(desk.study), revive=self.store.revive)

    def _check_paused(self, served: Study) -> None:
        """Raise TrainingError if the study's trials fail alike and it is all that is served."""
        now = study.status(served)
        if now.state != "paused" or not now.why:
            return
        if self.names:
            raise study.paused_error(now)
        log.error("%s", study.paused_error(now))

    def _desk(self, candidate: Study) -> Desk | None:
        """Return a study ready for trials; None if this machine cannot serve one of many."""
        known = self.desks.get(candidate.id)
        if known is None or known.study.spec != candidate.spec:
            try:
                known = Desk(candidate, places.cache(), self.shelf)
            except (TuneError, KeyError, IntegrityError) as error:  # the last two: just deleted
                if self.names:
                    raise
                log.warning("study %s is passed over here: %s", candidate.name, error)
                self.unusable.add(candidate.id)
                return None
            self.desks[candidate.id] = known
        return known

    def is_done(self) -> bool:
        """Whether every served study has used its budget and has no running trial."""
        return all(study.status(each).state == "done" for each in self.studies())

    def is_dismissed(self) -> bool:
        """Whether every study that it was named has been stopped, or deleted."""
        return bool(self.names) and not self.studies()


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
        Stopped: a signal came; the trial under way was kept and given back.
    """
    placement, shelf = place(device), open_artifacts(places.artifacts())
    with open_store(storage) as store:
        leases = Leases(
            store.engine,
            device=str(placement.device),
            studies=names,
            label=os.environ.get(LABEL),
            revive=store.revive,
        )
        with closing(leases):
            _work(_Worker(store, leases, shelf, placement, names, on_trial), until_done)


def _work(worker: _Worker, until_done: bool) -> None:
    revive = worker.store.revive
    while True:
        interrupt.check()
        found = patiently(worker.next, revive=revive)
        if found is not None:
            worker.run(*found)
            continue
        if patiently(worker.is_dismissed, revive=revive):
            log.info("nothing is left to serve; this worker leaves")
            return
        if until_done and patiently(worker.is_done, revive=revive):
            return
        time.sleep(IDLE_SECONDS)


def _line(outcome: Outcome) -> str:
    value = "" if outcome.value is None else f" {outcome.value:.4f}"
    reason = f": {outcome.reason.splitlines()[-1]}" if outcome.reason else ""
    return f"trial {outcome.number} {outcome.state.name.lower()}{value}{reason}"
