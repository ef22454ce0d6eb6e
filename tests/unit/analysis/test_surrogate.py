"""A surface fitted to trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from landscapes import LANDSCAPES, empty, study

from tunesvc.analysis.basis import Basis, columns
from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.imputation import Finals, finals
from tunesvc.analysis.surrogate import Surrogate, fit
from tunesvc.analysis.table import Direction, Trials, Unsupported

ADDITIVE = LANDSCAPES["additive"]


@pytest.fixture(scope="module")
def surface() -> Surrogate:
    """Return the surface of one study."""
    fitted = fit(study(ADDITIVE, 60, 0))
    assert isinstance(fitted, Surrogate)
    return fitted


@pytest.mark.parametrize("name", ["lr", "blocks", "augmentation"])
def test_columns_are_orthonormal(name: str) -> None:
    """Over the uniform distribution columns have mean 0, variance 1 and no covariance."""
    dimension = next(d for d in ADDITIVE.space if d.name == name)
    m = {"lr": 4000, "blocks": 6, "augmentation": 3}[name]
    own = columns(dimension, (np.arange(m) + 0.5) / m, 5)
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(own.T @ own / m, np.eye(own.shape[1]), atol=1e-9)


def test_parts_are_orthogonal() -> None:
    """Parts of a space with conditions do not share variance."""
    conditional = LANDSCAPES["conditional"]
    encoding = Encoding(empty(conditional))
    unit = encoding.unit(encoding.sample(20000, np.random.default_rng(0)))
    basis = Basis(conditional.space, unit)
    phi = np.concatenate([basis.columns(part, unit) for part in basis.parts[:14]], axis=1)
    gram = phi.T @ phi / len(phi)
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 0.06


def test_predicts(surface: Surrogate) -> None:
    """Predictions are near the truth where nobody went, and told in the objective's unit."""
    params = surface.sample(400, np.random.default_rng(1))
    truth = ADDITIVE.value(surface.encoding.unit(params))
    found = surface.predict(params)
    assert 1 - np.var(found.mean - truth) / np.var(truth) > 0.8
    assert np.mean(np.abs(found.mean - truth) < 1.645 * found.spread) > 0.75
    assert surface.noise == pytest.approx(ADDITIVE.deviation(), rel=0.6)
    assert 0.6 < surface.explained.value < 0.98


def test_draws_agree_with_predictions(surface: Surrogate) -> None:
    """The mean of possible surfaces is the prediction, their spread its spread."""
    params = surface.sample(50, np.random.default_rng(1))
    draws, found = surface.draws(params), surface.predict(params)
    assert draws.shape[1] == 50
    np.testing.assert_allclose(draws.mean(axis=0), found.mean, atol=0.01)
    np.testing.assert_allclose(draws.std(axis=0), found.spread, rtol=0.4)


def test_the_same_twice(surface: Surrogate) -> None:
    """The same trials have the same surface."""
    again = fit(study(ADDITIVE, 60, 0))
    assert isinstance(again, Surrogate)
    np.testing.assert_array_equal(again.coefficients, surface.coefficients)


def test_pruned_trials_are_carried_on() -> None:
    """What a pruned trial would have reached is estimated from its rung, with an honest error."""
    whole = replace(LANDSCAPES["categorical"], name="whole")
    full, cut = study(whole, 200, 3), study(LANDSCAPES["pruned"], 200, 3)
    encoding = Encoding(cut)
    uniform = encoding.unit(encoding.sample(500, np.random.default_rng(0)))
    found = finals(cut, encoding, Basis(cut.space, uniform), 4)
    late = ~found.finished
    truth = full.frame.loc[found.rows.index, "value"].to_numpy(dtype=float)
    assert late.sum() > 100
    error = (found.value.mean(axis=0) - truth)[late]
    assert np.sqrt(np.mean(error**2)) < 0.75 * truth[late].std()
    spread = np.sqrt(found.value.var(axis=0) + found.variance)[late]
    assert np.mean(np.abs(error) < 1.645 * spread) > 0.6
    assert np.array_equal(found.value[0, ~late], truth[~late])


