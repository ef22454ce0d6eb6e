"""The leases of one worker: at most one trial at a time, kept alive by a thread beside training."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence

import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tunesvc.leases import claims, sql
from tunesvc.leases.claims import Lease, LeaseLost, Terms
from tunesvc.leases.renewal import Renewal, Watch

log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


def worker_id(pid: int, label: str) -> str:
    """Return the id of a worker of this host."""
    return f"{socket.gethostname()}:{pid}:{label}"


class Leases:
    """What one worker holds, and how it shows that it lives.

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
        self.watch: Watch | None = None
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

    def claim(self, study_id: int, terms: Terms) -> Lease | None:
        """Take over a trial that nobody runs any more, or begin one, and keep it alive.

        Returns:
            None when there is nothing to run.
        """
        lease = claims.claim(self.engine, self.worker_id, study_id, terms)
        if lease is not None:
            self.watch = Watch(lease, terms, is_over=lease.is_over)
            self._renewal.hold(self.watch)
        return lease

    def is_stopped(self, study_id: int) -> bool:
        """Whether all workers that run now are to leave this study."""
        which = {"study_id": study_id, "worker_id": self.worker_id}
        with self.engine.connect() as connection:
            return bool(connection.scalar(sql.IS_STOPPED, which))

    def note_attempt(
        self, lease: Lease, why: str, *, alike: str | None, is_final: bool = False
    ) -> str | None:
        """Store that an attempt ended badly.

        Args:
            alike: what failures of the same cause have in common; None: it is the configuration.
            is_final: every other attempt would end in the same way.

        Returns:
            None when the trial was given back for the next attempt; else it was told FAIL, and
            this is the reason of each attempt.

        Raises:
            LeaseLost: it is no longer this worker's to judge.
        """
        allowed = self.watch.terms.max_attempts if self.watch and not is_final else 1
        try:
            with self.engine.begin() as connection:
                return claims.note_attempt(
                    connection, lease, self.worker_id, why, alike=alike, max_attempts=allowed
                )
        except LeaseLost:
            if not self._has_failed(lease):  # else it was told before, and the reply was lost
                raise
            return why

    def _has_failed(self, lease: Lease) -> bool:
        with self.engine.connect() as connection:
            return bool(connection.scalar(sql.STATE, {"trial_id": lease.trial_id}) == "FAIL")

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is still this worker's, as the database knows it now."""
        try:
            with self.engine.begin() as connection:
                claims.check(connection, lease)
        except LeaseLost:
            return False
        return True

    def release(self, lease: Lease) -> None:
        """Give a trial back; unless it was told, the next claim takes it first."""
        self._let_go()
        which = {"trial_id": lease.trial_id, "token": lease.token}
        try:
            with self.engine.begin() as connection:
                connection.execute(sql.RELEASE, which)
        except (SQLAlchemyError, psycopg2.Error) as error:
            log.warning("trial %d is given back when its lease expires: %s", lease.number, error)

    def _let_go(self) -> None:
        self.watch = None
        self._renewal.hold(None)

    def fitted(self, **where: str | int) -> int | None:
        """Return the micro-batch that fitted on a device; None if nothing had to be halved.

        Args:
            where: device, backbone, image_size, strategy.
        """
        with self.engine.connect() as connection:
            found: int | None = connection.scalar(sql.FITTED, where)
        return found

    def note_fitted(self, size: int, **where: str | int) -> None:
        """Remember the micro-batch that fitted on a device."""
        with self.engine.begin() as connection:
            connection.execute(sql.NOTE_FITTED, {"size": size, **where})

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
