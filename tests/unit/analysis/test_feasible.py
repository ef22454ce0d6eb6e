"""The best that fits, on tables to reckon by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tables import table

from tunesvc.analysis.feasible import Feasible, feasible, known
from tunesvc.spec.caps import parse

V100, A100 = "V100, float32, threads: 1", "A100, bfloat16, threads: 1"


def net(value: float, millions: float, latency: float, **more: Any) -> dict[str, Any]:
    told = {"parameters": millions * 1e6, "latency_ms": latency, "latency_on": V100}
    return {"value": value, **told, **more}


NETS = [
    net(0.95, 60, 9),  # 0 the best of all
    net(0.90, 25, 4),  # 1
    net(0.88, 12, 5),  # 2
    net(0.80, 4, 2),  # 3 the least
    net(0.80, 5, 2),  # 4 as good as 3, and larger
    net(0.70, 4, 1),  # 5
    net(0.99, 1, float("nan")),  # 6 of before latency was measured
    {"state": "PRUNED", "last": 0.99, "parameters": 1e6, "latency_ms": 0.1},
    {"state": "FAIL"},
]


def asked(where: str, rows: list[dict[str, Any]] = NETS, **more: Any) -> Feasible:
    made = table(rows, **more)
    return feasible(made, parse(where, known(made)))


@pytest.mark.parametrize(
    ("where", "best", "fits"),
    [
        ("latency_ms <= 100", 0, 6),
        ("latency_ms <= 4", 1, 4),
        ("latency_ms < 4", 3, 3),
        ("params_m <= 12 and latency_ms <= 5", 2, 4),
        ("params_m <= 4", 6, 3),  # its latency is not asked for
        ("params_m <= 4 and latency_ms <= 1", 5, 1),
        ("params_m >= 5 and params_m <= 12", 2, 2),
        ("params_m == 25", 1, 1),
        ("params_m > 60", None, 0),
    ],
)
def test_the_best_of_what_fits(where: str, best: int | None, fits: int) -> None:
    """Of finished trials whose capped quantities are known, the one with the best objective."""
    found = asked(where)
    assert (found.best and found.best.trial) == best
    assert found.fits == fits
    assert bool(found.nearest) is (best is None)


def test_less_may_be_better() -> None:
    """The study's direction decides; and metrics other than the objective can be capped."""
    rows = [net(0.5, 3, 1) | {"metric:f1": 0.9}, net(0.2, 3, 1) | {"metric:f1": 0.4}]
    found = asked("latency_ms <= 3", rows, direction="minimize")
    assert found.best is not None
    assert found.best.trial == 1
    found = asked("f1 > 0.5", rows, direction="minimize")
    assert found.best is not None
    assert (found.best.trial, dict(found.best.told)) == (0, {"f1": 0.9})


def test_the_front_holds_what_nothing_beats() -> None:
    """In the objective and all capped quantities at once; of equals only the earliest."""
    found = asked("params_m <= 100 and latency_ms <= 100", [*NETS, net(0.95, 60, 9)])
    # 4 is beaten by 3, which is smaller; 5 is quicker than 3.
    assert [each.trial for each in found.front] == [0, 1, 2, 3, 5]
    assert [each.trial for each in asked("params_m <= 100").front] == [6]  # best and smallest
    assert [each.trial for each in asked("params_m >= 4").front] == [0]  # here larger is better
    assert [each.trial for each in asked("params_m == 4").front] == [3]


def test_of_equally_good_ones_the_cheaper_is_best() -> None:
    """Whichever came first."""
    found = asked("params_m <= 10", [net(0.8, 5, 2), net(0.8, 4, 2), net(0.8, 4, 2)])
    assert found.best is not None
    assert found.best.trial == 1
    assert [each.trial for each in found.front] == [1]


def test_trials_that_lack_a_number_are_counted() -> None:
    """They are neither fitting nor nearest; whoever lacks two is left out once."""
    found = asked("latency_ms <= 100 and flops_g <= 3", [*NETS, net(0.9, 1, 1, gflops=2.0)])
    assert (found.finished, found.left_out, found.fits) == (8, 7, 1)
    assert found.unknown == {"latency_ms": 1, "flops_g": 7}
    nothing = asked("size_mb <= 3")  # a column that nobody filled
    assert (nothing.left_out, nothing.nearest, nothing.best) == (7, (), None)


