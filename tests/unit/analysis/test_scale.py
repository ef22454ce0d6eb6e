"""What a point is, on values whose quartiles are known."""

from __future__ import annotations

import pandas as pd
import pytest

from tunesvc.analysis.scale import in_points, scale
from tunesvc.analysis.table import Direction, Trials, Unsupported


def trials(
    values: list[float], direction: Direction, state: str = "COMPLETE", metric: str = "loss"
) -> Trials:
    """Return a study with these values and nothing else."""
    frame = pd.DataFrame({"state": state, "value": pd.Series(values, dtype=float)})
    return Trials("s", metric, direction, 1, (), frame, {}, (), {}, "random", "none")


def test_a_point_of_an_accuracy_is_a_hundredth() -> None:
    """However few or alike the trials, and whatever became of the unfinished ones."""
    assert scale(trials([0.5], "maximize", metric="accuracy")).point == 0.01
    values = [1.0, 0.0, float("nan")]
    assert scale(trials(values, "maximize", metric="balanced_accuracy")).point == 0.01
    assert not scale(trials([], "maximize", metric="accuracy"))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_point_of_anything_else_follows_the_middle_half(direction: Direction) -> None:
    """A twentieth of the interquartile range, whatever the few worst trials did; said in words."""
    found = scale(trials([10.0, 20.0, 30.0, 40.0, 50.0], direction))  # quartiles 20 and 40
    assert found.point == pytest.approx(1.0)
    assert "interquartile" in found.words
    assert scale(trials([10.0, 20.0, 30.0, 40.0, 1e9], direction)).point == pytest.approx(1.0)


def test_shares_are_known_by_name() -> None:
    """An r2 between 0 and 1 in every trial is none: in the next study it may be below 0."""
    assert all(map(in_points, ("accuracy", "balanced_accuracy", "precision", "recall", "f1")))
    assert not any(map(in_points, ("r2", "loss", "mse", "mae", "")))
    found = scale(trials([0.1, 0.2, 0.3, 0.4, 0.5], "maximize", metric="r2"))
    assert "interquartile" in found.words


def test_a_loss_below_one_is_no_share() -> None:
    """Losses have no hundredths, even where all values lie between 0 and 1."""
    assert scale(trials([0.1, 0.2, 0.3, 0.4, 0.5], "minimize")).point == pytest.approx(0.01)
    assert scale(trials([0.01, 0.02, 0.03, 0.04, 0.05], "minimize")).point == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "needs 4 finished trials, has 0"),
        ([1.0, 2.0, 3.0], "needs 4 finished trials, has 3"),
        ([1.0, 2.0, 3.0, float("nan")], "needs 4 finished trials, has 3"),
        ([1.0, 2.0, 3.0, float("inf"), -float("inf")], "needs 4 finished trials, has 3"),
        ([2.0] * 9, "the middle half of the finished trials has one value"),
        ([1.0, 2.0, 2.0, 2.0, 9.0], "the middle half of the finished trials has one value"),
    ],
)
def test_too_few_or_too_equal_losses(values: list[float], why: str) -> None:
    """Without a spread nothing tells how much a difference weighs."""
    assert scale(trials(values, "minimize")) == Unsupported(why)


def test_only_finished_trials_count() -> None:
    """A pruned trial's value was measured after fewer epochs."""
    assert not scale(trials([1.0, 2.0, 3.0, 4.0], "minimize", state="PRUNED"))
