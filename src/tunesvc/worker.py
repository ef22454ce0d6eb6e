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

from tunesvc import places, study
from tunesvc.leases import Lease, Leases
from tunesvc.storage import Store, open_store
from tunesvc.study import Study
from tunesvc.train import Placement, place
from tunesvc.trial import Desk, Outcome, run

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5  # between two looks for work


@dataclass
class _Worker:
    store: Store
    leases: Leases
    placement: Placement
    names: Sequence[str]
    desks: dict[int, Desk] = field(default_factory=dict)

    def studies(self) -> list[Study]:
        if self.names:
            return [study.open_study(self.store, name) for name in self.names]
        return study.all_open(self.store)

    def step(self) -> Outcome | None:
        """Run one trial of the oldest study that has one to run."""
        for candidate in self.studies():
            if study.is_paused(candidate):
                continue
            desk = self._desk(candidate)
            lease = self.leases.claim(candidate.id, study.limit_now(candidate), desk.begin)
            if lease is not None:
                return self._run(desk, lease)
        return None

    def _run(self, desk: Desk, lease: Lease) -> Outcome:
        try:
            return run(desk, lease, self.placement)
        finally:
            self.leases.release(lease)

    def _desk(self, candidate: Study) -> Desk:
        if candidate.id not in self.desks:
            self.desks[candidate.id] = Desk(candidate, places.cache(), places.artifacts())
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
        TuneError: this machine cannot serve a study; no trial was touched.
        Stopped: a signal came; the trial under way is left to be taken over.
    """
    placement = place(device)
    with open_store(storage) as store, closing(Leases(store.engine)) as leases:
        worker = _Worker(store, leases, placement, names)
        while True:
            outcome = worker.step()
            if outcome is not None:
                on_trial(_line(outcome))
            elif until_done and worker.done():
                return
            else:
                time.sleep(IDLE_SECONDS)


def _line(outcome: Outcome) -> str:
    value = "" if outcome.value is None else f" {outcome.value:.4f}"
    reason = f": {outcome.reason.splitlines()[-1]}" if outcome.reason else ""
    return f"trial {outcome.number} {outcome.state.name.lower()}{value}{reason}"
