"""The table that every measure reads."""

from __future__ import annotations

from tables import table


def test_finished_trials_have_a_finite_value() -> None:
    """Another program may have told an infinite one."""
    values = [0.5, float("nan"), float("inf"), -float("inf"), 0.7]
    rows = [*({"value": value} for value in values), {"state": "PRUNED", "value": 0.9}]
    assert list(table(rows).finished.index) == [0, 4]
    assert table([]).finished.empty
