"""The thread that keeps a worker's leases alive beside training, and learns what is wanted of them.

    training thread                      renewal thread, every third of the shortest lease
    tick() after each batch ──▶ beats ──▶ renews all while beats come; else gives them up
    LeaseLost, Leave         ◀── Watch ◀── lost | paused | stopped | over

Why: 2026-11: a renewal that fails is tried again until it succeeds or the worker ends. Postgres may
be away for long; a healthy trial is not to die of it. Whether the lease was lost meanwhile is for
the server to say, when it is back.

Why: 2026-11: a trial that was claimed ahead is not judged while it waits for its turn, and keeps no
hung worker alive: those judge that are worked on, and all go with the first that stands still.

Why: 2026-11: while leases are held it is this thread that shows that the process lives
(`processes.pulse`), for so long as the shortest lease and one more try at Postgres take: who stands
still for longer has lost its trials to others.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from tunesvc import processes, trips
from tunesvc.errors import REPLACE
from tunesvc.leases import claims, sql
from tunesvc.leases.claims import Lease, LeaseLost, Terms
from tunesvc.leases.limits import UNLIMITED

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0  # between two signs of life of a worker without a trial
PREPARATION_SECONDS = 900.0  # reading weights, or saving, may take so long without a batch
BEGUN_SECONDS = 1.0  # so long after its turn has come, a renewal tells it, unless a report has


class Leave(Exception):  # noqa: N818 (a message, nobody's error)
    """The study wants its trials back: it is paused or stopped."""


@dataclass
class Watch:
    """A lease being worked on, as both threads see it."""

    lease: Lease
    terms: Terms
    beats: int = 0
    is_training: bool = False  # batches are to be expected
    is_waiting: bool = False  # claimed ahead: not begun yet
    over: str = ""  # the budget that has ended: the epoch under way is the last
    is_lost: bool = False
    leave: str = ""
    claimed: float = field(default_factory=time.monotonic, repr=False)  # when, on this clock
    begun: float | None = field(default=None, repr=False)  # when, until a renewal tells it
    changed: threading.Event = field(default_factory=threading.Event, repr=False)
    _seen: int = field(default=-1, repr=False)
    _still_seconds: float = field(default=0.0, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether a budget has ended."""
        return bool(self.over)

    def begin(self) -> None:
        """Tell that its turn has come: from now on it has to advance."""
        if self.is_waiting:
            self.is_waiting, self.begun = False, time.monotonic()
            self.changed.set()
        self.beats += 1

    def tick(self) -> None:
        """Tell that training advances.

        Raises:
            LeaseLost: the trial is in other hands.
            Leave: it is to be given back.
        """
        self.beats += 1
        if self.is_lost:
            raise LeaseLost
        if self.leave:
            raise Leave(self.leave)

    def is_stalled(self, seconds: float) -> bool:
        """Whether nothing has advanced for too long; `seconds` have passed since the last call.

        A process that was suspended and goes on has not hung: of a long pause only as much counts
        as a renewal takes.
        """
        if self.is_waiting or self._seen != self.beats:
            self._seen, self._still_seconds = self.beats, 0.0
            return False
        self._still_seconds += min(seconds, self.terms.seconds)
        allowed = self.terms.stall_seconds
        if not self.is_training:
            allowed = max(allowed, PREPARATION_SECONDS)
        return self._still_seconds >= allowed


