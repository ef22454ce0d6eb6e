"""Backbone × strategy, and what pretrained weights are worth: on tables to reckon by hand."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from tables import table

from tunesvc.analysis.strategy_table import Cell, Gain, fine_tuning_gain, strategy_table
from tunesvc.analysis.table import Unsupported


def ran(value: float, strategy: str = "full", **more: Any) -> dict[str, Any]:
    return {"value": value, "strategy": strategy, **more}


ROWS = [
    ran(0.6, seconds=10.0),
    ran(0.95, "linear-probe", seconds=4.0),
    ran(0.8, seconds=20.0),
    ran(0.7),
    {"state": "PRUNED", "last": 0.99, "seconds": 1.0},
    {"state": "FAIL", "seconds": 0.5},
    {"state": "RUNNING", "last": 0.99},
    ran(0.9, seconds=30.0),
    ran(0.95, "linear-probe", seconds=6.0),
    {"state": "PRUNED", "backbone": "vit", "last": 0.1, "seconds": 3.0},
    ran(0.5, "last-stage", backbone="vit", seconds=8.0),
    {"state": "WAITING", "backbone": "", "strategy": ""},
]


def test_a_line_sums_up_one_backbone_under_one_strategy() -> None:
    """Only finished trials count for values and seconds; the others are counted."""
    cells = {(cell.backbone, cell.strategy): cell for cell in strategy_table(table(ROWS))}
    assert cells["resnet", "full"] == Cell(
        backbone="resnet",
        strategy="full",
        best=0.9,
        best_trial=7,
        median=pytest.approx(0.75),  # of .6 .7 .8 .9
        spread=pytest.approx(0.15),  # quartiles .675 and .825
        seconds=20.0,  # of 10 20 30
        finished=4,
        pruned=1,
        failed=1,
    )
    assert cells["resnet", "linear-probe"].best_trial == 1  # the earliest of equals
    assert cells["resnet", "linear-probe"].spread == 0.0
    assert cells["vit", "last-stage"].spread is None
    unfinished = Cell("vit", "full", None, None, None, None, None, finished=0, pruned=1, failed=0)
    assert cells["vit", "full"] == unfinished
    assert len(cells) == 4


@pytest.mark.parametrize(
    ("direction", "order", "best"),
    [
        ("maximize", ["linear-probe", "full", "last-stage", "full"], [0.95, 0.9, 0.5, None]),
        ("minimize", ["last-stage", "full", "linear-probe", "full"], [0.5, 0.6, 0.95, None]),
    ],
)
def test_the_best_line_comes_first(direction: Any, order: list[str], best: list[float]) -> None:
    """Higher is better or lower is better; what never finished comes last either way."""
    cells = strategy_table(table(ROWS, direction))
    assert [cell.strategy for cell in cells] == order
    assert [cell.best for cell in cells] == best


@pytest.mark.parametrize("rows", [[], [{"state": "RUNNING"}]])
def test_no_ended_trials_make_an_empty_table(rows: list[dict[str, Any]]) -> None:
    """A study that has not begun has a table without lines."""
    assert strategy_table(table(rows)) == ()


def test_what_is_not_known_is_a_dash() -> None:
    """A trial may fail before it has a backbone; a value may be no number."""
    lost = {"state": "FAIL", "backbone": "", "strategy": ""}
    first, second = strategy_table(table([lost, ran(float("nan"))]))
    assert {(first.backbone, second.backbone)} <= {("–", "resnet"), ("resnet", "–")}
    assert first.best is second.best is None


# ---- pretrained weights and from scratch


def two_sided(tuned: list[float], scratch: list[float]) -> list[dict[str, Any]]:
    return [ran(value) for value in tuned] + [ran(value, "from-scratch") for value in scratch]


def only(found: tuple[Gain, ...] | Unsupported) -> Gain:
    assert not isinstance(found, Unsupported), found
    (gain,) = found
    return gain


def test_differences_are_positive_where_weights_help() -> None:
    """Of the best, and of the medians, with how many trials are behind each."""
    gain = only(fine_tuning_gain(table(two_sided([0.9, 0.8, 0.7], [0.6, 0.5, 0.4]))))
    assert gain.architecture == "resnet"
    assert gain.best.value == pytest.approx(0.3)
    assert gain.median.value == pytest.approx(0.3)
    assert (gain.pretrained_trials, gain.scratch_trials) == (3, 3)
    assert (gain.pretrained_best, gain.scratch_best) == (0.9, 0.6)
    assert gain.best.low <= gain.best.value <= gain.best.high
    assert gain.median.low > 0
    losses = two_sided([0.1, 0.2, 0.3], [0.6, 0.5, 0.4])
    lower = only(fine_tuning_gain(table(losses, "minimize")))
    assert lower.best.value == pytest.approx(0.3)
    assert (lower.pretrained_best, lower.scratch_best) == (0.1, 0.4)


def test_more_trials_are_not_a_better_start() -> None:
    """At equal numbers, the side with more counts with the mean best of so many of its trials."""
    many, few = [0.1, 0.2, 0.5, 0.9, 0.3], [0.5, 0.3]
    gain = only(fine_tuning_gain(table(two_sided(many, few))))
    expected = np.mean([max(pair) for pair in combinations(many, 2)]) - 0.5
    assert gain.best.value == pytest.approx(0.4)
    assert gain.best_alike.value == pytest.approx(expected)


def test_the_same_architecture_under_two_labels() -> None:
    """A backbone with `weights: none` is what one with weights is compared with."""
    common = {"architecture": "resnet18"}
    rows = [
        *(ran(value, backbone="r18", pretrained=True, **common) for value in (0.9, 0.8)),
        *(ran(value, backbone="raw", pretrained=False, **common) for value in (0.5, 0.4)),
        ran(0.7, backbone="vit", architecture="vit", pretrained=True),
    ]
    gain = only(fine_tuning_gain(table(rows)))
    assert (gain.architecture, gain.best.value) == ("resnet18", pytest.approx(0.4))


def test_intervals_hold_the_difference_of_medians() -> None:
    """Nine times in ten, for two normal populations that are 0.2 apart."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(60):
        sides = rng.normal(0.8, 0.1, 25).tolist(), rng.normal(0.6, 0.1, 25).tolist()
        median = only(fine_tuning_gain(table(two_sided(*sides)))).median
        held += median.low <= 0.2 <= median.high
    assert 48 <= held <= 60


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "needs finished trials, has 0"),
        ([{"state": "PRUNED", "last": 0.5}], "needs finished trials, has 0"),
        (two_sided([0.9, 0.8], []), "both from its weights and from scratch"),
        (two_sided([], [0.5]), "both from its weights and from scratch"),
    ],
)
def test_what_the_trials_cannot_tell_is_said(rows: list[dict[str, Any]], told: str) -> None:
    """No difference is made up."""
    found = fine_tuning_gain(table(rows))
    assert isinstance(found, Unsupported)
    assert told in found.why


def test_one_trial_of_a_side_has_a_best_but_no_interval() -> None:
    """Both bests are told, the difference is not judged; equal values are no difference at all."""
    gain = only(fine_tuning_gain(table(two_sided([0.9, 0.8], [0.5]))))
    assert gain.best == Unsupported("needs 2 finished trials with weights and without, has 2 and 1")
    equal = only(fine_tuning_gain(table(two_sided([0.5] * 3, [0.5] * 3))))
    assert (equal.median.value, equal.median.low, equal.median.high) == (0, 0, 0)
