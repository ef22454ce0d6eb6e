"""Configurations as points of the unit cube, and drawn from a space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from landscapes import LANDSCAPES, choice, empty, inside, number, study, table

from tunesvc.analysis.branches import branch
from tunesvc.analysis.encoding import Encoding, levels
from tunesvc.analysis.table import Dimension, Trials

CONDITIONAL = LANDSCAPES["conditional"]


def space_of(*space: Dimension) -> Encoding:
    """Return the encoding of a space of which no trial has run."""
    return Encoding(empty(replace(CONDITIONAL, space=space)))


@pytest.mark.parametrize(
    ("dimension", "value", "place"),
    [
        (Dimension("lr", "lr", "float", 1e-4, 1.0, log=True), 1e-2, 0.5),
        (Dimension("x", "x", "float", -1.0, 3.0), 0.0, 0.25),
        (Dimension("n", "n", "int", 1, 4), 2, 0.375),
        (Dimension("f", "f", "float", 0.25, 0.75, step=0.25), 0.75, 5 / 6),
        (Dimension("c", "c", "categorical", choices=("a", "b")), "b", 0.75),
        (Dimension("t", "t", "categorical", choices=(False, True)), False, 0.25),
    ],
)
def test_places(dimension: Dimension, value: object, place: float) -> None:
    """Ranges are linear, or in their logarithm; values of a list are midpoints of equal parts."""
    encoding = space_of(dimension)
    unit = encoding.unit(pd.DataFrame({dimension.name: [value, None]}, dtype=object))
    assert unit[0, 0] == pytest.approx(place)
    assert np.isnan(unit[1, 0])
    back = encoding.values(unit)[dimension.name]
    assert back[0] == pytest.approx(value) if isinstance(value, float) else back[0] == value
    assert back[1] is None


def test_levels() -> None:
    """A range of real numbers has no end of values."""
    assert levels(Dimension("n", "n", "int", 1, 4)) == 4
    assert levels(Dimension("n", "n", "int", 8, 128, step=8)) == 16
    assert levels(Dimension("x", "x", "float", 0.0, 1.0)) == 0


def test_uniform() -> None:
    """What is drawn is uniform over the cube, and conditions hold."""
    encoding = Encoding(empty(CONDITIONAL))
    params = encoding.sample(3000, np.random.default_rng(0))
    unit = encoding.unit(params)
    for i, name in enumerate(encoding.names):
        there = unit[~np.isnan(unit[:, i]), i]
        assert there.mean() == pytest.approx(0.5, abs=0.04), name
    head = params["strategy"] == "probe"
    assert head.mean() == pytest.approx(1 / 3, abs=0.04)
    assert (params["lr@probe"].notna() == head).all()
    assert (params["lr@body"].notna() == ~head).all()


def test_fixed() -> None:
    """A fixed knob does not vary, and what it rules out is not drawn; a misspelling is told."""
    encoding = Encoding(empty(CONDITIONAL))
    params = encoding.sample(20, np.random.default_rng(0), strategy="probe", lr=1e-3)
    assert set(params["lr@probe"]) == {1e-3}
    assert params["lr@body"].isna().all()
    with pytest.raises(KeyError, match="stratgy"):
        encoding.sample(1, np.random.default_rng(0), stratgy="probe")


def test_first_variant_counts() -> None:
    """Of a knob's parameters the first whose condition holds is drawn, as in the study file."""
    head = inside(number("lr@head"), strategy=("a0",))
    encoding = space_of(choice("augmentation", 2), choice("strategy", 2), head, number("lr@else"))
    params = encoding.sample(200, np.random.default_rng(0), strategy="s0")
    assert params["lr@head"].isna().all()
    head = inside(number("lr@head"), strategy=("s0",))
    encoding = space_of(choice("strategy", 2), head, number("lr@else"))
    params = encoding.sample(200, np.random.default_rng(0))
    assert (params["lr@head"].isna() ^ params["lr@else"].isna()).all()


def fixed_under_probe() -> Trials:
    """Return trials whose optimizer is fixed under a probe, which no condition tells."""
    strategy = Dimension("strategy", "strategy", "categorical", choices=("probe", "full"))
    optimizer = Dimension("optimizer@body", "optimizer", "categorical", choices=("sgd", "adam"))
    rate = inside(number("lr@adam"), optimizer=("adam",))
    landscape = replace(CONDITIONAL, name="fixed", space=(strategy, optimizer, rate))
    rows = [
        ("probe", None, 0.5),
        ("full", "sgd", None),
        ("full", "adam", 0.2),
        ("probe", None, 0.1),
    ]
    params = pd.DataFrame(rows, columns=["strategy", "optimizer@body", "lr@adam"], dtype=object)
    trials = table(landscape, params, [[0.5] * 9] * len(rows))
    trials.frame["knob:optimizer"] = ["adam", "sgd", "adam", "adam"]
    return trials


def test_what_is_fixed_is_learned() -> None:
    """Where trials show that a knob is fixed, it is not drawn, but still counts."""
    params = Encoding(fixed_under_probe()).sample(300, np.random.default_rng(0))
    probe = params["strategy"] == "probe"
    assert params["optimizer@body"][probe].isna().all()
    assert params["optimizer@body"][~probe].notna().all()
    assert params["lr@adam"][probe].notna().all()
    assert (params["lr@adam"][~probe].notna() == (params["optimizer@body"][~probe] == "adam")).all()


def test_round_trip() -> None:
    """A study's own configurations come back from the cube."""
    trials = study(CONDITIONAL, 30, 0)
    encoding = Encoding(trials)
    unit = encoding.unit(encoding.params(trials.frame))
    again = encoding.unit(encoding.values(unit))
    np.testing.assert_allclose(again, unit, atol=1e-9)


def test_branch_names() -> None:
    """A branch has the label of its parameter, else its condition."""
    assert branch(number("lr")) == ""
    assert branch(inside(number("lr@full"), strategy=("full",))) == "full"
    assert branch(inside(number("momentum"), optimizer=("sgd", "nag"))) == "optimizer=sgd|nag"
