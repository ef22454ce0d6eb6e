"""What is handed in beside training: in order, only the newest, and no error lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from optuna.trial import TrialState

from tunesvc.checkpoint import Mark
from tunesvc.trial.delivery import AtOnce, Delivery, Ending, Kept

ENOUGH: Ending = (TrialState.PRUNED, "enough")


@pytest.fixture
def clerk() -> Iterator[Executor]:
    """A thread of its own."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Busy:
    """What a clerk does of whom the test decides when it goes on; it notes the epochs it is given.

    Args:
        outcome: what handing in an epoch comes to.
    """

    def __init__(self, outcome: Callable[[int], Ending | None]) -> None:
        self.seen: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._outcome = outcome

    def __call__(self, given: Kept) -> Ending | None:
        self.seen.append(given.mark.epoch)
        self.begun.set()
        assert self.go_on.wait(10)
        return self._outcome(given.mark.epoch)


def kept(epoch: int) -> Kept:
    """A run after so many epochs."""
    return Kept(Mark(1, epoch, 0), {}, [{"epoch": n + 1} for n in range(epoch)])


def test_at_once_everything_is_handed_in_where_it_is_posted() -> None:
    """In the calling thread, and the ending is known at once."""
    seen: list[int] = []

    def act(given: Kept) -> Ending | None:
        seen.append(given.mark.epoch)
        assert threading.current_thread() is threading.main_thread()
        return ENOUGH if given.mark.epoch == 2 else None

    delivery = Delivery(AtOnce(), act)
    delivery.post(kept(1))
    assert delivery.look() is None
    delivery.post(kept(2))
    assert delivery.look() == ENOUGH
    assert seen == [1, 2]


def test_of_what_waits_only_the_newest_is_handed_in(clerk: Executor) -> None:
    """Epochs that end while the clerk is busy replace each other; the last is never left out."""
    act = Busy(lambda _: None)
    delivery = Delivery(clerk, act)
    for epoch in range(1, 6):
        delivery.post(kept(epoch))
        assert delivery.look() is None
        assert act.begun.wait(10)
    act.go_on.set()
    assert delivery.wait() is None
    assert act.seen == [1, 5]


def test_an_ending_is_learned_later(clerk: Executor) -> None:
    """Training looks and goes on, until the clerk knows."""
    act = Busy(lambda _: ENOUGH)
    delivery = Delivery(clerk, act)
    delivery.post(kept(1))
    assert delivery.look() is None
    assert delivery.look() is None
    act.go_on.set()
    assert delivery.wait() == ENOUGH
    assert delivery.look() is None


def test_what_comes_after_a_verdict_is_handed_in_too(clerk: Executor) -> None:
    """A run may end while the clerk learns that it should have: its last state is kept."""
    act = Busy(lambda epoch: ENOUGH if epoch == 1 else (TrialState.COMPLETE, ""))
    delivery = Delivery(clerk, act)
    delivery.post(kept(1))
    delivery.look()
    assert act.begun.wait(10)
    delivery.post(kept(2))
    act.go_on.set()
    assert delivery.wait() == ENOUGH
    assert act.seen == [1, 2]


def test_an_error_surfaces_in_training(clerk: Executor) -> None:
    """Once; what waited is still there for whoever asks for it."""
    seen: list[int] = []

    def act(given: Kept) -> None:
        seen.append(given.mark.epoch)
        if len(seen) == 1:
            raise OSError("the disk is full")

    delivery = Delivery(clerk, act)
    delivery.post(kept(1))
    with pytest.raises(OSError, match="full"):
        delivery.wait()
    delivery.post(kept(2))
    assert delivery.wait() is None
    assert seen == [1, 2]


def test_quiet_drops_what_was_not_begun(clerk: Executor) -> None:
    """It waits for what was, and raises nothing."""

    def full(_: int) -> None:
        raise OSError("the disk is full")

    act = Busy(full)
    delivery = Delivery(clerk, act)
    delivery.post(kept(1))
    delivery.look()
    assert act.begun.wait(10)
    delivery.post(kept(2))
    act.go_on.set()
    delivery.quiet()
    assert act.seen == [1]
    assert delivery.wait() is None
