"""Outages of Postgres are waited for: the same short act is tried again until it succeeds.

An act that was tried may have been done, and only its answer lost: acts must bear repetition.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from tunesvc.storage.failures import explain, is_passing

__all__ = ["OUTAGE_SECONDS", "is_passing", "nothing", "patiently"]

log = logging.getLogger(__name__)

OUTAGE_SECONDS = 600.0
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds; of the first wait it is the mean

T = TypeVar("T")


def nothing() -> None:
    """Revive a server that is not ours to start: its administrator does."""


def patiently(
    act: Callable[[], T],
    *,
    revive: Callable[[], None] = nothing,
    seconds: float = OUTAGE_SECONDS,
    on_wait: Callable[[float], None] | None = None,
) -> T:
    """Return what the act returns, trying it again while Postgres is away.

    Args:
        act: short, in a transaction of its own, and the same when done twice.
        revive: called before each new try (`Store.revive`).
        seconds: how long the outage may last.
        on_wait: called before each wait with its seconds; what it raises ends the waiting.

    Raises:
        StorageError: the outage lasts longer. Any other error of the act comes at once.
    """
    began = time.monotonic()

    def before(state: RetryCallState) -> None:
        if state.attempt_number > 1:
            revive()

    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            why = explain(_error(state)).why
            log.warning("Postgres cannot be reached; trying for up to %s: %s", _words(seconds), why)
        if on_wait is not None:
            on_wait(state.upcoming_sleep)

    retrying = Retrying(
        retry=retry_if_exception(is_passing),
        # Each wait is drawn from a growing range: 64 workers do not come back at one moment.
        wait=wait_random_exponential(multiplier=2 * SHORTEST_WAIT, max=LONGEST_WAIT, min=0.05),
        stop=stop_after_delay(seconds),
        before=before,
        before_sleep=before_sleep,
        retry_error_callback=_give_up,
    )
    result: T = retrying(act)
    if retrying.statistics["attempt_number"] > 1:
        log.warning("Postgres answers again, after %.1f seconds", time.monotonic() - began)
    return result


def _give_up(state: RetryCallState) -> None:
    error = _error(state)
    raise explain(error) from error


def _error(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        raise AssertionError("tried again without an error")
    return error


def _words(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
