"""Measures over tables of trials, on tables small enough to reckon by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunesvc.analysis import Cell, TrialRow, strategy_table

ROWS = [
    TrialRow(7, "COMPLETE", 0.9, "resnet", "full", 30.0),
    TrialRow(0, "COMPLETE", 0.6, "resnet", "full", 10.0),
    TrialRow(2, "COMPLETE", 0.8, "resnet", "full", 20.0),
    TrialRow(3, "COMPLETE", 0.7, "resnet", "full", None),
    TrialRow(4, "PRUNED", 0.99, "resnet", "full", 1.0),
    TrialRow(5, "FAIL", None, "resnet", "full", 0.5),
    TrialRow(6, "RUNNING", 0.99, "resnet", "full", None),
    TrialRow(1, "COMPLETE", 0.95, "resnet", "linear-probe", 4.0),
    TrialRow(8, "COMPLETE", 0.95, "resnet", "linear-probe", 6.0),
    TrialRow(9, "PRUNED", 0.1, "vit", "full", 3.0),
    TrialRow(10, "COMPLETE", 0.5, "vit", "last-stage", 8.0),
]


def test_a_line_sums_up_one_backbone_under_one_strategy() -> None:
    """Only finished trials count for values and seconds; the others are counted."""
    cells = {(c.backbone, c.strategy): c for c in strategy_table(ROWS, "maximize")}
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


@pytest.mark.parametrize(
    ("direction", "order", "best"),
    [
        ("maximize", ["linear-probe", "full", "last-stage", "full"], [0.95, 0.9, 0.5, None]),
        ("minimize", ["last-stage", "full", "linear-probe", "full"], [0.5, 0.6, 0.95, None]),
    ],
)
def test_the_best_line_comes_first(direction: str, order: list[str], best: list[float]) -> None:
    """Higher is better or lower is better; what never finished comes last either way."""
    table = strategy_table(ROWS, direction)
    assert [cell.strategy for cell in table] == order
    assert [cell.best for cell in table] == best


def test_no_trials_make_an_empty_table() -> None:
    """A study that has not begun has a table without lines."""
    assert strategy_table([], "maximize") == ()


def test_analysis_needs_neither_torch_nor_a_database() -> None:
    """Importing it loads no torch, Optuna or SQLAlchemy: it works on plain rows."""
    code = (
        "import sys, tunesvc.analysis; print(*{'torch', 'optuna', 'sqlalchemy'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