@pytest.mark.parametrize(
    ("where", "nearest"),
    [
        # 5 is the quickest, at 1 ms.
        ("latency_ms <= 0.667", [(5, ["latency_ms <= 1"])]),
        # 3 and 5 both have 4 million and keep within the latency; 3 is better.
        (
            "params_m <= 3 and latency_ms <= 2",
            [(3, ["params_m <= 4"])],
        ),
        (
            "params_m <= 4 and latency_ms <= 0.5",
            [(5, ["latency_ms <= 1"])],
        ),
        # 3 exceeds by 0.05/0.85, 2 by 1/11; no loosened latency would do.
        (
            "params_m <= 11 and latency_ms <= 5 and accuracy >= 0.85",
            [(3, ["accuracy >= 0.8"]), (2, ["params_m <= 12"])],
        ),
        # None breaks one cap alone: 5 exceeds by 1/3 and by 1.
        ("params_m <= 3 and latency_ms <= 0.5", [(5, ["params_m <= 4", "latency_ms <= 1"])]),
        ("latency_ms < 1", [(5, ["latency_ms < 1.001"])]),  # 1 itself would not do
        ("params_m > 60", [(0, ["params_m > 59.99"])]),
        ("latency_ms == 3.9", [(1, ["latency_ms == 4"])]),
        ("latency_ms <= 0", [(5, ["latency_ms <= 1"])]),
    ],
)
def test_the_nearest_cap(where: str, nearest: list[tuple[int, list[str]]]) -> None:
    """One for each cap that alone could give way, the least excess first; else all together."""
    rows = [row | {"metric:accuracy": row.get("value", float("nan"))} for row in NETS]
    found = asked(where, rows)
    told = [(each.fit.trial, [str(cap) for cap in each.instead]) for each in found.nearest]
    assert told == nearest


def test_excess_is_relative() -> None:
    """10 million more than 200 are nearer than 1 ms more than 3; a band has no better end."""
    rows = [net(0.9, 100, 4), net(0.8, 210, 2)]
    nearest = asked("latency_ms <= 3 and params_m <= 200", rows).nearest
    assert [(each.fit.trial, each.excess) for each in nearest] == [
        (1, pytest.approx(0.05)),
        (0, pytest.approx(1 / 3)),
    ]
    band = asked("params_m >= 50 and params_m <= 250", rows)
    assert [each.trial for each in band.front] == [0, 1]


@pytest.mark.parametrize("value", [1.00049, 11.689512, 0.00123456, 987654.3, 3.0])
@pytest.mark.parametrize("sign", ["<=", "<", ">=", ">"])
def test_a_loosened_cap_lets_its_trial_in(value: float, sign: str) -> None:
    """Typed as it was told, although it was told in four digits."""
    rows = [net(0.9, 1, value)]
    cap = value / 2 if "<" in sign else value * 2
    (nearest,) = asked(f"latency_ms {sign} {cap}", rows).nearest
    again = asked(str(nearest.instead[0]), rows)
    assert again.best is not None
    assert nearest.instead[0].value == pytest.approx(value, rel=0.002)


def test_latencies_of_several_devices_are_told() -> None:
    """Only where a latency is asked for."""
    rows = [net(0.9, 1, 1), net(0.8, 1, 9, latency_on=A100)]
    assert asked("latency_ms <= 3", rows).measured_on == (A100, V100)
    assert asked("params_m <= 3", rows).measured_on == ()


def test_disturbed_latencies_are_counted() -> None:
    """Of the trials that are looked at, and only where a latency is asked for."""
    rows = [net(0.9, 1, 1, latency_quiet=quiet) for quiet in (True, False, True)]
    assert asked("latency_ms <= 3", rows).disturbed == 1
    assert asked("params_m <= 3", rows).disturbed == asked("latency_ms <= 3").disturbed == 0


def test_it_is_plain_data() -> None:
    """As a script reads it."""
    told = json.loads(json.dumps(asked("latency_ms <= 4").as_json()))
    assert told["best"]["trial"] == 1
    assert told["best"]["told"] == {"latency_ms": 4.0}
    assert (told["caps"], told["unknown"]) == (["latency_ms <= 4"], {"latency_ms": 1})
    told = json.loads(json.dumps(asked("params_m <= 3 and latency_ms <= 2").as_json()))
    assert told["nearest"][0]["instead"] == ["params_m <= 4"]