def diverging(trials: Trials, top: float) -> Trials:
    """Return a study in which every trial of a larger rate than this has diverged."""
    hot = trials.frame["param:lr"].astype(float) > top
    frame = trials.frame.copy()
    frame.loc[hot, ["state", "reason"]] = ["PRUNED", "diverged in epoch 1: the train loss is nan"]
    frame.loc[hot, ["value", "last"]] = np.nan
    frame.loc[hot, "epochs"] = 0
    return replace(trials, frame=frame)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_diverged_is_as_bad_as_the_worst(direction: Direction) -> None:
    """It counts with the worst finished value, as if that had been measured."""
    trials = diverging(study(replace(ADDITIVE, name=direction, direction=direction), 60, 0), 0.1)
    found = finals_of(trials)
    lost = found.rows["state"] == "PRUNED"
    assert 8 < lost.sum() == len(found.rows) - found.finished.sum()
    worst = trials.finished["value"].agg("min" if direction == "maximize" else "max")
    assert np.all(found.value[:, lost] == worst)
    assert np.all(found.variance == 0)
    surface = fit(trials)
    assert isinstance(surface, Surrogate)
    assert (surface.finished, surface.pruned) == (60 - lost.sum(), lost.sum())


def test_where_all_are_equally_good_what_diverged_is_not() -> None:
    """Five points below the middle, though no finished trial was that bad."""
    trials = study(ADDITIVE, 60, 0)
    frame = trials.frame.assign(value=0.9 + 0.001 * np.arange(60) / 60)
    trials = diverging(replace(trials, frame=frame), 0.1)
    found = finals_of(trials)
    middle = trials.finished["value"].median()
    assert found.value[0, ~found.finished] == pytest.approx(middle - 0.05)


def test_what_the_hours_ended_is_carried_on() -> None:
    """Nobody stopped it for its values, so nothing but the rest is missing of it."""
    cut = study(LANDSCAPES["pruned"], 200, 3)
    over = "the budget's 2 hours were over before its last epoch"
    late = replace(cut, frame=cut.frame.assign(reason=over))
    assert np.array_equal(finals_of(late).value, finals_of(cut).value)
    assert (finals_of(late).variance > 0).any()


def finals_of(trials: Trials) -> Finals:
    """Return every value that a surface would be fitted to."""
    encoding = Encoding(trials)
    uniform = encoding.unit(encoding.sample(500, np.random.default_rng(0)))
    return finals(trials, encoding, Basis(trials.space, uniform), 4)


def few(count: int) -> Trials:
    """Return a study's first trials."""
    return study(ADDITIVE, count, 0) if count else empty(ADDITIVE)


@pytest.mark.parametrize(("count", "why"), [(0, "needs 5 finished trials, has 0"), (1, "has 1")])
def test_too_few(count: int, why: str) -> None:
    """Too few trials have no surface, and it is told how many are needed."""
    assert why in unsupported(few(count))


def unsupported(trials: Trials) -> str:
    """Return why there is no surface."""
    found = fit(trials)
    assert isinstance(found, Unsupported)
    return found.why


def test_nothing_to_learn_from() -> None:
    """Trials that are all pruned, all NaN or all equal have none either."""
    trials = study(ADDITIVE, 30, 0)
    assert "has 0" in unsupported(
        replace(trials, frame=trials.frame.assign(state="PRUNED", value=np.nan))
    )
    assert "has 0" in unsupported(replace(trials, frame=trials.frame.assign(value=np.nan)))
    assert "same value" in unsupported(replace(trials, frame=trials.frame.assign(value=0.5)))
    assert "needs 20 finished or pruned trials" in unsupported(few(12))
