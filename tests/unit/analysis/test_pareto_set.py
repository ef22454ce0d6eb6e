"""The Pareto set of what a study weighs: by hand, and against brute force."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tables import table

from tunesvc.analysis.front import front
from tunesvc.analysis.pareto_set import pareto_sets


def net(value: float, latency: float, millions: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "latency_ms": latency, "parameters": millions * 1e6} | more


NETS = [
    net(0.95, 9, 60),  # 0 the best
    net(0.90, 4, 25),  # 1
    net(0.90, 4, 25),  # 2 the same again
    net(0.88, 5, 12),  # 3 slower than 1, and smaller
    net(0.80, 2, 4),  # 4
    net(0.79, 3, 5),  # 5 beaten by 4
    net(0.99, float("nan"), 70),  # 6 of before latency was measured
    {"state": "PRUNED", "last": 0.99, "latency_ms": 0.1, "parameters": 1e6},
]


def test_latency_and_size_each_by_itself() -> None:
    """What a study of one objective is weighed by; of equals the first, the best first."""
    by_latency, by_size = pareto_sets(table(NETS))
    assert [each.trial for each in by_latency.members] == [0, 1, 4]
    assert [each.trial for each in by_size.members] == [6, 0, 1, 3, 4]
    assert (by_latency.among, by_latency.left_out) == (6, 1)
    assert by_latency.members[0].told == {"latency_ms": 9.0, "params_m": 60.0}
    assert by_size.members[0].told == {"params_m": 70.0}
    told = by_latency.as_json()
    assert told["over"] == {"accuracy": "maximize", "latency_ms": "minimize"}
    assert told["trials"][2]["latency_ms"] == 2.0
    assert json.loads(json.dumps(told)) == told


def test_several_at_once() -> None:
    """Caps on both, or further objectives, are weighed together; as they were told."""
    made = table(NETS)
    both = replace(made, against=({"latency_ms": "minimize", "params_m": "minimize"},))
    (found,) = pareto_sets(both)
    assert [each.trial for each in found.members] == [0, 1, 3, 4]
    rows = [{**row, "objective:latency_ms": 10.0 - at} for at, row in enumerate(NETS)]
    (told,) = pareto_sets(replace(table(rows), against=({"latency_ms": "minimize"},)))
    assert [each.trial for each in told.members] == [6]
    assert told.members[0].told == {"latency_ms": 4.0}


def test_larger_may_be_better() -> None:
    """Of a metric among the objectives, or of a quantity that is to be large; and lower values."""
    rows = [net(0.3, 1, 1), net(0.2, 1, 3), net(0.1, 1, 2)]
    (found,) = pareto_sets(
        replace(table(rows, direction="minimize"), against=({"params_m": "maximize"},))
    )
    assert [each.trial for each in found.members] == [2, 1]


def test_where_nothing_is_known() -> None:
    """There is no set, and no error: tables of other tools have no such columns."""
    first, second = pareto_sets(table([{"value": 0.5}]))
    assert first.members == second.members == ()
    assert (first.among, first.left_out) == (0, 1)


def test_a_latency_that_was_disturbed_is_counted() -> None:
    """Told far above what another trial of the same net was: the table has the lowest."""
    rows = [{**net(0.9, 2, 1), "objective:latency_ms": ms} for ms in (2.0, 2.9, 3.1, 400.0)]
    (found,) = pareto_sets(replace(table(rows), against=({"latency_ms": "minimize"},)))
    assert found.disturbed == 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_front_is_that_of_brute_force(seed: int, count: int) -> None:
    """Of 60 points of few values, many of them equal, for every number of objectives."""
    points = np.random.default_rng(seed).integers(0, 5, (60, count)).astype(float)
    beaten = {
        row
        for row in range(60)
        for other in range(60)
        if (points[other] >= points[row]).all()
        and ((points[other] > points[row]).any() or other < row)
    }
    found = front(points)
    assert set(found) == set(range(60)) - beaten
    firsts = points[found, 0]
    assert (np.diff(firsts) <= 0).all()
    assert front(np.empty((0, count))) == []
