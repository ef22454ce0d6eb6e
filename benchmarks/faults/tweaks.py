"""What is odd about one worker: called in its process before it works.

They hook into torch's optimizers, at the end of a step: nothing of tunesvc is replaced.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

_FOR_EVER = 1e6  # seconds


def _after_each_step(function: Any) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(function)


@dataclass(frozen=True)
class Slow:
    """Every step takes so many seconds more."""

    seconds: float

    def __call__(self) -> None:
        """Do it."""
        _after_each_step(lambda *_: time.sleep(self.seconds))


@dataclass(frozen=True)
class Hang:
    """The process's n-th step never ends."""

    steps: int

    def __call__(self) -> None:
        """Do it."""
        numbers = count(1)
        _after_each_step(lambda *_: time.sleep(_FOR_EVER * (next(numbers) == self.steps)))


@dataclass(frozen=True)
class Break:
    """The n-th step after each of the first so many breaks raises, counted over all processes."""

    steps: int
    times: int
    folder: Path  # one file per time, which all processes see

    def __call__(self) -> None:
        """Do it."""
        taken = 0

        def step(*_: Any) -> None:
            nonlocal taken
            taken += 1
            if taken % self.steps == 0 and (number := self._next()) is not None:
                raise RuntimeError(f"the cable was pulled, time {number}")

        _after_each_step(step)

    def _next(self) -> int | None:
        for number in range(1, self.times + 1):
            try:
                (self.folder / f"break-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return number
        return None
