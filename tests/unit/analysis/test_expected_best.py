"""Expected best after n random trials, where the distribution is known or easy to reckon."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tunesvc.analysis.expected_best import ExpectedBest, expected_best
from tunesvc.analysis.table import Direction, Trials, Unsupported

UNIFORM = (np.random.default_rng(0).permutation(800) + 0.5) / 800  # evenly between 0 and 1


def trials(values: Any, direction: Direction = "maximize", **columns: Any) -> Trials:
    """Return finished random trials with these values, unless a column says otherwise."""
    values = np.asarray(values, dtype=float)
    frame = pd.DataFrame(
        {
            "state": np.full(len(values), "COMPLETE", dtype=object),
            "value": values,
            "last": values,
            "drawn": np.full(len(values), "random", dtype=object),
            "seconds": np.full(len(values), 10.0),
        }
    ).assign(**columns)
    metric = "accuracy" if direction == "maximize" else "loss"
    return Trials("s", metric, direction, 9, (), frame, {}, (), {}, "random", "none")


def bests(found: ExpectedBest | Unsupported) -> list[float]:
    """Return the expected bests, from n = 1 on."""
    return [point.best.value for point in found.curve]


def test_the_best_of_n_uniform_trials() -> None:
    """It is n/(n+1), within its interval; the curve ends at half the trials."""
    found = expected_best(trials(UNIFORM))
    for point in found.curve:
        truth = point.trials / (point.trials + 1)
        assert point.best.value == pytest.approx(truth, abs=2e-3)
        assert point.best.low <= truth <= point.best.high
        assert point.best.low < point.best.value < point.best.high
    assert [point.trials for point in found.curve][:3] == [1, 2, 3]
    assert found.curve[-1].trials == 400
    assert found.curve[0].best.unit == "accuracy"
    assert found.curve[0].best.trials == found.finished == 800


def test_enough_is_where_doubling_no_longer_pays() -> None:
    """For uniform trials 2n/(2n+1) - n/(n+1) falls below half a point between n = 97 and 98."""
    found = expected_best(trials(UNIFORM))
    assert found.worth == 0.005
    assert found.enough in range(95, 108)  # the curve has every ninth n there
    low, high = found.enough_between
    assert low <= 98
    assert high is None or high >= 98
    assert found.enough < found.upto <= 200
    gains = [point.doubling for point in found.curve if point.doubling]
    assert gains[0].value == pytest.approx(2 / 3 - 1 / 2, abs=2e-3)
    assert all(gain.low >= 0.0 for gain in gains)
    assert all(p.doubling is None for p in found.curve if p.trials > found.upto)


def test_trials_that_cannot_tell_say_so() -> None:
    """20 uniform trials show that 5 are not enough, not how many are."""
    found = expected_best(trials(UNIFORM[:20]))
    assert found.upto == 5
    assert found.enough is None
    assert found.enough_between[1] is None


def test_noise_between_seeds_counts_as_nothing() -> None:
    """What doubling buys must be more than the noise, where this is more than half a point."""
    found = expected_best(trials(UNIFORM), noise=0.02)
    assert found.worth == 0.02
    assert "noise" in found.worth_words
    assert found.enough < expected_best(trials(UNIFORM)).enough
    assert expected_best(trials(UNIFORM), noise=0.001).worth == 0.005


def test_minimized_objectives_mirror_maximized_ones() -> None:
    """A loss falls as an accuracy rises; half a point is a fortieth of the middle half."""
    up, down = expected_best(trials(UNIFORM)), expected_best(trials(1 - UNIFORM, "minimize"))
    assert bests(down) == pytest.approx([1 - best for best in bests(up)])
    first = down.curve[0].best
    assert first.low < first.value < first.high
    assert down.curve[0].doubling.value == pytest.approx(up.curve[0].doubling.value)
    assert down.worth == pytest.approx(0.5 / 40, rel=0.02)


def test_only_the_random_part_counts() -> None:
    """What a sampler chose, or a person gave, is not from the distribution that n more are from."""
    drawn = np.where(np.arange(800) < 100, "random", "sampler")
    assert expected_best(trials(UNIFORM, drawn=drawn)) == expected_best(trials(UNIFORM[:100]))
    state = np.where(np.arange(800) < 300, "COMPLETE", "PRUNED")
    assert expected_best(trials(UNIFORM, drawn=drawn, state=state)).pruned == 0
    none = expected_best(trials(UNIFORM, drawn="given"))
    assert not none
    assert "has 0 and 0 pruned" in none.why


def test_pruned_trials_are_losers() -> None:
    """They count with their last value, but never above the worst finished trial."""
    values = [0.9, 0.8, 0.7, 0.6, np.nan, np.nan, np.nan, np.nan]
    last = [0.9, 0.8, 0.7, 0.6, 0.3, 0.95, np.nan, 0.5]
    state = ["COMPLETE"] * 4 + ["PRUNED"] * 4
    found = expected_best(trials(values, state=state, last=last))
    assert bests(found)[0] == pytest.approx((0.9 + 0.8 + 0.7 + 0.6 + 0.3 + 0.6 + 0.6 + 0.5) / 8)
    assert (found.finished, found.pruned) == (4, 4)
    survivors = expected_best(trials(values[:4] * 2))
    assert bests(found)[1] < bests(survivors)[1]


def test_a_value_that_is_no_number_counts_as_the_worst() -> None:
    """Another program may have told ±inf: of a pruned trial, or as a finished one's value."""
    values = [0.9, 0.8, 0.7, 0.6, np.nan, np.nan, np.inf, -np.inf]
    last = [0.9, 0.8, 0.7, 0.6, -np.inf, np.inf, 0.5, 0.5]
    state = np.where(np.isin(np.arange(8), [4, 5]), "PRUNED", "COMPLETE")
    few = expected_best(trials(values, state=state, last=last))
    assert "has 4 and 2 pruned" in few.why
    twice = expected_best(trials(values * 2, state=[*state] * 2, last=last * 2))
    assert bests(twice)[0] == pytest.approx((0.9 + 0.8 + 0.7 + 0.6 + 0.6 + 0.6) / 6)


