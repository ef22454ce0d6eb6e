"""A clean end on SIGINT and SIGTERM."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 7.0  # after which a deferred stop waits no longer for its place
ECHO_SECONDS = 0.25  # a second SIGTERM so soon is the first one's echo
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked this process to stop. Not an Exception: nothing may swallow it."""


class _State:
    wanted = ""  # the signal that came
    since = 0.0
    deferred = False


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into `Stopped`; the second ends the process at once."""

    def stop(number: int, _frame: FrameType | None) -> None:
        if _State.wanted:
            # A cluster signals a whole group of processes, and `up` then its workers once more.
            if number == signal.SIGTERM and time.monotonic() - _State.since < ECHO_SECONDS:
                return
            os._exit(130)
        _State.wanted, _State.since = signal.Signals(number).name, time.monotonic()
        if not _State.deferred:
            raise Stopped(_State.wanted)
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _lose_patience)
    try:
        yield
    finally:
        _State.wanted = ""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Let a stop signal wait for the next `check`, in the block for some seconds at most.

    It is not raised at the block's end: what the block has found out can be stored first.
    """
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def check() -> None:
    """Raise Stopped if a signal asked for it."""
    if _State.wanted:
        raise Stopped(_State.wanted)


def _lose_patience(_number: int, _frame: FrameType | None) -> None:
    if _State.deferred:
        raise Stopped(_State.wanted)
