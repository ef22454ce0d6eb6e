"""Training that is interrupted, and goes on as if it had not been, on a toy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesvc import train
from tunesvc.train import Epoch, Run

ToyRun = Callable[..., Run]
Numbers = list[tuple[dict[str, float], float]]

# A process trains the run of argv[2] on from each of the states that follow; one line for each.
ELSEWHERE = """
import json, runpy, sys
import torch
from tunesvc import train
make_run = runpy.run_path(sys.argv[1])["make_run"]
for file in sys.argv[3:]:
    run = make_run(**json.loads(sys.argv[2]))
    run.load_state_dict(torch.load(file, weights_only=True))
    print(json.dumps([[epoch.metrics, epoch.train_loss] for epoch in train.fit(run)]))
"""

KNOBS: list[dict[str, Any]] = [
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    {"optimizer": "adamw", "strategy": "gradual-unfreeze"},
    {"optimizer": "sgd", "strategy": "gradual-unfreeze"},
    {"optimizer": "sgd", "lp_ft": True, "momentum": 0.5},
    {"optimizer": "rmsprop", "lp_ft": True, "frozen_bn": True, "augmentation": "flip-crop"},
    {"optimizer": "adam", "strategy": "last-stage", "schedule": "linear", "batch_size": 7},
]


class Stop(Exception):  # noqa: N818 (a signal, as a worker gets it)
    """The training is to stop."""


def numbers(*epochs: Epoch) -> Numbers:
    return [(epoch.metrics, epoch.train_loss) for epoch in epochs]


def same(left: Run, right: Run) -> bool:
    one, other = left.module.state_dict(), right.module.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def resumed(run: Run, state: dict[str, Any], file: Path) -> Run:
    """Return a fresh run that goes on from a state; chance is used up in between."""
    torch.save(state, file)
    torch.rand(100)
    run.load_state_dict(torch.load(file, weights_only=True))
    return run


def stop_after(ticks: int) -> Callable[[], None]:
    """Return a tick that raises Stop when it is called so many times."""
    calls = iter(range(1, ticks))

    def tick() -> None:
        if next(calls, None) is None:
            raise Stop

    return tick


def until_stopped(run: Run, ticks: int) -> Numbers:
    """Train until so many batches are done; return the epochs that were finished."""
    done: Numbers = []
    epochs = train.fit(run, stop_after(ticks))
    with pytest.raises(Stop):
        done.extend(entry for epoch in epochs for entry in numbers(epoch))
    return done


@pytest.mark.parametrize("knobs", KNOBS)
def test_resumed_between_two_epochs(
    toy_run: ToyRun, lively: dict[str, Any], knobs: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped after epoch 2 and resumed in a new run: bit for bit the same model and metrics.

    With momentum, schedule, mixing, augmentation and dropout.
    """
    whole = toy_run(epochs=4, **lively | knobs)
    expected = numbers(*train.fit(whole))

    first = toy_run(epochs=4, **lively | knobs)
    epochs = train.fit(first)
    begun = numbers(next(epochs), next(epochs))
    run = resumed(toy_run(epochs=4, **lively | knobs), first.state_dict(), tmp_path / "last.pt")

    assert run.position == (2, 0)
    assert begun + numbers(*train.fit(run)) == expected
    assert same(run, whole)


@pytest.mark.parametrize("knobs", [{}, *KNOBS])
def test_resumed_after_every_batch(
    toy_run: ToyRun, lively: dict[str, Any], knobs: dict[str, Any], tmp_path: Path
) -> None:
    """A run of which each process trains one batch is bit for bit the run of one process.

    The first time with no source of chance but the order.
    """
    settings = lively | knobs if knobs else {}
    whole = toy_run(**settings)
    expected = numbers(*train.fit(whole))

    done: Numbers = []
    run = toy_run(**settings)
    for _ in range(3 * (whole.steps_per_epoch + 1)):
        before = run.position

        def tick(run: Run = run, before: tuple[int, int] = before) -> None:
            if run.position != before:  # an evaluation is no progress: let it end
                raise Stop

        with suppress(Stop):
            done += numbers(next(train.fit(run, tick)))
        run = resumed(toy_run(**settings), run.state_dict(), tmp_path / "last.pt")

    assert done == expected
    assert same(run, whole)


