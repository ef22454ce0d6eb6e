"""Who runs what: a trial is leased by a lock in Postgres that ends with its holder's session.

A worker that dies leaves its trial RUNNING in Optuna and held by nobody; the next claim takes it
over, and it goes on in the same trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError


class _Sql:
    """Locks are pairs (class, id): 1953853029 is a trial's lease, 1937007737 a study's queue.

    Lock functions take effect at once, whatever becomes of the transaction; the `xact` ones end
    with it.
    """

    PATIENCE = text("SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = '120s'")
    LOCK_STUDY = text("SELECT pg_advisory_xact_lock(1937007737, :study_id)")
    HELD = text("""
        SELECT objid::bigint FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 1953853029 AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """)
    HELD_OF_STUDY = text(f"""
        SELECT trial_id FROM trials WHERE study_id = :study_id AND trial_id IN ({HELD.text})
    """)
    ORPHANS = text(f"""
        SELECT trial_id FROM trials
        WHERE study_id = :study_id AND state = 'RUNNING' AND trial_id NOT IN ({HELD.text})
        ORDER BY trial_id
    """)
    TRY_HOLD = text("SELECT pg_try_advisory_lock(1953853029, :trial_id)")
    IS_RUNNING = text("SELECT state = 'RUNNING' FROM trials WHERE trial_id = :trial_id")
    HOLD = text("SELECT pg_advisory_lock(1953853029, :trial_id)")
    RELEASE = text("SELECT pg_advisory_unlock(1953853029, :trial_id)")
    KEEPS = text(f"""
        SELECT :trial_id IN ({HELD.text} AND pid = pg_backend_pid())
    """)
    BEGUN = text("SELECT count(*) FROM trials WHERE study_id = :study_id AND state <> 'WAITING'")


@dataclass(frozen=True)
class Lease:
    """The right to run a trial; `resumed`: somebody else began it."""

    study_id: int
    trial_id: int
    resumed: bool


class Leases:
    """The leases of one worker, held by a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection = own_connection(engine)

    def close(self) -> None:
        """Give every lease back."""
        self._connection.close()

    def claim(self, study_id: int, limit: int, begin: Callable[[int], int]) -> Lease | None:
        """Take over the oldest trial that nobody runs, or begin one; None when there is nothing.

        Args:
            study_id: Optuna's id of the study.
            limit: no trial is begun when so many have been; 0 takes over only.
            begin: is given the count of trials begun so far, creates a RUNNING trial over another
                connection, and returns its id. One process at a time is inside, per study.
        """
        if self._connection.closed or self._connection.invalidated:
            self._connection = own_connection(self._engine)
        with self._connection.begin():
            self._connection.execute(_Sql.PATIENCE)
            self._connection.execute(_Sql.LOCK_STUDY, {"study_id": study_id})
            orphan = self._adopt(study_id)
            if orphan is not None:
                return Lease(study_id, orphan, resumed=True)
            begun: int = self._connection.execute(_Sql.BEGUN, {"study_id": study_id}).scalar_one()
            if begun >= limit:
                return None
            trial_id = begin(begun)
            self._connection.execute(_Sql.HOLD, {"trial_id": trial_id})
            return Lease(study_id, trial_id, resumed=False)

    def keeps(self, lease: Lease) -> bool:
        """Return whether the lease is still held: it ends with the session, whoever ended that."""
        if self._connection.closed or self._connection.invalidated:
            return False
        try:
            with self._connection.begin():
                return bool(self._connection.scalar(_Sql.KEEPS, {"trial_id": lease.trial_id}))
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            return False

    def release(self, lease: Lease) -> None:
        """Give a lease back; its trial, if not told, is anybody's to take over."""
        if self._connection.closed or self._connection.invalidated:
            return  # with the session the lock is gone
        try:
            with self._connection.begin():
                self._connection.execute(_Sql.RELEASE, {"trial_id": lease.trial_id})
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise

    def _adopt(self, study_id: int) -> int | None:
        """Hold the oldest trial that nobody holds and that runs.

        It may have been told between the snapshot that saw it RUNNING and the look at the locks:
        only under its lock is its state certain.
        """
        for trial_id in self._connection.scalars(_Sql.ORPHANS, {"study_id": study_id}).all():
            which = {"trial_id": trial_id}
            if self._connection.scalar(_Sql.TRY_HOLD, which):
                if self._connection.scalar(_Sql.IS_RUNNING, which):
                    return int(trial_id)
                self._connection.execute(_Sql.RELEASE, which)
        return None


def held(engine: Engine, study_id: int) -> frozenset[int]:
    """Return the ids of the study's trials that a live worker holds."""
    with engine.connect() as connection:
        return frozenset(connection.scalars(_Sql.HELD_OF_STUDY, {"study_id": study_id}))


def own_connection(engine: Engine) -> Connection:
    """Return a connection outside the engine's pool, which may be as small as one."""
    connection = engine.connect()
    connection.detach()
    return connection
