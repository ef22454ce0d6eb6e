"""What tuning buys, on a surface known by formula, and with noise on studies of known truth."""

from __future__ import annotations

from dataclasses import asdict, replace
from json import dumps

import numpy as np
import pytest
from known_surface import (
    DEFAULTS,
    NOISE,
    SEEDS,
    accuracy,
    fitted,
    known_study,
    known_surface,
    share_held,
    with_states,
)

from tunesvc.analysis.table import Direction, Estimate, Unsupported
from tunesvc.analysis.tunability import BackboneGain, KnobGain, tunability

NONE = Unsupported("needs 20 finished trials, has 5")

# The top of the surface, in the backbone whose default is far from it.
BEST = {
    "backbone": "far",
    "strategy": "full",
    "lr@full": 1e-3,
    "layer_decay": 1.0,
    "batch_size": 32,
    "null": 0.2,
}


def far(direction: Direction = "maximize") -> BackboneGain:
    """Return what tuning buys of the backbone whose default is far from its best."""
    sign = 1.0 if direction == "maximize" else -1.0

    def surface(row: dict) -> float:
        return sign * accuracy(row)

    study = known_study([BEST], surface=surface, direction=direction)
    found = tunability(study, known_surface(study, surface))
    return next(gain for gain in found.backbones if gain.backbone == "far")


def knob(backbone: BackboneGain, name: str) -> KnobGain:
    """Return one knob's gain."""
    return next(gain for gain in backbone.knobs if gain.knob == name)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_tuning_a_backbone_buys(direction: Direction) -> None:
    """From probe at lr 1e-3 and batches of 16, 0.57, to the top, 0.90; a loss is counted alike."""
    found = far(direction)
    assert (found.default, found.best, found.best_trial) == (DEFAULTS["far"], BEST, 2)
    assert found.estimated.value == pytest.approx(0.33)
    assert found.observed == pytest.approx(0.33)
    assert abs(found.default_observed) == pytest.approx(0.57)
    assert abs(found.best_observed) == pytest.approx(0.90)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_tuning_one_knob_buys(direction: Direction) -> None:
    """The default with only this knob moved: what depends on it moves along, others do not."""
    found = far(direction)
    alone = {gain.knob: (gain.alone, gain.alone_at) for gain in found.knobs if gain.alone}
    assert {name: round(gain.value, 6) for name, (gain, _) in alone.items()} == {
        "strategy": 0.3,  # to full, the lr of 1e-3 stays: .90 - .03 against .57
        "lr": 0.1,  # to the upper end of probe's range
        "batch_size": 0.03,
        "null": 0.0,
    }
    assert {name: at for name, (_, at) in alone.items()} == {
        "strategy": "full",
        "lr": pytest.approx(0.1),
        "batch_size": 32,
        "null": 0.5,  # nothing is better than the default, so it stays
    }
    assert [gain.knob for gain in found.knobs][:3] == ["strategy", "lr", "batch_size"]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_leaving_one_knob_loses(direction: Direction) -> None:
    """The best with only this knob at its default, or the nearest that the branch allows."""
    found = far(direction)
    assert knob(found, "batch_size").left.value == pytest.approx(0.03)
    assert knob(found, "null").left.value == pytest.approx(0.0)
    assert knob(found, "lr").left.value == pytest.approx(0.0)  # 1e-3 is the best in `full` too
    assert knob(found, "strategy").left.value == pytest.approx(0.3)  # probe at 1e-3, batches of 32


def test_a_knob_of_both_branches_keeps_its_value() -> None:
    """Tuning the strategy alone is not tuning the learning rate, nor is leaving it alone."""
    study = known_study([{**BEST, "lr@full": 1e-2}], count=0)
    found = tunability(study, known_surface(study)).backbones[0]
    assert found.best["lr@full"] == 1e-2
    assert knob(found, "strategy").alone.value == pytest.approx(0.3)  # at lr 1e-3, not 1e-2
    left = accuracy(found.best) - (0.90 - 0.20 - 0.05)  # probe at lr 1e-2, not 1e-3
    assert knob(found, "strategy").left.value == pytest.approx(left)


def test_a_knob_that_the_default_lacks() -> None:
    """Layer decay exists under `full` only: alone it cannot be tuned, nor left at its default."""
    found = knob(far(), "layer_decay")
    assert (found.default, found.best) == (None, 1.0)
    assert found.alone is found.alone_at is found.left is None
    assert found.names == ("layer_decay",)


def test_a_knob_is_told_with_its_parameters_and_trials() -> None:
    """The learning rate is another parameter in each branch; trials of both stand behind it."""
    found = far()
    assert knob(found, "lr").names == ("lr@probe", "lr@full")
    study = known_study([BEST])
    rows = study.frame[study.frame["backbone"] == "far"]
    assert knob(found, "lr").trials == found.trials == found.estimated.trials == len(rows)
    assert knob(found, "layer_decay").trials == rows["param:layer_decay"].notna().sum()


def test_a_good_default_buys_nothing() -> None:
    """`near` has its default at the top: it comes after the other, and all its gains are zero."""
    study = known_study([BEST])
    first, second = tunability(study, known_surface(study)).backbones
    assert (first.backbone, second.backbone) == ("far", "near")
    assert second.estimated.value == second.observed == 0.0
    assert {gain.alone.value for gain in second.knobs} == {0.0}


