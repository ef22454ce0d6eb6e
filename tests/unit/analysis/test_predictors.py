"""Cheap predictors against what fine-tuning gave, on tables with a known answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from tables import table

from tunesvc.analysis.predictors import (
    Pretraining,
    league_scores,
    predictors,
    pretraining,
)
from tunesvc.analysis.rank_correlation import RankCorrelation
from tunesvc.analysis.table import Trials, Unsupported

BEST = {"a": 0.6, "b": 0.7, "c": 0.8, "d": 0.9, "e": 0.95}


def study(best: dict[str, float], direction: Any = "maximize") -> Trials:
    """Each backbone's best trial, a worse one, and better ones that do not count."""
    sign = 1 if direction == "maximize" else -1
    rows: list[dict[str, Any]] = []
    for label, value in best.items():
        rows.append({"backbone": label, "value": value - 0.3 * sign})
        rows.append({"backbone": label, "value": value})
        rows.append({"backbone": label, "value": 0.5 + sign, "strategy": "from-scratch"})
        rows.append({"backbone": label, "state": "PRUNED", "last": 0.5 + sign})
    return table(rows, direction)


def correlation(of: object) -> RankCorrelation:
    assert isinstance(of, RankCorrelation), of
    return of


def test_the_predictor_whose_order_is_right_comes_first() -> None:
    """Its correlation is 1 and nothing is lost by believing it; the reverse order loses most."""
    right = {label: 10 * value for label, value in BEST.items()}
    wrong = {label: -value for label, value in BEST.items()}
    found = predictors(study(BEST), {"wrong": wrong, "right": right})
    assert not isinstance(found, Unsupported)
    first, last = found
    assert (first.name, correlation(first.correlation).kendall.value, first.regret) == (
        "right",
        1,
        0,
    )
    assert (last.name, correlation(last.correlation).kendall.value) == ("wrong", -1)
    assert last.regret == pytest.approx(0.35)
    assert [each.backbone for each in first.backbones] == ["e", "d", "c", "b", "a"]
    assert first.backbones[0].best == 0.95
    assert correlation(first.correlation).count == 5
    json.dumps([asdict(each) for each in found])


def test_losses_are_foretold_by_what_falls() -> None:
    """A larger score is better whichever direction the objective has."""
    losses = {label: 1 - value for label, value in BEST.items()}
    found = predictors(study(losses, "minimize"), {"right": BEST, "wrong": losses})
    assert not isinstance(found, Unsupported)
    assert [each.name for each in found] == ["right", "wrong"]
    assert found[0].backbones[0].best == pytest.approx(0.05)
    assert found[1].regret == pytest.approx(0.35)


def test_backbones_without_a_score_are_named() -> None:
    """Of what is left, too few are not judged, and come last."""
    found = predictors(
        study(BEST), {"few": {"a": 1.0, "b": 2.0, "x": 3.0}, "none": {}, "all": BEST}
    )
    assert not isinstance(found, Unsupported)
    assert [each.name for each in found] == ["all", "few", "none"]
    assert found[1].correlation == Unsupported("needs 4 backbones, has 2")
    assert found[1].missing == ("c", "d", "e")
    assert found[1].regret == 0  # of the two that it knows, it puts the better one first
    assert (found[2].backbones, found[2].regret) == ((), 0)


@pytest.mark.parametrize(
    ("best", "why"),
    [
        ({}, "needs 4 fine-tuned backbones, has 0"),
        ({"a": 0.5}, "needs 4 fine-tuned backbones, has 1"),
        ({"a": 0.5, "b": 0.6, "c": float("nan"), "d": 0.7}, "needs 4 fine-tuned backbones, has 3"),
    ],
)
def test_few_backbones_are_not_ranked(best: dict[str, float], why: str) -> None:
    """Nor is a study without a league, or one of equal values."""
    assert predictors(study(best), {"right": BEST}) == Unsupported(why)


def test_nothing_to_hold_against() -> None:
    """A study without a league; backbones that all did the same."""
    assert predictors(study(BEST), {}) == Unsupported("no predictor was computed for this study")
    found = predictors(study(dict.fromkeys(BEST, 0.5)), {"right": BEST})
    assert not isinstance(found, Unsupported)
    assert found[0].correlation == Unsupported("all 5 backbones have the same value")


# ---- the league table's columns

LEAGUE = [
    {"backbone": "a", "metrics": {"accuracy": 0.6, "loss": 0.9}, "logme": -0.4, "h_score": 0.5,
     "imagenet_top1": 70.0},
    {"backbone": "b", "metrics": {"accuracy": 0.7, "loss": 0.8}, "logme": None, "h_score": None},
    {"backbone": "c", "metrics": {}, "why": "no room"},
]  # fmt: skip


def test_each_column_of_the_league_is_a_predictor() -> None:
    """Entries that another version stored, or that could not be probed, lack some."""
    assert league_scores(LEAGUE, "accuracy", "maximize") == {
        "linear probe": {"a": 0.6, "b": 0.7},
        "LogME": {"a": -0.4},
        "H-score": {"a": 0.5},
        "ImageNet top-1": {"a": 70.0},
    }
    assert league_scores(LEAGUE, "loss", "minimize")["linear probe"] == {"a": -0.9, "b": -0.8}
    assert league_scores([], "loss", "minimize") == {}


# ---- pretraining


def snapshots(values: dict[str, float], name: str = "mine") -> list[dict[str, Any]]:
    told = {"name": name, "metric": "accuracy"}
    return [
        {"backbone": label, "pretraining": told | {"epoch": epoch, "value": value}}
        for epoch, (label, value) in enumerate(values.items(), 1)
    ]


def test_pretraining_that_helps_correlates() -> None:
    """Snapshots in the order of their epochs, with what fine-tuning made of each."""
    league = snapshots({"a": 0.3, "b": 0.4, "c": 0.45, "d": 0.5})[::-1]
    found = pretraining(study(BEST), [*league, {"backbone": "e", "pretraining": None}])
    assert not isinstance(found, Unsupported)
    (run,) = found
    assert isinstance(run, Pretraining)
    assert [(each.backbone, each.epoch) for each in run.snapshots] == [
        ("a", 1), ("b", 2), ("c", 3), ("d", 4),
    ]  # fmt: skip
    assert (run.snapshots[0].best, run.snapshots[0].trials) == (0.6, 2)
    assert run.snapshots[0].median == pytest.approx(0.45)
    assert correlation(run.best).kendall.value == correlation(run.median).kendall.value == 1
    losses = {label: 1 - value for label, value in BEST.items()}
    falling = pretraining(study(losses, "minimize"), league)
    assert not isinstance(falling, Unsupported)
    assert correlation(falling[0].best).kendall.value == 1


def test_two_pretrainings_are_told_apart() -> None:
    """Each by itself; too few snapshots of one are shown without a verdict."""
    league = [*snapshots({"a": 0.3, "b": 0.4}), *snapshots({"c": 0.1, "d": 0.2, "x": 0.3}, "other")]
    found = pretraining(study(BEST), league)
    assert not isinstance(found, Unsupported)
    assert [(run.name, len(run.snapshots)) for run in found] == [("mine", 2), ("other", 2)]
    assert found[0].best == Unsupported("needs 4 snapshots, has 2")


@pytest.mark.parametrize("league", [[], LEAGUE, snapshots({"a": 0.3})])
def test_without_snapshots_there_is_nothing_to_compare(league: list[dict[str, Any]]) -> None:
    """It says how to have some."""
    found = pretraining(study(BEST), league)
    assert isinstance(found, Unsupported)
    assert "--keep-epochs" in found.why
