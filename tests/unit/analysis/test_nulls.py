"""Knobs without effect that a model is given, and how large its parts may be beforehand."""

from __future__ import annotations

import numpy as np
from landscapes import LANDSCAPES, Array, empty, study

from tunesvc.analysis.basis import Basis, Part
from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.heredity import scales
from tunesvc.analysis.nulls import with_nulls

SPACE = LANDSCAPES["additive"].space
CHAINS = 2


def points(n: int) -> Array:
    """Return points that drift from 0 to 1 as a study goes on, every knob alike."""
    rng = np.random.default_rng(0)
    return np.clip(np.linspace(0, 1, n)[:, None] + 0.02 * rng.random((n, len(SPACE))), 0, 0.999)


def one(_: Part) -> float:
    """Return the same prior scale for every part."""
    return 1.0


def test_nulls_drift_as_real_knobs_do() -> None:
    """They are shuffled among trials drawn at about the same time, and never stay in order."""
    unit = points(60)
    encoding = Encoding(empty(LANDSCAPES["additive"]))
    basis = Basis(SPACE, encoding.unit(encoding.sample(500, np.random.default_rng(0)))).only(
        lambda part: part.dims == (0,)
    )
    real = np.concatenate([np.ones((60, 1)), basis.columns(basis.parts[0], unit)], axis=1)
    found, injected = with_nulls(
        basis, unit, real, one, chains=CHAINS, rng=np.random.default_rng(0)
    )
    assert {part.dims for part in injected} == {(0,)}
    first = found.phi[:, :, real.shape[1]]  # of the first null: its first cosine
    for own in first:
        assert np.corrcoef(own, real[:, 1])[0, 1] > 0.95
        assert not np.allclose(own, real[:, 1])


def test_pairs_are_large_where_their_knobs_are() -> None:
    """A pair of two knobs that do nothing is drawn to nothing."""
    landscape = LANDSCAPES["additive"]
    trials = study(landscape, 60, 0)
    encoding, rng = Encoding(trials), np.random.default_rng(0)
    basis = Basis(landscape.space, encoding.unit(encoding.sample(500, rng)))
    unit = encoding.unit(encoding.params(trials.frame))
    scale = scales(basis, unit, trials.frame["value"].to_numpy(dtype=float), rng)
    place = {d.name: i for i, d in enumerate(landscape.space)}
    parts = {part.dims: scale(part) for part in basis.parts}
    strong, weak = (place["lr"], place["weight_decay"]), (place["null"], place["null_choice"])
    assert parts[strong] > 4 * parts[weak] > 0
    assert len({parts[i,] for i in range(len(landscape.space))}) == 1


def test_equal_values_have_scales() -> None:
    """At a rung where all trials are as good as chance there is nothing to divide by."""
    landscape = LANDSCAPES["additive"]
    encoding, rng = Encoding(empty(landscape)), np.random.default_rng(0)
    unit = encoding.unit(encoding.sample(500, rng))
    scale = scales(Basis(landscape.space, unit), unit[:30], np.full(30, 0.5), rng)
    assert np.isfinite(scale(Part((0, 1), ((), ()), np.ones(1))))
