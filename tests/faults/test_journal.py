"""How repeated work is counted."""

from __future__ import annotations

import pytest
from faults.journal import Step, repeated


def steps(*attempts: int) -> list[Step]:
    """Return an epoch of eight steps, in attempts that took so many of them."""
    return [
        Step(seed=1, epoch=0, attempt=f"{index}-0", steps=8)
        for index, taken in enumerate(attempts)
        for _ in range(taken)
    ]


@pytest.mark.parametrize(
    ("attempts", "count"),
    [
        ((8,), 0),  # undisturbed
        ((3, 5), 0),  # interrupted, and continued at the fourth step
        ((3, 8), 1),  # killed, and begun again
        ((8, 8), 1),  # killed before its end was saved
        ((3, 1, 8), 2),  # killed twice
        ((3,), 0),  # never ended: nothing is repeated
    ],
)
def test_an_attempt_counts_if_its_steps_were_taken_again(
    attempts: tuple[int, ...], count: int
) -> None:
    """Be it only one of them; an epoch in two halves is none."""
    assert repeated(steps(*attempts)) == count
