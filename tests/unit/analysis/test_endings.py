"""Why trials were pruned, by the words that are stored with them."""

from __future__ import annotations

import pytest
from tables import table

from tunesvc.analysis.endings import by_pruner, diverged
from tunesvc.train import Diverged

PRUNER = "others were better after epoch 3 (pruner: asha)"


@pytest.mark.parametrize(
    "reason",
    [
        str(Diverged(0, float("nan"))),
        str(Diverged(4, float("inf"), "validation")),
        "accuracy is nan after the last epoch",
        "loss is inf after the last epoch",
        "r2 is -inf after the last epoch",
        "Training DIVERGED",
    ],
)
def test_divergence_is_known_by_its_words(reason: str) -> None:
    """Those that a worker tells, and those of other programs; no pruner did that."""
    trials = table([{"state": "PRUNED", "reason": reason}])
    assert list(diverged(trials).index) == [0]
    assert by_pruner(trials).empty


@pytest.mark.parametrize("reason", ["", PRUNER, f"{PRUNER} what is information"])
def test_the_pruner_is_known_by_its_words(reason: str) -> None:
    """Or by none: another program's pruned trials have no reason."""
    trials = table([{"state": "PRUNED", "reason": reason}])
    assert list(by_pruner(trials).index) == [0]
    assert diverged(trials).empty


def test_what_else_ends_a_trial_is_neither() -> None:
    """The end of the hours is no divergence; and what failed, or finished, was not pruned."""
    over = "the budget's 2 hours were over before its last epoch"
    gone = "diverged in epoch 1: the train loss is nan"
    rows = [
        {"state": "PRUNED", "reason": over},
        *({"state": state, "reason": gone} for state in ("FAIL", "COMPLETE", "RUNNING")),
        {"state": "FAIL", "reason": "out of memory"},
        {"state": "FAIL", "reason": PRUNER},
    ]
    assert diverged(table(rows)).empty
    assert by_pruner(table(rows)).empty
    assert diverged(table([])).empty
