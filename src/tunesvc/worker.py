"""One process, one device: lease a trial, run it, next.

A stop signal (see `interrupt`) ends the batch under way, keeps its state and gives the trial back;
it goes on in the next worker that asks.

Why: 2026-11: the next trial is asked for while the present one trains (`ask_ahead`), unless
another worker would then have none. To the sampler it looks as if one worker more were at work: it
draws knowing of the present trial what it knows of any that runs, its parameters.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError

from tunesvc import hostcache, interrupt, places, search, study
from tunesvc.errors import StudyError, TuneError
from tunesvc.leases import Lease, Leases
from tunesvc.processes import LABEL
from tunesvc.shelf import Shelf
from tunesvc.storage import Store, open_store, patiently
from tunesvc.storage.artifacts import open_artifacts
from tunesvc.study import Study
from tunesvc.train import Choice, Placement, place
from tunesvc.trial import (
    AtOnce,
    Attempt,
    Desk,
    Outcome,
    complete,
    is_head_only,
    run,
    run_together,
)

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5  # between two looks for work
_NICE = 10  # of the clerk: a tenth of a core where training wants all of them
FRESH_SECONDS = 5.0  # so long what is known of the studies is not asked again, while there is work


@dataclass
class _Worker:
    store: Store
    leases: Leases
    shelf: Shelf
    placement: Placement
    names: Sequence[str]
    on_trial: Callable[[str], None]
    clerk: Executor
    desks: dict[int, Desk] = field(default_factory=dict)
    unusable: set[int] = field(default_factory=set)
    _served: tuple[float, list[Study]] = (0.0, [])  # until when they count, monotonic
    _ahead: Future[Attempt | None] | None = None
    _told: float | None = None  # when the last trial ended, by time.perf_counter

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

    def next(self) -> Attempt | None:
        """Return the trial that was asked for ahead, or claim one of the oldest study with work."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (attempt := ahead.result()):
            return attempt
        for desk in self._desks():
            lease = self.leases.claim(desk.study.id, desk.terms)
            if isinstance(lease, Lease):
                return Attempt(desk, lease, self.placement, self.leases, self.clerk)
        self._served = (0.0, [])
        return None

    def _desks(self) -> Iterator[Desk]:
        until, served = self._served
        if time.monotonic() > until:
            served = self.studies()
            self._served = time.monotonic() + FRESH_SECONDS, served
        for candidate in served:
            if desk := self._desk(candidate):
                yield desk

    def run(self, attempt: Attempt) -> None:
        """Run a claimed trial, and those that can be trained with it; what is not told is freed."""
        attempts = self._gathered(attempt)
        try:
            attempt.told = self._told
            attempt.on_begun = lambda: self._ask_ahead(attempt.desk)
            if _is_head_only(attempt):
                for each, outcome in run_together(attempts):
                    self._note(each, outcome)
            else:
                self._note(attempt, run(attempt))
        finally:
            for each in attempts:
                self.leases.release(each.lease)

    def _note(self, attempt: Attempt, outcome: Outcome | None) -> None:
        self._told = time.perf_counter()
        if outcome is None:
            return
        self.on_trial(_line(outcome))
        if outcome.state is TrialState.FAIL:
            served = attempt.desk.study
            patiently(lambda: self._check_paused(served), revive=self.store.revive)

    def _gathered(self, first: Attempt) -> list[Attempt]:
        """Return a trial with the head-only ones that follow it, if it is one itself."""
        spec, found = first.desk.study.spec, [first]
        most = search.together(spec, first.lease.number, spec.stack)
        if most == 1 or not _is_head_only(first):
            return found
        while len(found) < most and (drawn := self._drawn_next(first.desk)):
            if not _is_head_only(drawn):
                self._ahead = AtOnce().submit(lambda: drawn)
                break
            found.append(drawn)
        return found

    def _drawn_next(self, desk: Desk) -> Attempt | None:
        ahead, self._ahead = self._ahead, None
        return ahead.result() if ahead else self._asked(desk)

    def _ask_ahead(self, desk: Desk) -> None:
        if desk.study.spec.ask_ahead and self._ahead is None:
            self._ahead = self.clerk.submit(self._asked, desk)

    def _asked(self, desk: Desk) -> Attempt | None:
        """Claim and draw the next trial of a study, beside training; None where that fails."""
        lease = None
        try:
            lease = self.leases.claim(desk.study.id, desk.terms, spare=True)
            if not isinstance(lease, Lease):
                return None
            attempt = Attempt(desk, lease, self.placement, self.leases, self.clerk)
            attempt.levers["asked_ahead"] = True
            attempt.draw()
        except Exception as error:  # whatever it is, the next claim will tell
            log.info("no trial could be drawn ahead: %s", error)
            if isinstance(lease, Lease):
                self.leases.release(lease)
            return None
        return attempt

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
                complete(known, self.placement, interrupt.check)
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
    compiling: Choice = "auto",
    on_trial: Callable[[str], None] = log.info,
) -> None:
    """Run trials of the named studies, or of all open ones, oldest study first.

    Args:
        names: study names; empty serves every open study, also those created later.
        until_done: return when the served studies are done, instead of waiting for more work.
        compiling: whether training steps are compiled: where it pays, everywhere, or nowhere.
        on_trial: is given one line for each finished trial.

    Raises:
        TuneError: this machine cannot go on; a trial under way is left to be taken over.
        Stopped: a signal came; the trial under way was kept and given back.
    """
    placement, shelf = place(device, compiling), open_artifacts(places.artifacts())
    hostcache.limit_bytes()  # a senseless TUNESVC_CACHE_GB is told now
    with open_store(storage) as store:
        leases = Leases(
            store.engine,
            device=str(placement.device),
            studies=names,
            label=os.environ.get(LABEL),
            revive=store.revive,
        )
        clerk = ThreadPoolExecutor(1, thread_name_prefix="clerk", initializer=_give_way)
        with closing(leases), clerk:
            _work(_Worker(store, leases, shelf, placement, names, on_trial, clerk), until_done)


def _work(worker: _Worker, until_done: bool) -> None:
    revive = worker.store.revive
    while True:
        interrupt.check()
        found = patiently(worker.next, revive=revive)
        if found is not None:
            worker.run(found)
            continue
        if patiently(worker.is_dismissed, revive=revive):
            log.info("nothing is left to serve; this worker leaves")
            return
        if until_done and patiently(worker.is_done, revive=revive):
            return
        time.sleep(IDLE_SECONDS)


def _give_way() -> None:
    """Let training go first, in the calling thread.

    Why: 2026-11: on the CPU every core computes a part of each operation, and all wait for the one
    that writes a checkpoint instead.
    """
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _is_head_only(attempt: Attempt) -> bool:
    try:
        return is_head_only(attempt)
    except Exception:  # it cannot be drawn: running it will tell
        return False


def _line(outcome: Outcome) -> str:
    value = "" if outcome.value is None else f" {outcome.value:.4f}"
    reason = f": {outcome.reason.splitlines()[-1]}" if outcome.reason else ""
    return f"trial {outcome.number} {outcome.state.name.lower()}{value}{reason}"