def test_pruned_losses_are_losers_too() -> None:
    """Minimized: the last value, but never below the worst finished one."""
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, np.nan, np.nan]
    last = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.05, 2.0]
    state = ["COMPLETE"] * 6 + ["PRUNED"] * 2
    found = expected_best(trials(values, "minimize", state=state, last=last))
    assert bests(found)[0] == pytest.approx((0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.6 + 0.6 + 2.0) / 8)


def test_failed_and_running_trials_are_passed_over() -> None:
    """They have no value, and none that a better search would have avoided."""
    state = ["COMPLETE"] * 100 + ["FAIL"] * 350 + ["RUNNING"] * 350
    assert expected_best(trials(UNIFORM, state=state)) == expected_best(trials(UNIFORM[:100]))


def test_seconds_are_the_mean_of_all_random_trials() -> None:
    """Pruned ones, which are cheap, are part of the price of n trials; unknown ones are not."""
    state = ["COMPLETE"] * 6 + ["PRUNED"] * 4
    seconds = [np.nan, *[100.0] * 5, *[10.0] * 4]
    found = expected_best(trials(UNIFORM[:10], state=state, seconds=seconds))
    assert found.seconds_per_trial == pytest.approx(60.0)
    assert found.curve[2].seconds == pytest.approx(180.0)
    unknown = expected_best(trials(UNIFORM[:10], seconds=np.nan))
    assert unknown.seconds_per_trial is unknown.curve[0].seconds is None


def test_equal_trials_need_no_second() -> None:
    """Where every trial gives the same, one is enough, and this is certain."""
    found = expected_best(trials([0.5] * 20))
    assert (found.enough, found.enough_between) == (1, (1, 1))
    best = found.curve[-1].best
    assert best.low == pytest.approx(best.high) == pytest.approx(0.5)
    assert not expected_best(trials([0.5] * 20, "minimize"))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_trials(count: int) -> None:
    """Below eight there is no curve, and the reason is told."""
    found = expected_best(trials(UNIFORM[:count]))
    assert found == Unsupported(
        f"needs 8 random trials that ended, one of them unpruned; has {count} and 0 pruned"
    )


def test_all_pruned() -> None:
    """Without a finished trial nothing is known of the best."""
    found = expected_best(trials([np.nan] * 20, state="PRUNED", last=UNIFORM[:20]))
    assert found == Unsupported(
        "needs 8 random trials that ended, one of them unpruned; has 0 and 20 pruned"
    )


def test_the_curve_of_a_large_search_stays_readable() -> None:
    """A few dozen points, every n at first, then evenly in orders of magnitude; plain data."""
    found = expected_best(trials(np.tile(UNIFORM, 5)))
    numbers = [point.trials for point in found.curve]
    assert len(numbers) <= 64
    assert numbers[:4] == [1, 2, 3, 4]
    assert numbers[-1] == 2000
    assert dumps(asdict(found))


def test_the_same_trials_give_the_same_result() -> None:
    """Whatever is drawn at random is drawn from a fixed seed."""
    assert expected_best(trials(UNIFORM)) == expected_best(trials(UNIFORM))
