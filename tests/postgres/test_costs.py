"""From real trials to what they cost and what pretraining was worth."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from trials import run_next

from tunesvc import study
from tunesvc.analysis.pareto import Cost, Frontier, Spending, gain_per_hour, pareto
from tunesvc.analysis.strategy_table import fine_tuning_gain
from tunesvc.analysis.table import Estimate, Unsupported
from tunesvc.results import trials
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.trial import Desk


def test_every_cost_of_real_trials_is_known(store: Store, tmp_path: Path) -> None:
    """One architecture with and without its weights; on the CPU, memory is an estimate."""
    spec = StudySpec.model_validate(
        {
            "name": "costs",
            "data": {"kind": "digits", "subset": 100},
            "backbones": [
                "tiny_resnet",
                {"name": "tiny_resnet", "weights": "none", "label": "raw"},
            ],
            "search_space": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}},
            "defaults": {"strategy": "full"},
            "budget": {"trials": 6, "epochs": 1},
            "sampler": "random",
            "pruner": "none",
            "league": False,
        }
    )
    made = study.create(store, spec, base=tmp_path)
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    while run_next(desk) is not None:
        pass
    table = trials(made)
    for cost in get_args(Cost):
        found = pareto(table, cost)
        assert isinstance(found, Frontier), cost
        assert found.unknown == 0
        assert found.front
        assert all(point.cost > 0 for point in found.points)
    assert set(table.frame["memory_kind"]) == {"estimated"}
    assert isinstance(gain_per_hour(table), Spending)
    gains = fine_tuning_gain(table)
    assert not isinstance(gains, Unsupported)
    (gain,) = gains
    assert gain.architecture == "tiny_resnet"
    assert gain.pretrained_trials + gain.scratch_trials == 6
    assert isinstance(gain.median, Estimate | Unsupported)