def test_resumed_in_another_process(
    toy_run: ToyRun, lively: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped in the first, a middle, the last batch or in evaluation: the rest is the same."""
    expected = numbers(*train.fit(toy_run(**lively)))
    done, files = [], []
    for ticks in (1, 3, 4, 5, 7, 13):
        run = toy_run(**lively)
        done.append(until_stopped(run, ticks))
        files.append(tmp_path / f"{ticks}.pt")
        torch.save(run.state_dict(), files[-1])
    toy = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", ELSEWHERE, toy, json.dumps(lively), *files]
    lines = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    rest = [[(metrics, loss) for metrics, loss in json.loads(line)] for line in lines]
    assert [first + second for first, second in zip(done, rest, strict=True)] == [expected] * 6


def test_resumed_where_it_stopped(toy_run: ToyRun, lively: dict[str, Any]) -> None:
    """The run itself goes on as well, though chance was used up by others since."""
    expected = numbers(*train.fit(toy_run(**lively)))
    run = toy_run(**lively)
    done = until_stopped(run, 7)
    list(train.fit(toy_run(**lively, seed=9)))
    assert done + numbers(*train.fit(run)) == expected


def test_a_state_may_be_taken_without_stopping(
    toy_run: ToyRun, lively: dict[str, Any], tmp_path: Path
) -> None:
    """A tick that saves changes nothing, and what it saved is good, in a resumed run as well."""
    expected = numbers(*train.fit(toy_run(**lively)))
    run = toy_run(**lively)
    done = until_stopped(run, 6)

    def save() -> None:
        if run.position == (1, 2):
            torch.save(run.state_dict(), tmp_path / "saved.pt")

    assert done + numbers(*train.fit(run, save)) == expected
    again = toy_run(**lively)
    again.load_state_dict(torch.load(tmp_path / "saved.pt", weights_only=True))
    assert numbers(*train.fit(again)) == expected[1:]


def test_a_tick_after_every_batch(toy_run: ToyRun) -> None:
    """Four of training, one of evaluation, in every epoch; the position is told along."""
    run = toy_run(epochs=2)
    seen: list[tuple[int, int]] = []
    list(train.fit(run, lambda: seen.append(run.position)))
    assert seen == [(e, batch) for e in (0, 1) for batch in (1, 2, 3, 4, 4)]
    assert run.position == (2, 0)
    train.evaluate(run, run.train, lambda: seen.append(run.position))
    assert seen[10:] == [(2, 0)]


def test_an_interrupted_evaluation_is_repeated_alone(toy_run: ToyRun, tmp_path: Path) -> None:
    """The training before it is not, and counts in the epoch's loss."""
    first, expected = toy_run(epochs=1), numbers(*train.fit(toy_run(epochs=1)))
    assert until_stopped(first, 5) == []
    run = resumed(toy_run(epochs=1), first.state_dict(), tmp_path / "last.pt")
    seen: list[tuple[int, int]] = []
    assert numbers(*train.fit(run, lambda: seen.append(run.position))) == expected
    assert seen == [(0, 4)]


def test_seconds_before_the_interruption_count(toy_run: ToyRun, tmp_path: Path) -> None:
    """An epoch's training took what all that worked on it took together."""
    first = toy_run(epochs=1)

    def slow() -> None:
        time.sleep(0.3)
        if first.position == (0, 2):
            raise Stop

    with pytest.raises(Stop):
        list(train.fit(first, slow))
    state = first.state_dict()
    assert state["progress"]["seconds"] > 0.3
    (epoch,) = train.fit(resumed(toy_run(epochs=1), state, tmp_path / "last.pt"))
    assert epoch.seconds["train"] > state["progress"]["seconds"]


@pytest.mark.parametrize("position", [(0, 2), (1, 4)])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError(), RuntimeError("CUDA error: out of memory")]
)
def test_what_a_tick_raises_passes_unchanged(
    toy_run: ToyRun, error: BaseException, position: tuple[int, int]
) -> None:
    """Its own lack of memory is not the training's."""
    run = toy_run()

    def tick() -> None:
        if run.position == position:
            raise error

    with pytest.raises(type(error)) as caught:
        list(train.fit(run, tick))
    assert caught.value is error
