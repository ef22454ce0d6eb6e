"""How much of the space is nearly as good as the best, on a surface known by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from json import dumps
from typing import Any

import pytest
from known_surface import (
    DEFAULTS,
    SEEDS,
    accuracy,
    fitted,
    known_study,
    known_surface,
    share_held,
    with_states,
)

from tunesvc.analysis.robustness import Share, robustness
from tunesvc.analysis.table import Unsupported

PROBE = {"strategy": "probe", "lr@probe": 1e-1, "batch_size": 32, "null": 0.5}
TOPS = [{"backbone": label, **PROBE} for label in ("near", "far")]
TOPS += [{**DEFAULTS["near"], "backbone": "far"}]  # both backbones have the top of both strategies
STUDY = known_study(TOPS)

Key = tuple[str | None, str | None, float]


def shares(surface: Callable[[Any], float] = accuracy, **options: Any) -> dict[Key, Share]:
    """Return the shares by backbone, strategy and points."""
    study = known_study(TOPS, surface=surface, **options)
    found = robustness(study, known_surface(study, surface))
    return {(share.backbone, share.strategy, share.points): share for share in found.shares}


def test_the_share_of_a_strategy() -> None:
    """Of probes within 5 points of their best: batches of 32, all lr above 1e-2 and so on.

    The cost is 0.05 for each order of lr below 1e-1, of two, plus that of the batches: within 0.05
    are 1/2 of those of 32, 0.45/2·… of 64, 0.2 of 16. The mean is 0.05 / 3 · (0.5, 0.45, 0.2).
    """
    share = shares()[None, "probe", 5.0]
    assert share.of_own.value == pytest.approx((0.5 + 0.45 + 0.2) / 3, abs=0.03)
    assert share.of_all.value == 0.0  # every probe is 20 points worse than the top
    assert share.of_own.unit == "share"


def test_more_is_within_a_larger_epsilon() -> None:
    """Shares grow with ε, and are shares."""
    found = shares()
    for backbone in (None, "near", "far"):
        for strategy in (None, "probe", "full"):
            one, two, five = (found[backbone, strategy, p].of_own.value for p in (1.0, 2.0, 5.0))
            assert 0 < one < two < five < 1


def test_the_whole_is_made_of_its_parts() -> None:
    """Backbones are drawn alike, and strategies too: the whole is their mean."""
    found = shares()
    parts = [found[backbone, None, 5.0].of_all.value for backbone in ("near", "far")]
    assert found[None, None, 5.0].of_all.value == pytest.approx(sum(parts) / 2)
    full = found[None, "full", 5.0].of_all.value
    assert found[None, None, 5.0].of_all.value == pytest.approx(full / 2, rel=0.1)


def test_own_best_and_the_studys_best() -> None:
    """A backbone that is worse by 10 points is as forgiving, but of no use next to the other."""

    def worse(row: Any) -> float:
        return accuracy(row) - 0.1 * (row["backbone"] == "far")

    found = shares(worse)
    near, far = found["near", None, 5.0], found["far", None, 5.0]
    assert far.of_own.value == pytest.approx(near.of_own.value, abs=0.04)
    assert near.of_all == near.of_own
    assert far.of_all.value == 0.0


def test_a_forgiving_surface_is_told_from_a_steep_one() -> None:
    """A flat one has nearly everything within a point, a steep one little within five."""
    flat = shares(lambda row: 0.5 + 0.1 * (accuracy(row) - 0.5))
    steep = shares(lambda row: 0.5 + 1.2 * (accuracy(row) - 0.5))
    assert flat[None, None, 5.0].of_own.value == 1.0
    assert steep[None, None, 5.0].of_own.value < shares()[None, None, 5.0].of_own.value


def test_equal_accuracies_are_all_the_best() -> None:
    """Where nothing matters everything is within every ε."""
    assert {share.of_all.value for share in shares(lambda _: 0.5).values()} == {1.0}


def test_a_loss_is_measured_by_its_middle_half() -> None:
    """A point is a twentieth of the interquartile range of the finished trials; this is said."""
    study = known_study(TOPS, surface=lambda row: 3 - accuracy(row), direction="minimize")
    found = robustness(study, known_surface(study, lambda row: 3 - accuracy(row)))
    low, high = study.frame["value"].quantile([0.25, 0.75])
    assert found.shares[0].epsilon == pytest.approx((high - low) / 20)
    assert "interquartile" in found.epsilon_words
    assert 0 < found.shares[2].of_own.value < 1


def test_draws_that_disagree_make_an_interval() -> None:
    """The share of each draw is its own; where all agree the share is known."""
    surface = known_surface(STUDY)
    sure = robustness(STUDY, surface).shares[0].of_own
    assert sure.low == sure.value == sure.high
    unsure = replace(surface, leverage=lambda row: 5 * row["null"])
    share = robustness(STUDY, unsure).shares[0].of_own
    assert share.low < share.value < share.high


def test_parts_without_a_finished_trial_are_left_out() -> None:
    """Their best is unknown."""
    frame = STUDY.frame[STUDY.frame["strategy"] == "full"]
    study = replace(STUDY, frame=frame)
    found = robustness(study, known_surface(study)).shares
    assert {share.strategy for share in found} == {None, "full"}
    assert {share.of_own.trials for share in found if not share.backbone} == {len(frame)}


def test_what_cannot_be_told() -> None:
    """Without a surface, without a spread of losses, or without a finished trial."""
    why = Unsupported("needs 20 finished trials, has 5")
    assert robustness(STUDY, why) is why
    flat = known_study(surface=lambda _: 3.0, direction="minimize")
    assert not robustness(flat, known_surface(flat, lambda _: 3.0))
    pruned = with_states(STUDY, "PRUNED")
    assert not robustness(pruned, known_surface(pruned))


def test_a_fixed_strategy_is_told_by_name() -> None:
    """Where it is not searched, every configuration of a backbone has that of its trials."""
    frame = STUDY.frame[STUDY.frame["strategy"] == "full"].drop(columns="param:strategy")
    space = tuple(
        replace(d, when={}) for d in STUDY.space if d.name not in ("strategy", "lr@probe")
    )
    study = replace(STUDY, frame=frame, space=space)

    def full(row: Any) -> float:
        return accuracy({**row, "strategy": "full"})

    found = robustness(study, known_surface(study, full)).shares
    assert {share.strategy for share in found} == {None, "full"}


def test_shares_are_plain_data() -> None:
    """They can be written as JSON."""
    assert dumps(asdict(robustness(STUDY, known_surface(STUDY))))


def test_shares_hold_the_truth() -> None:
    """Of noisy studies: the whole, and each backbone and strategy, nine in ten or more."""
    told = []
    for seed in SEEDS:
        trials, surface, truth = fitted(seed)
        pairs = zip(
            robustness(trials, surface).shares, robustness(trials, truth).shares, strict=True
        )
        told += [(found.of_own, real.of_own) for found, real in pairs]
    assert len(told) > 100
    assert share_held(told) >= 0.85
