"""Configurations one knob away, in a space with a branch."""

from __future__ import annotations

import pytest
from known_surface import DEFAULTS, SPACE, known_study, known_surface

from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.moves import best_of, moved, nearest, parents, place_of, values_of
from tunesvc.analysis.table import Dimension, Unsupported

STUDY = known_study()
ENCODING = Encoding(STUDY)
NEAR, FAR = DEFAULTS["near"], DEFAULTS["far"]


def test_parents_are_the_knobs_that_conditions_name() -> None:
    """`strategy` decides which learning rate there is."""
    assert parents(SPACE) == {"strategy"}


def test_a_leaf_moves_alone() -> None:
    """Nothing depends on it, so nothing else changes."""
    assert moved(ENCODING, NEAR, {"batch_size": 64}, {}) == {**NEAR, "batch_size": 64}


def test_what_depends_on_a_knob_moves_with_it() -> None:
    """The learning rate of the other branch takes its place, at the nearest value it allows."""
    there = moved(ENCODING, {**NEAR, "lr@full": 1e-5}, {"strategy": "probe"}, {})
    assert there == {
        "backbone": "near",
        "strategy": "probe",
        "lr@probe": 1e-3,
        "batch_size": 32,
        "null": 0.5,
    }


def test_a_knob_that_appears_is_filled() -> None:
    """From the configuration given, else it is in the middle of its range."""
    there = moved(ENCODING, FAR, {"strategy": "full"}, {"layer_decay": 0.9, "lr@full": 1e-2})
    assert (there["layer_decay"], there["lr@full"]) == (0.9, 1e-2)
    there = moved(ENCODING, FAR, {"strategy": "full"}, {})
    assert (there["layer_decay"], there["lr@full"]) == (pytest.approx(0.75), 1e-3)


@pytest.mark.parametrize(
    ("dimension", "value", "near"),
    [
        (Dimension("x", "x", "float", 0.1, 1.0), 7.0, 1.0),
        (Dimension("x", "x", "float", 0.1, 1.0), 0.0, 0.1),
        (Dimension("x", "x", "float", 0.1, 1.0), 0.3, 0.3),
        (Dimension("x", "x", "float", 0.0, 1.0, step=0.25), 0.3, 0.25),
        (Dimension("x", "x", "float", 1e-4, 1.0, log=True), None, 1e-2),
        (Dimension("x", "x", "int", 1, 9), 4, 4),
        (Dimension("x", "x", "int", 2, 8, step=2), 100, 8),
        (Dimension("x", "x", "int", 1, 1000, log=True), 2.4, 2),
        (Dimension("x", "x", "categorical", choices=("a", "b")), "b", "b"),
        (Dimension("x", "x", "categorical", choices=("a", "b")), "c", "a"),
        (Dimension("x", "x", "categorical", choices=(False, True)), None, False),
    ],
)
def test_the_nearest_value(dimension: Dimension, value: object, near: object) -> None:
    """Inside the range and on its steps; the middle, or the first choice, where none is near."""
    assert nearest(dimension, value) == pytest.approx(near)


@pytest.mark.parametrize(
    ("dimension", "count", "values"),
    [
        (Dimension("x", "x", "float", 0.0, 1.0), 3, [0.0, 0.5, 1.0]),
        (Dimension("x", "x", "float", 1e-4, 1.0, log=True), 3, [1e-4, 1e-2, 1.0]),
        (Dimension("x", "x", "float", 0.0, 1.0, step=0.25), 9, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Dimension("x", "x", "int", 1, 1000), 3, [1, 501, 1000]),
        (Dimension("x", "x", "int", 1, 4), 9, [1, 2, 3, 4]),
        (Dimension("x", "x", "int", 1, 4, log=True), 9, [1, 2, 3, 4]),
        (Dimension("x", "x", "float", 0.3, 0.3), 9, [0.3]),
        (Dimension("x", "x", "categorical", choices=("a", "b")), 1, ["a", "b"]),
    ],
)
def test_the_values_of_a_parameter(dimension: Dimension, count: int, values: list[object]) -> None:
    """All of them, or some at even distances on its own scale, both ends among them."""
    found = values_of(dimension, count)
    assert found == (pytest.approx(values) if dimension.kind != "categorical" else values)
    assert len({type(value) for value in found}) == 1


def test_which_parameter_holds_a_knob() -> None:
    """It depends on the branch; none where the knob is not drawn."""
    assert place_of(ENCODING, NEAR, "lr") == "lr@full"
    assert place_of(ENCODING, FAR, "lr") == "lr@probe"
    assert place_of(ENCODING, FAR, "layer_decay") is None


def test_the_best_is_where_the_surface_is_highest() -> None:
    """Not where one lucky value is; without a surface that value is all there is."""
    frame = STUDY.frame.copy()
    frame.loc[7, "value"] = 0.99
    lucky = type(STUDY)(**{**vars(STUDY), "frame": frame})
    number, params = best_of(lucky.finished, lucky, known_surface(lucky))
    assert number == int(STUDY.frame["value"].idxmax()) != 7
    assert params == ENCODING.params(STUDY.frame).loc[number].dropna().to_dict()
    assert best_of(lucky.finished, lucky, Unsupported("…"))[0] == 7


def test_the_best_loss_is_where_the_surface_is_lowest() -> None:
    """Minimized objectives too."""
    lost = known_study(surface=lambda row: row["null"], direction="minimize")
    number, _ = best_of(lost.finished, lost, known_surface(lost, lambda row: row["null"]))
    assert number == int(lost.frame["param:null"].astype(float).idxmin())
