"""The leases of one worker, kept alive by a thread beside training.

Why: 2026-11: a worker may have several: the trial that it trains, the next one, claimed while the
present one trains, and trials that are trained together.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence

import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tunesvc import trips
from tunesvc.leases import claims, sql
from tunesvc.leases.claims import Claimant, Lease, LeaseLost, Nothing, Terms
from tunesvc.leases.renewal import Renewal, Watch

log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


def worker_id(pid: int, label: str) -> str:
    """Return the id of a worker of this host."""
    return f"{socket.gethostname()}:{pid}:{label}"


class Leases:
    """What one worker holds, and how it shows that it lives. Threads may share it.

    Args:
        device: where it computes, for people.
        label: distinguishes it from other workers of this process id; None: a random one.
        studies: whose trials it takes; empty: all.
        revive: called before Postgres is tried again.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        device: str = "",
        label: str | None = None,
        studies: Sequence[str] = (),
        revive: Callable[[], None] = _nothing,
    ) -> None:
        self.engine = engine
        self.worker_id = worker_id(os.getpid(), label or secrets.token_hex(3))
        self._claiming = threading.Lock()
        self._given: dict[int, int] = {}  # configurations begun, by study, when last heard
        self._fitted: dict[str, dict[tuple[str | int, ...], int]] = {}  # by device
        facts = {"host": socket.gethostname(), "pid": os.getpid()}
        facts |= {"worker_id": self.worker_id, "device": device, "studies": list(studies)}
        with engine.begin() as connection:
            connection.execute(sql.FORGET_WORKERS)
            connection.execute(sql.ENTER, facts)
        self._renewal = Renewal(engine, self.worker_id, revive)
        self._renewal.start()

    @property
    def is_reachable(self) -> bool:
        """Whether Postgres answered when it was last asked."""
        return self._renewal.is_reachable

    def claim(self, study_id: int, terms: Terms, *, spare: bool = False) -> Lease | Nothing:
        """Take over a trial that nobody runs any more, or begin one, and keep it alive.

        Args:
            spare: it is to wait for its turn, until `Watch.begin`. None is given that another live
                worker would go without. What waits when this worker is lost has cost no attempt.

        Returns:
            Why, when there is nothing to run.
        """
        with self._claiming:  # else one thread would take what the other was just given
            held = [watch.lease.token for watch in self._renewal.watches()]
            claimant = Claimant(self.worker_id, held, self._given)
            lease = claims.claim(self.engine, claimant, study_id, terms, spare=spare)
            if isinstance(lease, Lease):
                self._renewal.hold(Watch(lease, terms, is_waiting=spare, over=lease.over))
        return lease

    def watch(self, lease: Lease, terms: Terms | None = None) -> Watch:
        """Return a lease as the thread that renews it sees it; a mere stand-in if it is not held.

        Args:
            terms: those of the stand-in, which nobody renews or judges.
        """
        return self._renewal.find(lease) or Watch(lease, terms or Terms(trials=0))

    def is_stopped(self, study_id: int) -> bool:
        """Whether all workers that run now are to leave this study."""
        which = {"study_id": study_id, "worker_id": self.worker_id}
        return bool(trips.ask(self.engine, sql.IS_STOPPED, which))

    def note_attempt(
        self, lease: Lease, why: str, *, alike: str | None, is_final: bool = False
    ) -> str | None:
        """Store that an attempt ended badly; the lease is not held any more.

        Args:
            alike: what failures of the same cause have in common; None: it is the configuration.
            is_final: every other attempt would end in the same way.

        Returns:
            None when the trial was given back for the next attempt; else it was told FAIL, and
            this is the reason of each attempt.

        Raises:
            LeaseLost: it is no longer this worker's to judge.
        """
        watch = self._renewal.find(lease)
        allowed = watch.terms.max_attempts if watch and not is_final else 1
        told: str | None = why
        try:
            with self.engine.begin() as connection:
                told = claims.note_attempt(
                    connection, lease, self.worker_id, why, alike=alike, max_attempts=allowed
                )
        except LeaseLost:
            if not self._has_failed(lease):  # else it was told before, and the reply was lost
                raise
        self.forget(lease)
        return told

    def _has_failed(self, lease: Lease) -> bool:
        return bool(trips.ask(self.engine, sql.STATE, {"trial_id": lease.trial_id}) == "FAIL")

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is still this worker's, as the database knows it now."""
        which = {"trial_id": lease.trial_id, "token": lease.token}
        return bool(trips.ask(self.engine, sql.HOLDS, which))

    def release(self, lease: Lease) -> None:
        """Give a trial back, for the next claim to take first; nothing if it is not held."""
        if self._renewal.find(lease) is None:
            return
        self.forget(lease)
        which = {"trial_id": lease.trial_id, "token": lease.token}
        try:
            trips.ask(self.engine, sql.RELEASE, which)
        except (SQLAlchemyError, psycopg2.Error) as error:
            log.warning("trial %d is given back when its lease expires: %s", lease.number, error)

    def forget(self, lease: Lease) -> None:
        """Let go of a trial that was told: nothing of it is to be given back."""
        self._renewal.let_go(lease)

    def fitted(self, *, anew: bool = False, **where: str | int) -> int | None:
        """Return the micro-batch that fitted on a device; None if nothing had to be halved.

        What is known of a device is read once.

        Args:
            anew: read it again: what fitted before did not now, and another worker may know more.
            where: device, backbone, image_size, strategy.
        """
        device = str(where["device"])
        if anew or device not in self._fitted:
            with trips.alone(self.engine) as connection:
                rows = connection.execute(sql.FITTED, {"device": device}).all()
            self._fitted[device] = {tuple(row[:3]): row.size for row in rows}
        return self._fitted[device].get(_spot(where))

    def note_fitted(self, size: int, **where: str | int) -> None:
        """Remember the micro-batch that fitted on a device."""
        smallest = trips.ask(self.engine, sql.NOTE_FITTED, {"size": size, **where})
        if (known := self._fitted.get(str(where["device"]))) is not None:
            known[_spot(where)] = smallest

    def close(self) -> None:
        """Give everything back and leave."""
        self._renewal.end()
        which = {"worker_id": self.worker_id}
        try:
            with self.engine.begin() as connection:
                connection.execute(sql.RELEASE_ALL, which)
                connection.execute(sql.LEAVE, which)
        except (SQLAlchemyError, psycopg2.Error) as error:
            log.warning("leases are given back when they expire: %s", error)


def _spot(where: Mapping[str, str | int]) -> tuple[str | int, ...]:
    return where["backbone"], where["image_size"], where["strategy"]
