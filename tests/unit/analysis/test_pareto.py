"""What accuracy costs, on tables to reckon by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, get_args

import pandas as pd
import pytest
from tables import table

from tunesvc.analysis.pareto import (
    Cost,
    Frontier,
    Spending,
    gain_per_hour,
    gain_per_hour_by_backbone,
    pareto,
)
from tunesvc.analysis.table import Trials, Unsupported


def ran(value: float, seconds: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "seconds": seconds, **more}


PRICED = [
    ran(0.60, 10),  # 0 the cheapest
    ran(0.90, 40),  # 1 the best
    ran(0.70, 20),  # 2
    ran(0.69, 30),  # 3 a point behind 2, and dearer
    ran(0.50, 50),  # 4
    ran(0.70, 20),  # 5 as good and as cheap as 2
    ran(0.70, 25),  # 6 as good as 2, and dearer
    {"state": "PRUNED", "last": 0.99, "seconds": 1.0},
    {"value": 0.99},  # 8 of unknown cost
]


def by_cost(rows: list[dict[str, Any]], **more: Any) -> Frontier:
    found = pareto(table(rows, **more), "seconds")
    assert isinstance(found, Frontier), found
    return found


def test_the_front_holds_what_nothing_cheaper_beats() -> None:
    """Cheapest first; equal trials are both on it, and who dominates the others is told."""
    found = by_cost(PRICED)
    assert found.front == (0, 2, 5, 1)
    assert [point.trial for point in found.points] == [0, 2, 5, 6, 3, 1, 4]
    assert {point.trial: point.dominated_by for point in found.points} == {
        0: None, 2: None, 5: None, 6: 2, 3: 2, 1: None, 4: 1,
    }  # fmt: skip
    assert found.unknown == 1
    assert found.unit == "s"
    assert all(point.low is None for point in found.points)


def test_lower_can_be_better() -> None:
    """Of losses, the front goes down."""
    losses = [ran(0.5, 10), ran(0.2, 20), ran(0.3, 30)]
    found = by_cost(losses, direction="minimize")
    assert found.front == (0, 1)
    assert [point.value for point in found.points] == [0.5, 0.2, 0.3]
    assert found.points[2].dominated_by == 1


def test_what_luck_can_explain_is_not_called_dominated() -> None:
    """Within z·√2·σ of the one that beats it; intervals are z·σ to each side."""
    found = pareto(table(PRICED), "seconds", noise=0.01)
    assert isinstance(found, Frontier)
    standings = {point.trial: point.standing for point in found.points}
    assert standings[3] == standings[6] == "within noise"  # behind by 0.01 and 0; 0.023 is luck
    assert standings[4] == "dominated"
    assert found.points[0].low == pytest.approx(0.6 - 0.01645, abs=1e-5)
    narrow = pareto(table(PRICED), "seconds", noise=0.004)
    assert isinstance(narrow, Frontier)
    assert {p.trial: p.standing for p in narrow.points}[3] == "dominated"


def test_every_cost_has_a_front_or_a_reason() -> None:
    """Costs that nobody stored are named."""
    rows = [ran(0.5, 1.0, parameters=10.0, gflops=2.0), ran(0.6, 2.0, parameters=10.0, gflops=1.0)]
    found = {cost: pareto(table(rows), cost) for cost in get_args(Cost)}
    priced = [found[cost] for cost in ("seconds", "parameters", "gflops")]
    assert [each.front for each in priced] == [(0, 1), (1,), (1,)]
    assert found["memory_mb"] == Unsupported("needs finished trials of known memory_mb, has 0")
    json.dumps([asdict(each) for each in found.values()])


@pytest.mark.parametrize("rows", [[], [{"state": "PRUNED"}], [ran(float("nan"), 1.0)]])
def test_without_finished_trials_there_is_no_front(rows: list[dict[str, Any]]) -> None:
    """Pruned ones and those without a number do not count."""
    assert not pareto(table(rows), "seconds")
    assert not gain_per_hour(table(rows))


# ---- gain per hour

HOUR = 3600.0


def day(hour: int) -> pd.Timestamp:
    return pd.Timestamp(2026, 11, 22, hour)


SEARCH = [
    ran(0.70, HOUR, default=True, ended=day(1)),
    ran(0.60, HOUR, ended=day(2)),
    ran(0.90, HOUR, ended=day(4)),  # after the pruned one
    {"state": "PRUNED", "last": 0.99, "seconds": HOUR, "ended": day(3)},
    ran(0.80, HOUR, ended=day(5)),
    {"state": "FAIL", "seconds": HOUR, "ended": day(6)},
    {"state": "RUNNING", "last": 0.99},
]


def spent(trials: Trials, noise: float | None = None) -> Spending:
    found = gain_per_hour(trials, noise)
    assert isinstance(found, Spending), found
    return found


def test_the_gain_is_divided_by_every_hour_that_was_spent() -> None:
    """0.2 over the default in six hours, of which it was had for the last two."""
    found = spent(table(SEARCH))
    assert (found.reference, found.reference_trial, found.best, found.best_trial) == (
        0.7,
        0,
        0.9,
        2,
    )
    assert found.gain == pytest.approx(0.2)
    assert (found.hours, found.trials) == (6.0, 6)
    assert found.per_hour == pytest.approx(0.2 / 6)
    assert found.mean_gain == pytest.approx(0.2 * 2 / 6)
    assert found.curve == ((1.0, 0.7, 0), (4.0, 0.9, 2))
    assert found.low is None


def test_losses_gain_by_falling() -> None:
    """A gain is positive whichever direction is better."""
    first, second, third = ran(0.7, HOUR, default=True), ran(0.8, HOUR), ran(0.5, HOUR)
    found = spent(table([first, second, third], "minimize"))
    assert found.gain == pytest.approx(0.2)
    assert found.curve == ((1.0, 0.7, 0), (3.0, 0.5, 2))


def test_the_interval_is_that_of_two_noisy_values() -> None:
    """A default that won has gained nothing, surely."""
    found = spent(table(SEARCH), noise=0.01)
    assert found.low == pytest.approx(0.2 - 1.6449 * 2**0.5 * 0.01, abs=1e-5)
    rows = [ran(0.9, HOUR, default=True), ran(0.5, HOUR)]
    won = spent(table(rows), noise=0.01)
    assert (won.gain, won.low, won.high, won.best_trial) == (0, 0, 0, 0)


def test_each_backbone_has_its_own_default() -> None:
    """Where one has none that finished, that is said."""
    rows = [
        ran(0.7, HOUR, default=True),
        ran(0.8, HOUR),
        {**ran(0.9, HOUR), "backbone": "vit"},
        {"state": "FAIL", "default": True, "backbone": "vit"},
    ]
    found = gain_per_hour_by_backbone(table(rows))
    assert isinstance(found["resnet"], Spending)
    assert found["resnet"].gain == pytest.approx(0.1)
    assert found["resnet"].hours == 2.0
    assert found["vit"] == Unsupported("needs a finished trial of an untuned configuration, has 0")


def test_hours_that_nobody_measured() -> None:
    """Trials of another program have no seconds."""
    found = gain_per_hour(table([{"value": 0.5, "default": True}]))
    assert found == Unsupported("nobody measured how long its trials took")
