"""The trials of one worker: claimed, run, and the next one drawn meanwhile.

Why: 2026-11: the next trial is asked for while the present one trains (`ask_ahead`), unless
another worker would then have none. To the sampler it looks as if one worker more were at work: it
draws knowing of the present trial what it knows of any that runs, its parameters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError

from tunesvc import interrupt, places, processes, search, study
from tunesvc.errors import TuneError
from tunesvc.leases import PREPARATION_SECONDS, Lease, Leases
from tunesvc.shelf import Shelf
from tunesvc.storage import Store, patiently
from tunesvc.study import Study
from tunesvc.train import Placement
from tunesvc.trial import (
    AtOnce,
    Attempt,
    Desk,
    Outcome,
    complete,
    is_head_only,
    run,
    run_together,
    sweep,
)
from tunesvc.worker.served import Served

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0  # so long what is known of the studies is not asked again, while there is work


@dataclass
class Shift:
    """The trials of one worker, one after another.

    Args:
        on_trial: is given one line for each finished trial.
        clerk: one thread, through which goes what an epoch has brought; it draws the next trial.
    """

    store: Store
    leases: Leases
    shelf: Shelf
    placement: Placement
    served: Served
    on_trial: Callable[[str], None]
    clerk: Executor
    desks: dict[int, Desk] = field(default_factory=dict)
    _fresh: tuple[float, list[Study]] = (0.0, [])  # until when they count, monotonic
    _ahead: Future[Attempt | None] | None = None
    _told: float | None = None  # when the last trial ended, by time.perf_counter

    def next(self) -> Attempt | None:
        """Return the trial that was asked for ahead, or claim one of the oldest study with work."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (attempt := ahead.result()):
            return attempt
        for desk in self._desks():
            lease = self.leases.claim(desk.study.id, desk.terms)
            if isinstance(lease, Lease):
                return Attempt(desk, lease, self.placement, self.leases, self.clerk)
        self._fresh = (0.0, [])
        self.sweep()
        return None

    def sweep(self, *, but: Desk | None = None) -> None:
        """Have the clerk delete the checkpoints that the last trials have left.

        Args:
            but: the study of quick trials, the next of which does it.
        """
        for desk in self.desks.values():
            if not desk.is_swept and desk is not but:
                self.clerk.submit(sweep, desk)

    def _desks(self) -> Iterator[Desk]:
        until, served = self._fresh
        if time.monotonic() > until:
            served = self.served.studies()
            self._fresh = time.monotonic() + FRESH_SECONDS, served
        for candidate in served:
            if desk := self._desk(candidate):
                yield desk

    def run(self, attempt: Attempt) -> None:
        """Run a claimed trial, and those that can be trained with it; what is not told is freed."""
        attempts = self._gathered(attempt)
        self.sweep(but=attempt.desk if _is_head_only(attempt) else None)
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
        if self.served.names:
            raise study.paused_error(now)
        log.error("%s", study.paused_error(now))

    def _desk(self, candidate: Study) -> Desk | None:
        """Return a study ready for trials; None if this machine cannot serve one of many."""
        known = self.desks.get(candidate.id)
        if known is None or known.study.spec != candidate.spec:
            try:
                study.check_machine(candidate.spec)
                prepare()  # a desk lists and hashes every image
                known = Desk(candidate, places.cache(), self.shelf)
                complete(known, self.placement, prepare)
            except (TuneError, KeyError, IntegrityError) as error:  # the last two: just deleted
                if self.served.names:
                    raise
                log.warning("study %s is passed over here: %s", candidate.name, error)
                self.served.unusable.add(candidate.id)
                return None
            self.desks[candidate.id] = known
        return known


def prepare() -> None:
    """Between two batches of what comes before a study's first trial; the first may be late."""
    interrupt.check()
    processes.pulse(PREPARATION_SECONDS)


def _is_head_only(attempt: Attempt) -> bool:
    try:
        return is_head_only(attempt)
    except Exception:  # it cannot be drawn: running it will tell
        return False


def _line(outcome: Outcome) -> str:
    value = "" if outcome.value is None else f" {outcome.value:.4f}"
    reason = f": {outcome.reason.splitlines()[-1]}" if outcome.reason else ""
    return f"trial {outcome.number} {outcome.state.name.lower()}{value}{reason}"
