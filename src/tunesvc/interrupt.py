"""A clean end on SIGINT and SIGTERM."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 7.0  # after which a deferred stop waits no longer for its place
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked this process to stop. Not an Exception: nothing may swallow it."""


class _State:
    wanted = ""  # the signal that came
    deferred = False


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into `Stopped`; the second ends the process at once."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for again in _SIGNALS:
            signal.signal(again, lambda *_: os._exit(130))
        _State.wanted = signal.Signals(number).name
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
    """Let a stop signal wait, for some seconds at most, until `check` or the block's end."""
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    check()


def check() -> None:
    """Raise Stopped if a signal asked for it."""
    if _State.wanted:
        raise Stopped(_State.wanted)


def _lose_patience(_number: int, _frame: FrameType | None) -> None:
    if _State.deferred:
        raise Stopped(_State.wanted)