def test_intervals_are_those_of_differences() -> None:
    """What is unsure of both configurations alike is not unsure of the gain."""
    study = known_study([BEST])
    surface = known_surface(study)
    alike = tunability(study, surface).backbones[0].estimated
    assert alike.low == pytest.approx(alike.high)
    lever = replace(surface, leverage=lambda row: float(row["strategy"] == "full"))
    unsure = tunability(study, lever).backbones[0].estimated
    assert (unsure.low, unsure.high) == (pytest.approx(0.321), pytest.approx(0.339))
    assert unsure.unit == "accuracy"


def test_without_a_surface_what_was_observed_is_told() -> None:
    """Five trials say what their best is, and why no more can be said."""
    study = known_study([BEST], count=2)
    found = tunability(study, NONE).backbones
    assert [gain.backbone for gain in found] == ["far", "near"]
    assert found[0].observed == pytest.approx(0.33)
    assert (found[0].estimated, found[0].knobs) == (NONE, ())
    assert dumps(asdict(found[0]))


def test_a_default_that_did_not_finish() -> None:
    """The surface still puts a number to it; the observed gain does not exist."""
    study = known_study([BEST])
    frame = study.frame.copy()
    frame.loc[1, ["state", "value"]] = ["PRUNED", np.nan]
    pruned = replace(study, frame=frame)
    found = tunability(pruned, known_surface(pruned)).backbones[0]
    assert found.default_observed is found.observed is None
    assert found.estimated.value == pytest.approx(0.33)


def test_one_backbone_needs_no_parameter_for_it() -> None:
    """With a single backbone the space has no such choice."""
    study = known_study([BEST])
    frame = study.frame[study.frame["backbone"] == "far"].drop(columns="param:backbone")
    default = {name: value for name, value in DEFAULTS["far"].items() if name != "backbone"}
    alone = replace(
        study,
        frame=frame,
        space=study.space[1:],
        backbones=("far",),
        defaults={"far": default},
    )
    (found,) = tunability(alone, known_surface(alone)).backbones
    assert found.estimated.value == pytest.approx(0.33)
    assert "backbone" not in found.best


@pytest.mark.parametrize("state", ["PRUNED", "FAIL", "RUNNING", "WAITING"])
def test_no_finished_trial(state: str) -> None:
    """Nothing was observed, so nothing is told."""
    study = with_states(known_study([BEST]), state)
    assert not tunability(study, NONE)
    assert "has none" in tunability(study, NONE).why


def test_no_trial_at_all() -> None:
    """An empty study is told like one without a finished trial."""
    study = known_study()
    empty = replace(study, frame=study.frame.head(0))
    assert not tunability(empty, NONE)


def test_equal_values() -> None:
    """Where every configuration gives the same, every gain is zero."""
    study = known_study([BEST], surface=lambda _: 0.5)
    found = tunability(study, known_surface(study, lambda _: 0.5))
    for backbone in found.backbones:
        assert backbone.estimated.value == backbone.observed == 0.0
        assert {gain.alone.value for gain in backbone.knobs if gain.alone} == {0.0}


def test_gains_hold_the_truth() -> None:
    """Of noisy studies: of a backbone, of a knob alone, and of a knob left, nine in ten or more."""
    told: list[tuple[Estimate, Estimate]] = []
    for seed in SEEDS:
        trials, surface, truth = fitted(seed)
        real = {gain.backbone: gain for gain in tunability(trials, truth).backbones}
        for gain in tunability(trials, surface).backbones:
            told.append((gain.estimated, real[gain.backbone].estimated))
            for one in gain.knobs:
                other = knob(real[gain.backbone], one.knob)
                told += [(a, b) for a, b in [(one.alone, other.alone), (one.left, other.left)] if a]
    assert len(told) > 60
    assert share_held(told) >= 0.9


def test_the_estimate_is_not_as_lucky_as_the_best_value() -> None:
    """The best of many noisy values promises too much; the surface's estimate much less so."""
    observed, estimated = [], []
    for seed in range(24):  # of eight, the mean is known to a sixth of the noise only
        trials, surface, truth = fitted(seed)
        real = {gain.backbone: gain for gain in tunability(trials, truth).backbones}
        for gain in tunability(trials, surface).backbones:
            observed.append(gain.observed - real[gain.backbone].estimated.value)
            estimated.append(gain.estimated.value - real[gain.backbone].estimated.value)
    assert np.mean(observed) > 0.4 * NOISE
    assert abs(np.mean(estimated)) < 0.3 * NOISE


def test_what_matters_is_told_from_what_does_not() -> None:
    """Strategy buys most in every study; the interval of the knob without effect holds zero."""
    for seed in SEEDS:
        trials, surface, _ = fitted(seed)
        found = next(g for g in tunability(trials, surface).backbones if g.backbone == "far")
        assert found.knobs[0].knob == "strategy"
        assert found.knobs[0].alone.low > 0.1
        assert knob(found, "null").left.low <= 0 <= knob(found, "null").left.high
