"""The thread that keeps a worker's lease alive beside training, and learns what is wanted of it.

    training thread                      renewal thread, every third of the lease
    tick() after each batch ──▶ beats ──▶ renews while beats come; else gives the trial up
    LeaseLost, Leave         ◀── Watch ◀── lost | paused | stopped | over

Why: 2026-11: a renewal that fails is tried again until it succeeds or the worker ends. Postgres may
be away for long; a healthy trial is not to die of it. Whether the lease was lost meanwhile is for
the server to say, when it is back.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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

from tunesvc.errors import REPLACE
from tunesvc.leases import claims, sql
from tunesvc.leases.claims import Lease, LeaseLost, Terms

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0  # between two signs of life of a worker without a trial
PREPARATION_SECONDS = 900.0  # reading weights, or saving, may take so long without a batch


class Leave(Exception):  # noqa: N818 (a message, nobody's error)
    """The study wants its trials back: it is paused or stopped."""


@dataclass
class Watch:
    """A lease being worked on, as both threads see it."""

    lease: Lease
    terms: Terms
    beats: int = 0
    is_training: bool = False  # batches are to be expected
    is_over: bool = False  # the budget's hours are: the epoch under way is the last
    is_lost: bool = False
    leave: str = ""
    _seen: int = field(default=-1, repr=False)
    _still_seconds: float = field(default=0.0, repr=False)

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
        if self._seen != self.beats:
            self._seen, self._still_seconds = self.beats, 0.0
            return False
        self._still_seconds += min(seconds, self.terms.seconds)
        allowed = self.terms.stall_seconds
        if not self.is_training:
            allowed = max(allowed, PREPARATION_SECONDS)
        return self._still_seconds >= allowed


class Renewal(threading.Thread):
    """Renews the lease of one worker over a connection of its own."""

    def __init__(self, engine: Engine, worker_id: str, revive: Callable[[], None]) -> None:
        super().__init__(name="lease", daemon=True)
        self._engine, self._worker_id, self._revive = engine, worker_id, revive
        self._connection: Connection | None = None
        self._ended, self._changed = threading.Event(), threading.Event()
        self._watch: Watch | None = None
        self._looked = time.monotonic()
        self.is_reachable = True  # whether Postgres answered the last time

    def hold(self, watch: Watch | None) -> None:
        """Keep this lease alive from now on; None: no lease."""
        self._watch = watch
        self._changed.set()

    def end(self) -> None:
        """Stop renewing."""
        self._ended.set()
        self._changed.set()
        self.join(timeout=2)

    def run(self) -> None:
        """Renew until the end."""
        while not self._ended.is_set():
            self._changed.wait(self._interval())
            self._changed.clear()
            if not self._ended.is_set():
                self._persist()
        self._disconnect()

    def _interval(self) -> float:
        watch = self._watch
        return IDLE_SECONDS if watch is None else min(IDLE_SECONDS, watch.terms.seconds / 3)

    def _persist(self) -> None:
        attempts = Retrying(
            retry=retry_if_exception_type((SQLAlchemyError, psycopg2.Error)),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            stop=stop_when_event_set(self._ended),
            sleep=sleep_using_event(self._ended),
            before_sleep=lambda _: self._revive(),
            reraise=True,
        )
        try:
            attempts(self._look)
        except (SQLAlchemyError, psycopg2.Error):  # the worker ends while Postgres is away
            log.debug("the last renewal was not answered", exc_info=True)
        except Exception:  # a bug of ours must not silence the thread: the trial would be lost
            log.exception("a renewal failed; it is tried again")

    def _look(self) -> None:
        now, watch = time.monotonic(), self._watch
        passed, self._looked = now - self._looked, now
        try:
            if watch is None:
                self._show_life()
            elif watch.is_stalled(passed):
                self._give_up(watch)
            else:
                self._renew(watch)
        except BaseException:
            self._disconnect()
            raise
        if not self.is_reachable:
            log.warning("Postgres answers again; the lease is renewed")
        self.is_reachable = True

    def _renew(self, watch: Watch) -> None:
        lease = watch.lease
        with self._connected().begin() as transaction:
            which = {
                "worker_id": self._worker_id,
                "trial_id": lease.trial_id,
                "token": lease.token,
                "seconds_allowed": watch.terms.seconds_allowed,
            }
            found = transaction.connection.execute(sql.RENEW, which).one_or_none()
        if found is None:
            watch.is_lost = True
            return
        watch.is_over = watch.is_over or found.is_over
        if found.paused or found.stopped:
            watch.leave = "paused" if found.paused else "stopped"

    def _give_up(self, watch: Watch) -> None:
        """Free the trial of a hung process, and end it: whoever tends it starts another."""
        seconds = watch.terms.stall_seconds
        log.critical("nothing has advanced for %.0f seconds: this worker hangs and ends", seconds)
        why = f"hung: no batch for {seconds:g} seconds"
        try:
            with self._connected().begin() as transaction:
                claims.note_attempt(
                    transaction.connection,
                    watch.lease,
                    self._worker_id,
                    why,
                    alike=why,
                    max_attempts=watch.terms.max_attempts,
                )
        finally:
            os._exit(REPLACE)

    def _show_life(self) -> None:
        with self._connected().begin() as transaction:
            transaction.connection.execute(sql.SEEN, {"worker_id": self._worker_id})

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.detach()  # outside the pool, which may be as small as one
        return self._connection

    def _disconnect(self) -> None:
        self.is_reachable = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
