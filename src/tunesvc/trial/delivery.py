"""Checkpoints and reports, in order, beside training.

Why: 2026-11: a checkpoint is synced and read back, and a report waits for Postgres: tens of
milliseconds each, in which the device would stand still. A clerk, one thread per worker, does both
while the next epoch is trained, and the pruner's word comes a few batches late. A worker that is
killed repeats the epoch under way and perhaps the one before, whose checkpoint was being written.
Of epochs that take less than a checkpoint only the newest is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from optuna.trial import TrialState

from tunesvc.checkpoint import Mark

T = TypeVar("T")
Ending = tuple[TrialState, str]  # and its reason


@dataclass(frozen=True)
class Kept:
    """A run between two batches: where it stands, its state, and what its epochs brought."""

    mark: Mark
    state: dict[str, Any]
    history: list[dict[str, Any]]


class AtOnce(Executor):
    """A clerk that does everything in the calling thread, before `submit` returns."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do it, and return the outcome."""
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


@dataclass(eq=False)
class Delivery:
    """What one attempt has to hand in.

    Args:
        clerk: does it.
        act: keeps and reports; returns how the trial is to end, if now.
    """

    clerk: Executor
    act: Callable[[Kept], Ending | None]
    _waiting: Kept | None = field(init=False, default=None)
    _under_way: Future[Ending | None] | None = field(init=False, default=None)

    def post(self, kept: Kept, *, in_turn: bool = False) -> None:
        """Hand in a state, in place of one that the clerk has not begun with.

        Args:
            in_turn: wait until what the clerk has begun with is handed in.
        """
        if in_turn and self._under_way is not None:
            wait([self._under_way])
        self._waiting = kept

    def look(self) -> Ending | None:
        """Return how the trial is to end, if that is known by now; have the clerk go on.

        Raises:
            Exception: whatever handing in has met.
        """
        if self._under_way is not None and not self._under_way.done():
            return None
        ending = self._outcome()
        if ending is None and self._waiting is not None:
            kept, self._waiting = self._waiting, None
            self._under_way = self.clerk.submit(self.act, kept)
            ending = self._outcome() if self._under_way.done() else None
        return ending

    def wait(self) -> Ending | None:
        """Return when everything is handed in, also what came after a verdict; like `look`."""
        first = None
        while self._under_way or self._waiting:
            ending = self.look() if self._is_free else self._outcome()
            first = first or ending
        return first

    def quiet(self) -> None:
        """Drop what was not begun, and wait for the rest, whatever becomes of it."""
        self._waiting, under_way = None, self._under_way
        self._under_way = None
        if under_way is not None:
            under_way.exception()

    @property
    def _is_free(self) -> bool:
        return self._under_way is None or self._under_way.done()

    def _outcome(self) -> Ending | None:
        under_way, self._under_way = self._under_way, None
        return under_way.result() if under_way is not None else None