class Renewal(threading.Thread):
    """Renews the leases of one worker over a connection of its own."""

    def __init__(self, engine: Engine, worker_id: str, revive: Callable[[], None]) -> None:
        super().__init__(name="lease", daemon=True)
        self._engine, self._worker_id, self._revive = engine, worker_id, revive
        # From the start: a worker that hangs may hang with the pool's only connection in its hand.
        self._connection: Connection | None = self._connect()
        self._ended, self._changed = threading.Event(), threading.Event()
        self._watches: dict[int, Watch] = {}  # by the lease's token
        self._looked = time.monotonic()
        self._idle_seconds = 0.0  # leases wait, and none is worked on
        self.is_reachable = True  # whether Postgres answered the last time

    def hold(self, watch: Watch) -> None:
        """Keep this lease alive from now on."""
        watch.changed = self._changed
        self._watches[watch.lease.token] = watch
        self._changed.set()

    def let_go(self, lease: Lease) -> None:
        """Leave a lease to itself."""
        self._watches.pop(lease.token, None)

    def find(self, lease: Lease) -> Watch | None:
        """Return the watch of a lease that is kept alive."""
        return self._watches.get(lease.token)

    def watches(self) -> list[Watch]:
        """Return the watches of all leases that are kept alive."""
        return list(self._watches.values())

    def end(self) -> None:
        """Stop renewing."""
        self._ended.set()
        self._changed.set()
        self.join(timeout=2)

    def run(self) -> None:
        """Renew until the end."""
        while not self._ended.is_set():
            if self._changed.wait(max(0.0, self._due() - time.monotonic())):
                self._changed.clear()
                self._show_life()
            else:
                self._persist()
        self._disconnect()

    def _due(self) -> float:
        """Return when the next renewal is: a lease was new when it was claimed."""
        due = self._looked + IDLE_SECONDS
        for watch in self.watches():
            due = min(due, max(self._looked, watch.claimed) + watch.terms.seconds / 3)
            if watch.begun is not None:
                due = min(due, watch.begun + BEGUN_SECONDS)
        return due

    def _persist(self) -> None:
        attempts = Retrying(
            retry=retry_if_exception_type((SQLAlchemyError, psycopg2.Error)),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            stop=stop_when_event_set(self._ended),
            sleep=sleep_using_event(self._ended),
            before_sleep=lambda _: self._wait(),
            reraise=True,
        )
        try:
            attempts(self._look)
        except (SQLAlchemyError, psycopg2.Error):  # the worker ends while Postgres is away
            log.debug("the last renewal was not answered", exc_info=True)
        except Exception:  # a bug of ours must not silence the thread: the trial would be lost
            log.exception("a renewal failed; it is tried again")

    def _wait(self) -> None:
        self._revive()
        self._show_life()

    def _show_life(self) -> None:
        """Show that the process lives; without a lease, whoever looks for one does."""
        if watches := self.watches():
            shortest = min(watch.terms.seconds for watch in watches)
            processes.pulse(shortest + processes.TRY_SECONDS)

    def _look(self) -> None:
        now, watches = time.monotonic(), self.watches()
        passed, self._looked = now - self._looked, now
        try:
            stalled = [watch for watch in watches if watch.is_stalled(passed)]
            if stalled or self._has_forgotten(watches, passed):
                self._give_up(stalled)
            else:
                self._renew(watches)
        except BaseException:
            self._disconnect()
            raise
        if not self.is_reachable:
            log.warning("Postgres answers again; the lease is renewed")
        self.is_reachable = True
        self._show_life()

    def _has_forgotten(self, watches: list[Watch], seconds: float) -> bool:
        """Whether leases have waited for too long with none being worked on."""
        if not watches or not all(watch.is_waiting for watch in watches):
            self._idle_seconds = 0.0
            return False
        terms = watches[0].terms
        self._idle_seconds += min(seconds, terms.seconds)
        return self._idle_seconds >= max(terms.stall_seconds, PREPARATION_SECONDS)

    def _renew(self, watches: list[Watch]) -> None:
        which: dict[str, Any] = {
            "worker_id": self._worker_id,
            "trials": [watch.lease.trial_id for watch in watches],
            "tokens": [watch.lease.token for watch in watches],
            "waits": [watch.is_waiting for watch in watches],
        }
        allowed = [watch.terms.limits.arguments() for watch in watches]
        which |= {name: [each[name] for each in allowed] for name in UNLIMITED.arguments()}
        kept = {row.token: row for row in self._connected().execute(sql.RENEW, which)}
        for watch, waits in zip(watches, which["waits"], strict=True):
            watch.begun = watch.begun if waits else None
            found = kept.get(watch.lease.token)
            if found is None:
                watch.is_lost = True
                continue
            watch.over = watch.over or found.over
            if found.paused or found.stopped:
                watch.leave = "paused" if found.paused else "stopped"

    def _give_up(self, stalled: list[Watch]) -> None:
        """Free the trials of a hung process, and end it: whoever tends it starts another."""
        log.critical("nothing has advanced for too long: this worker hangs and ends")
        try:
            connection = self._connected()
            trips.together(connection)
            for watch in stalled:
                with suppress(LeaseLost), connection.begin():
                    self._note(connection, watch)
            with connection.begin():
                connection.execute(sql.RELEASE_ALL, {"worker_id": self._worker_id})
        finally:
            os._exit(REPLACE)

    def _note(self, connection: Connection, watch: Watch) -> None:
        terms = watch.terms
        why = f"hung: no batch for {terms.stall_seconds:g} seconds"
        claims.note_attempt(
            connection,
            watch.lease,
            self._worker_id,
            why,
            alike=why,
            max_attempts=terms.max_attempts,
        )

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        connection.detach()  # outside the pool, which may be as small as one
        trips.each_alone(connection)
        return connection

    def _disconnect(self) -> None:
        self.is_reachable = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
