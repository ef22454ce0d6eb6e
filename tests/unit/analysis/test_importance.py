"""Shares of variance, the noise line, branches."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from landscapes import LANDSCAPES, choice, empty, number, study

from tunesvc.analysis.importance import Importance, importance
from tunesvc.analysis.table import Trials


def found(trials: Trials, pairs: int = 5) -> Importance:
    """Return importance, which there is."""
    result = importance(trials, pairs=pairs)
    assert isinstance(result, Importance)
    return result


@pytest.fixture(scope="module")
def conditional() -> Importance:
    """Return what is found in a space with branches."""
    return found(study(LANDSCAPES["conditional"], 200, 2))


def test_branches(conditional: Importance) -> None:
    """A conditional knob is judged inside its branch, by the trials there."""
    truth = LANDSCAPES["conditional"].truth().mains
    knobs = {knob.name: knob for knob in conditional.knobs}
    assert knobs["lr@body"].branch == "body"
    assert knobs["lr@body"].knob == "lr"
    assert knobs["lr@body"].share.trials + knobs["lr@probe"].share.trials == 200
    for name in ("strategy", "lr@body"):
        assert knobs[name].share.low - 0.02 < truth[name] < knobs[name].share.high + 0.02
        assert not knobs[name].is_noise
    assert knobs["lr@probe"].noise_line > knobs["strategy"].noise_line


def test_form(conditional: Importance) -> None:
    """Shares are ordered, inside their intervals and at most 1; the result is plain data."""
    assert json.loads(json.dumps(asdict(conditional)))["trials"] == 200
    for each in (conditional.knobs, conditional.pairs):
        shares = [one.share for one in each]
        assert shares == sorted(shares, key=lambda share: -share.value)
        assert all(0 <= s.low <= s.value <= s.high <= 1 for s in shares)
    for knob in conditional.knobs:
        assert knob.share.low <= knob.total.value <= 1


def test_an_interaction() -> None:
    """A pair that acts together is found, and lifts a knob that does nothing alone."""
    result = found(study(LANDSCAPES["interaction"], 150, 0), pairs=2)
    assert len(result.pairs) == 2
    assert result.pairs[0].names == ("lr", "augmentation")
    assert not result.pairs[0].is_noise
    augmentation = next(knob for knob in result.knobs if knob.name == "augmentation")
    assert augmentation.total.value > augmentation.share.value + 0.1
    assert not augmentation.is_noise


def test_the_share_is_over_the_space_not_over_where_the_sampler_went() -> None:
    """Trials crowded around the best rate do not make the rate look unimportant."""
    landscape = LANDSCAPES["additive"]
    trials = study(landscape, 120, 0)
    crowded = trials.frame.sort_values("value").iloc[30:]
    result = found(replace(trials, frame=crowded.sort_index()))
    rate = next(knob for knob in result.knobs if knob.name == "lr")
    assert rate.share.value == pytest.approx(landscape.truth().mains["lr"], abs=0.2)


def test_direction_does_not_matter() -> None:
    """Turned upside down, the same trials have the same shares."""
    trials = study(LANDSCAPES["additive"], 40, 0)
    frame = trials.frame.assign(value=-trials.frame["value"])
    plain, turned = found(trials), found(replace(trials, frame=frame, direction="minimize"))
    assert plain.knobs == turned.knobs
    assert any(not knob.is_noise for knob in plain.knobs)


def test_a_branch_with_too_few_trials_is_not_judged() -> None:
    """It says how many there are."""
    result = found(study(LANDSCAPES["conditional"], 22, 2))
    names = {one.name for one in result.unjudged}
    assert "freeze" in names
    freeze = next(one for one in result.unjudged if one.name == "freeze")
    assert freeze.why == f"needs 8 trials in this branch, has {freeze.trials}"
    assert names.isdisjoint(knob.name for knob in result.knobs)


def test_no_effect_at_all() -> None:
    """Where nothing but noise is there, hardly anything is told from it."""
    landscape = LANDSCAPES["additive"]
    trials = study(landscape, 50, 2)
    frame = trials.frame.assign(value=np.random.default_rng(0).random(50))
    assert sum(not knob.is_noise for knob in found(replace(trials, frame=frame)).knobs) <= 1


def test_a_single_knob() -> None:
    """One knob, or one with a single value, is no mistake."""
    one = replace(
        LANDSCAPES["additive"],
        name="one",
        space=(number("lr", log=True),),
        surface=lambda p: p["lr"],
    )
    assert found(study(one, 25, 0)).knobs[0].share.value == pytest.approx(1, abs=0.05)
    none = replace(
        one,
        name="none",
        space=(choice("augmentation", 1),),
        surface=lambda p: p["augmentation"] + 0.0,
    )
    trials = study(replace(one, name="none"), 25, 0)
    assert not importance(replace(trials, space=none.space))


def test_unsupported() -> None:
    """Without trials there is a reason in place of a result."""
    assert not importance(empty(LANDSCAPES["additive"]))
