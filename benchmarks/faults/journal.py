"""Every optimizer step on disk at once, by whichever worker: it outlives `kill -9`.

A line is `seed epoch attempt steps`: the run's seed tells which trial, `attempt` (process and a
count) which go at the epoch, `steps` how many the epoch has. An epoch that was stopped in the
middle and went on there has each step once, in two attempts; one that was begun again has more
steps than it should, and every attempt but one was in vain.
"""

from __future__ import annotations

import os
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One optimizer step."""

    seed: int
    epoch: int
    attempt: str
    steps: int  # of the whole epoch

    @property
    def pid(self) -> int:
        """Whose it was."""
        return int(self.attempt.partition("-")[0])


def keep(path: Path) -> None:
    """Write a line for each step that this process takes from now on."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from tunesvc.train.run import Progress, Run

    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    attempts, line = count(), b""
    begin_epoch = Run.begin_epoch

    def begin(run: Run) -> Progress:
        nonlocal line
        attempt = f"{os.getpid()}-{next(attempts)}"
        line = f"{run.config.seed} {run.next_epoch} {attempt} {run.steps_per_epoch}\n".encode()
        return begin_epoch(run)

    def step(*_: Any) -> None:
        os.write(file, line)

    Run.begin_epoch = begin  # type: ignore[assignment, method-assign]
    register_optimizer_step_post_hook(step)


def read(path: Path) -> list[Step]:
    """Return all steps so far, in their order."""
    if not path.exists():
        return []
    rows = (line.split() for line in path.read_text().splitlines())
    return [Step(int(seed), int(epoch), attempt, int(n)) for seed, epoch, attempt, n in rows]


def repeated(steps: list[Step]) -> int:
    """Return how many attempts at an epoch did work that was done before or after by another."""
    taken: dict[tuple[int, int], list[Step]] = defaultdict(list)
    for step in steps:
        taken[step.seed, step.epoch].append(step)
    return sum(
        len({step.attempt for step in some}) - 1
        for some in taken.values()
        if len(some) > some[0].steps
    )
