"""Sensitivity curves on a surface known by formula."""

from __future__ import annotations

from dataclasses import asdict, replace
from json import dumps
from math import log10

import pytest
from known_surface import SEEDS, accuracy, fitted, known_study, known_surface, share_held

from tunesvc.analysis.sensitivity import Sensitivity, sensitivity
from tunesvc.analysis.table import Unsupported

STUDY = known_study()
CURVES = {curve.name: curve for curve in sensitivity(STUDY, known_surface(STUDY))}


def heights(curve: Sensitivity) -> dict[object, float]:
    """Return the curve by its parameter's value."""
    return {point.at: point.value.value for point in curve.points}


def test_a_curve_has_its_parameters_own_shape() -> None:
    """Two orders of magnitude from the best learning rate cost four times what one does."""
    curve = heights(CURVES["lr@full"])
    top = max(curve.values())
    for at, value in curve.items():
        assert top - value == pytest.approx(0.02 * (log10(at) + 3) ** 2, abs=1e-9)
    assert len(curve) == 17
    assert min(curve) == 1e-5
    assert max(curve) == 1e-1


def test_a_curve_averages_over_all_others() -> None:
    """Batches cost 0.035 / 3 on average, layer decay 0.02: this is what the top lies below 0.90."""
    curve = heights(CURVES["lr@full"])
    assert max(curve.values()) == pytest.approx(0.90 - 0.035 / 3 - 0.02, abs=4e-3)


def test_a_choice_has_a_point_each() -> None:
    """In the order of the study file, without a scale."""
    curve = CURVES["batch_size"]
    assert curve.categorical
    assert list(heights(curve)) == [16, 32, 64]
    values = list(heights(curve).values())
    assert values[1] - values[0] == pytest.approx(0.03)
    assert values[1] - values[2] == pytest.approx(0.005)


def test_a_knob_that_decides_which_others_exist() -> None:
    """A probe is averaged over its own learning rates, `full` over its own."""
    curve = heights(CURVES["strategy"])
    assert curve["probe"] == pytest.approx(0.90 - 0.20 - 0.05 - 0.035 / 3, abs=0.01)
    spread = 0.02 * 4 / 3  # mean square of a place between -2 and 2
    assert curve["full"] == pytest.approx(0.90 - spread - 0.02 - 0.035 / 3, abs=0.01)


def test_a_curve_tells_its_branch_and_its_trials() -> None:
    """Under `full` only the trials of that branch drew its learning rate."""
    assert (CURVES["lr@full"].branch, CURVES["lr@full"].knob) == ("full", "lr")
    assert CURVES["lr@full"].log
    assert CURVES["null"].branch == ""
    assert CURVES["lr@full"].trials == STUDY.frame["param:lr@full"].notna().sum()
    assert CURVES["null"].trials == len(STUDY.frame)
    assert CURVES["null"].points[0].value.trials == len(STUDY.frame)


def test_a_knob_without_effect_is_flat() -> None:
    """To the last digit, because every point averages over the same configurations."""
    values = heights(CURVES["null"]).values()
    assert max(values) - min(values) < 1e-12


def test_the_band_is_the_surfaces() -> None:
    """Draws a hundredth above and below make a band of nine tenths of that."""
    value = CURVES["null"].points[3].value
    assert value.high - value.value == pytest.approx(0.009)
    assert value.value - value.low == pytest.approx(0.009)
    assert value.unit == "accuracy"


def test_a_parameter_that_no_trial_drew_has_no_curve() -> None:
    """Nothing is known of it."""
    probes = STUDY.frame[STUDY.frame["strategy"] == "probe"]
    study = replace(STUDY, frame=probes)
    names = [curve.name for curve in sensitivity(study, known_surface(study))]
    assert names == ["backbone", "strategy", "lr@probe", "batch_size", "null"]


def test_without_a_surface_there_is_no_curve() -> None:
    """The reason is handed on."""
    why = Unsupported("needs 20 finished trials, has 5")
    assert sensitivity(STUDY, why) is why


def test_curves_are_plain_data_and_repeatable() -> None:
    """The same surface gives the same curves, and they can be written as JSON."""
    again = sensitivity(STUDY, known_surface(STUDY, accuracy))
    assert again == tuple(CURVES.values())
    assert dumps([asdict(curve) for curve in again])


def test_bands_hold_the_truth() -> None:
    """Of noisy studies: nine points of ten or more."""
    told = []
    for seed in SEEDS:
        trials, surface, truth = fitted(seed)
        pairs = zip(sensitivity(trials, surface), sensitivity(trials, truth), strict=True)
        told += [
            (a.value, b.value) for x, y in pairs for a, b in zip(x.points, y.points, strict=True)
        ]
    assert len(told) > 250
    assert share_held(told) >= 0.87
