"""A surface fitted to trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from landscapes import LANDSCAPES, empty, study

from tunesvc.analysis.basis import Basis, columns
from tunesvc.analysis.encoding import Encoding
from tunesvc.analysis.stages import stages
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


def test_pruned_trials_tell_of_the_end() -> None:
    """From a study most of whose trials are pruned early, the end is predicted, with its error."""
    cut = study(LANDSCAPES["pruned"], 200, 3)
    surface = fit(cut)
    assert isinstance(surface, Surrogate)
    assert (surface.finished, surface.pruned) == (len(cut.finished), 200 - len(cut.finished))
    params = surface.sample(400, np.random.default_rng(1))
    truth = LANDSCAPES["pruned"].value(surface.encoding.unit(params))
    found = surface.predict(params)
    assert np.corrcoef(found.mean, truth)[0, 1] > 0.9
    assert np.mean(np.abs(found.mean - truth) < 1.645 * found.spread) > 0.6


def test_two_finished_trials_are_enough_beside_pruned_ones() -> None:
    """Shares are those at the rung, as long as nothing speaks against it; intervals are wider."""
    whole = study(LANDSCAPES["pruned"], 50, 1002)
    late = whole.finished.index[2:]
    cut = replace(whole, frame=whole.frame.drop(index=late))
    assert len(cut.finished) == 2
    few = fit(cut)
    assert isinstance(few, Surrogate)
    places = {part.dims: i for i, part in enumerate(few.basis.parts)}
    shares = [few.variance(places[i,]).mean() for i in range(len(cut.space))]
    assert cut.space[int(np.argmax(shares))].name == "backbone"


def test_a_knob_that_matters_late_is_found() -> None:
    """What a knob does after the rung is learned from those that finish."""
    trials = study(replace(ADDITIVE, name="late", pruned=True), 300, 0)
    late = trials.frame["param:momentum"].astype(float)
    done = trials.frame["value"] + 0.8 * late
    surface = fit(replace(trials, frame=trials.frame.assign(value=done)))
    assert isinstance(surface, Surrogate)
    names = [d.name for d in trials.space]
    places = {part.dims: i for i, part in enumerate(surface.basis.parts)}
    momentum, null = (surface.variance(places[names.index(n),]) for n in ("momentum", "null"))
    assert momentum.mean() > 20 * null.mean()


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
    found = stages(trials)
    lost = (found.rows["state"] == "PRUNED").to_numpy()
    assert 8 < lost.sum() == len(found.rows) - found.finished.sum()
    worst = trials.finished["value"].agg("min" if direction == "maximize" else "max")
    assert np.all(found.values[0, lost] == worst)
    surface = fit(trials)
    assert isinstance(surface, Surrogate)
    assert (surface.finished, surface.pruned) == (60 - lost.sum(), lost.sum())


def test_where_all_are_equally_good_what_diverged_is_not() -> None:
    """Five points below the middle, though no finished trial was that bad."""
    trials = study(ADDITIVE, 60, 0)
    frame = trials.frame.assign(value=0.9 + 0.001 * np.arange(60) / 60)
    trials = diverging(replace(trials, frame=frame), 0.1)
    found = stages(trials)
    middle = trials.finished["value"].median()
    assert found.values[0, ~found.finished] == pytest.approx(middle - 0.05)


def test_stages() -> None:
    """Each trial has its values as far as it came; finished ones have that of the end too."""
    cut = study(LANDSCAPES["pruned"], 60, 3)
    found = stages(cut)
    assert list(found.rows.index) == list(range(60))
    came = np.isfinite(found.values).sum(axis=0)
    epochs = cut.frame["epochs"].to_numpy(dtype=int)
    assert np.array_equal(came, np.select([epochs == 1, epochs == 3], [1, 2], 3))
    assert np.array_equal(found.finished, (cut.frame["state"] == "COMPLETE").to_numpy())
    assert found.values[0, 0] == cut.curves[0][0][1]


def test_without_learning_curves_pruned_trials_are_left_out() -> None:
    """Finished trials are more than pruned ones that nothing can be learned of."""
    cut = study(LANDSCAPES["pruned"], 60, 3)
    plain = {n: c for n, c in cut.curves.items() if n not in cut.finished.index}
    found = stages(replace(cut, curves=plain))
    assert found.finished.all()
    assert len(found.rows) == len(cut.finished)


def test_trials_pruned_at_many_epochs_have_few_stages() -> None:
    """Each enters at a rung that it came to."""
    whole = study(ADDITIVE, 60, 0)
    cut = np.arange(60) % 9 < 8
    frame = whole.frame.copy()
    frame.loc[cut, "state"] = "PRUNED"
    frame.loc[cut, "value"] = np.nan
    frame.loc[cut, "epochs"] = 1 + np.arange(60)[cut] % 9
    found = stages(replace(whole, frame=frame))
    assert len(found.values) == 4
    assert len(found.rows) == 60


def test_what_the_hours_ended_is_not_lost() -> None:
    """Nobody stopped it for its values, so nothing but the rest is missing of it."""
    cut = study(LANDSCAPES["pruned"], 200, 3)
    over = "the budget's 2 hours were over before its last epoch"
    late = replace(cut, frame=cut.frame.assign(reason=over))
    assert np.array_equal(stages(late).values, stages(cut).values, equal_nan=True)


def few(count: int) -> Trials:
    """Return a study's first trials."""
    return study(ADDITIVE, count, 0) if count else empty(ADDITIVE)


@pytest.mark.parametrize(("count", "why"), [(0, "needs 2 finished trials, has 0"), (1, "has 1")])
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
