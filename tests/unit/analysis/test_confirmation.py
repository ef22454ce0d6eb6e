"""Configurations run again with new seeds: means, differences, a race, and what is told of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import nan, sqrt

import numpy as np
import pytest
from scipy import stats

from tunesvc.analysis.confirmation import (
    Candidate,
    Comparison,
    Confirmation,
    Confirmed,
    Noise,
    Rerun,
    confirmation,
)
from tunesvc.analysis.paired import (
    Spread,
    compare,
    gain,
    mean,
    p_above,
    probability,
    spread,
    spread_interval,
)
from tunesvc.analysis.race import ALPHA, holm, race, ranked
from tunesvc.analysis.table import Estimate, Unsupported
from tunesvc.report.figures.confirmation import says

Table = dict[str, dict[int, float]]

RNG = np.random.default_rng


def drawn(rng: np.random.Generator, levels: dict[str, float], seeds: int, shared: float) -> Table:
    """Values around levels: what a seed does to all, and noise of 0.01 for each run."""
    common = rng.normal(0, shared, seeds)
    noise = {name: rng.normal(0, 0.01, seeds) for name in levels}
    return {
        name: {i: float(level + common[i] + noise[name][i]) for i in range(seeds)}
        for name, level in levels.items()
    }


def told(found: Confirmation | Unsupported) -> Confirmation:
    assert isinstance(found, Confirmation), found
    return found


def small(direction: str = "maximize", **more: object) -> Confirmation:
    """Two of the best and a default, three seeds each; trial 7 promised most and is worse."""
    sign = 1 if direction == "maximize" else -1
    offset = 0 if direction == "maximize" else 1  # shares in any case
    candidates = [
        Candidate("trial 7", "best", 7, "a", offset + sign * 0.95),
        Candidate("trial 3", "best", 3, "a", offset + sign * 0.94),
        Candidate("default of a", "default", 0, "a", offset + sign * 0.85, is_default=True),
    ]
    values = {
        "trial 7": (0.90, 0.91, 0.92),
        "trial 3": (0.92, 0.93, 0.95),
        "default of a": (0.80, 0.81, 0.85),
    }
    reruns = [
        Rerun(name, seed, offset + sign * value, offset + sign * (value - 0.02))
        for name, known in values.items()
        for seed, value in enumerate(known)
    ]
    known = {"metric": "accuracy", "direction": direction, "images": 100} | more
    return told(confirmation(candidates, reruns, **known))  # type: ignore[arg-type]


# --- one configuration --------------------------------------------------------------------------


def test_a_mean_has_the_interval_of_students_t() -> None:
    """As scipy computes it; the number of seeds stands beside it."""
    values = [0.91, 0.93, 0.90, 0.94, 0.92]
    found = mean(dict(enumerate(values)), "accuracy", Unsupported(""))
    assert isinstance(found, Estimate)
    low, high = stats.t.interval(0.9, 4, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.value, found.trials, found.unit) == (pytest.approx(0.92), 5, "accuracy")


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_means_cover_the_truth(seeds: int) -> None:
    """Nine of ten times."""
    rng, hits = RNG(0), 0
    for _ in range(2000):
        values = dict(enumerate(rng.normal(0.9, 0.02, seeds)))
        found = mean(values, "accuracy", Unsupported(""))
        assert isinstance(found, Estimate)
        hits += found.low <= 0.9 <= found.high
    assert hits / 2000 == pytest.approx(0.9, abs=0.02)


def test_one_seed_borrows_the_spread_of_the_others() -> None:
    """Its interval then covers as often; without others there is none."""
    rng, hits = RNG(1), 0
    for _ in range(2000):
        others = [dict(enumerate(rng.normal(0.5, 0.02, 4))) for _ in range(3)]
        found = mean({0: rng.normal(0.9, 0.02)}, "accuracy", spread(others))
        assert isinstance(found, Estimate)
        hits += found.low <= 0.9 <= found.high
    assert hits / 2000 == pytest.approx(0.9, abs=0.02)
    assert mean({0: 0.9}, "accuracy", Unsupported("no")) == Unsupported("needs 2 seeds, has 1")
    assert not mean({0: nan}, "accuracy", Unsupported("no"))


def test_the_spread_is_pooled_and_its_interval_covers() -> None:
    """Configurations with different levels, and different numbers of seeds."""
    rng, hits = RNG(2), 0
    for _ in range(1000):
        groups = [dict(enumerate(rng.normal(level, 0.03, n))) for level, n in ((0, 5), (9, 3))]
        found = spread(groups)
        assert isinstance(found, Spread)
        assert found.freedom == 6
        known = spread_interval(found, "accuracy")
        hits += known.low <= 0.03 <= known.high
    assert hits / 1000 == pytest.approx(0.9, abs=0.03)
    assert not spread([{0: 1.0}, {0: 2.0}, {}])


# --- two ----------------------------------------------------------------------------------------


def test_a_comparison_is_the_paired_t_test() -> None:
    """As scipy computes it, over the seeds that both have a value for."""
    first = {0: 0.93, 1: 0.94, 2: 0.91, 3: 0.95, 4: nan, 5: 0.99}
    second = {0: 0.91, 1: 0.92, 2: 0.92, 3: 0.91, 4: 0.90}
    found = compare(("a", first), ("b", second), 1.0, "accuracy")
    assert isinstance(found, Comparison)
    a, b = ([values[seed] for seed in range(4)] for values in (first, second))
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.9)
    assert (found.seeds, found.p) == (4, pytest.approx(expected.pvalue))
    assert (found.difference.low, found.difference.high) == pytest.approx(interval)
    assert found.better.value == 0.75
    one_sided = stats.ttest_rel(a, b, alternative="greater").pvalue
    assert p_above([x - y for x, y in zip(a, b, strict=True)]) == pytest.approx(one_sided)


def test_smaller_is_better_where_it_is() -> None:
    """A difference is a score: the same losses, seen from the other side."""
    first, second = {0: 0.2, 1: 0.3, 2: 0.25}, {0: 0.4, 1: 0.6, 2: 0.5}
    found = compare(("a", first), ("b", second), -1.0, "loss")
    assert isinstance(found, Comparison)
    assert found.difference.value == pytest.approx(0.25)
    assert found.better.value == 1.0


def test_shared_seeds_make_differences_sure() -> None:
    """What a seed does to both cancels: the paired interval is short, and covers the truth."""
    rng, hits, lengths = RNG(3), 0, []
    for _ in range(1000):
        table = drawn(rng, {"a": 0.92, "b": 0.90}, 5, shared=0.2)
        found = gain(table["a"], table["b"], 1.0, "accuracy", Unsupported(""))
        assert isinstance(found, Estimate)
        hits += found.low <= 0.02 <= found.high
        lengths.append(found.high - found.low)
    assert hits / 1000 == pytest.approx(0.9, abs=0.03)
    assert np.mean(lengths) < 0.04


def test_two_runs_of_one_seed_are_compared_by_the_noise_of_others() -> None:
    """Their difference has twice a run's variance."""
    found = gain({0: 0.9}, {0: 0.8}, 1.0, "accuracy", Spread(0.01, 8))
    assert isinstance(found, Estimate)
    half = stats.t.ppf(0.95, 8) * 0.01 * sqrt(2)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half))
    assert not gain({0: 0.9}, {1: 0.8}, 1.0, "accuracy", Spread(0.01, 8))
    assert not compare(("a", {0: 1.0}), ("b", {0: 1.0}), 1.0, "accuracy")


def test_equal_runs_are_no_evidence() -> None:
    """No difference at all, or the same one each time: neither divides by nothing."""
    assert p_above([0.0, 0.0, 0.0]) == 0.5
    assert p_above([0.1, 0.1, 0.1]) == pytest.approx(0.0)
    assert p_above([-0.5, -0.5, -0.5]) == 1.0
    same = compare(("a", {0: 0.9, 1: 0.9}), ("b", {0: 0.9, 1: 0.9}), 1.0, "accuracy")
    assert isinstance(same, Comparison)
    assert (same.p, same.better.value, same.difference.high) == (1.0, 0.5, 0.0)


def test_one_image_each_time_may_be_rounding() -> None:
    """Accuracies on few images come in steps; a step less is not yet clearly worse."""
    assert p_above([0.01, 0.01, 0.01], resolution=0.01) > 0.01
    assert p_above([0.05, 0.05, 0.05], resolution=0.01) < 0.005


@pytest.mark.parametrize("truth", [0.5, 0.8])
@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_the_probability_to_be_better_is_covered(truth: float, seeds: int) -> None:
    """Wins are counted, so coverage moves in steps around nine of ten; it is never far below."""
    rng, hits = RNG(4), 0
    for _ in range(1000):
        d = np.where(rng.random(seeds) < truth, 1.0, -1.0)
        found = probability(list(d))
        hits += found.low <= truth <= found.high
    assert hits / 1000 >= 0.84


def test_ties_are_half_a_win() -> None:
    """And an interval that touches an end holds it."""
    assert probability([1, 0, 0, -1]).value == 0.5
    assert probability([1, 1, 1]).high == 1.0
    assert probability([-1, -1, -1]).low == 0.0


# --- several ------------------------------------------------------------------------------------


def test_holm_adjusts_step_by_step() -> None:
    """The textbook's example: each is multiplied by how many are left, and never falls."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_a_race_drops_the_clearly_worse() -> None:
    """Ten points behind with a noise of one: gone after three seeds mostly, else after four."""
    for seeds, share in ((3, 0.65), (4, 0.9)):
        rng, left = RNG(5), 0
        for _ in range(300):
            table = drawn(rng, {"a": 0.9, "b": 0.9, "c": 0.8}, seeds, shared=0.02)
            found = race(table, "maximize")
            assert found.leader != "c"
            left += "c" in found.out
        assert left / 300 > share


def test_a_race_keeps_equals() -> None:
    """Five that are worth the same: few races lose any, whatever the seeds do."""
    for seeds, most in ((3, 0.07), (5, 0.02)):
        rng, lost = RNG(6), 0
        for _ in range(500):
            levels = dict.fromkeys("abcde", 0.9)
            lost += bool(race(drawn(rng, levels, seeds, shared=0.05), "maximize").out)
        assert lost / 500 < most


@pytest.mark.parametrize("rivals", [1, 4])
def test_the_best_is_not_sent_away_by_looking_often(rivals: int) -> None:
    """It is looked at after each of eight seeds, and has rivals that are as good within a hair: in
    at most `ALPHA` of all races it is out at any time."""
    rng, lost, races = RNG(7), 0, 400
    levels = {"best": 0.9} | {f"rival {number}": 0.8999 for number in range(rivals)}
    for _ in range(races):
        values = drawn(rng, levels, 8, shared=0.05)
        known: Table = {name: {} for name in levels}
        out: tuple[str, ...] = ()
        for seed in range(8):
            for name in known.keys() - set(out):
                known[name][seed] = values[name][seed]
            out = race(known, "maximize").out
            if "best" in out:
                lost += 1
                break
    assert lost / races <= ALPHA


def test_nobody_leaves_before_three_seeds() -> None:
    """However far behind."""
    table = {"a": {0: 0.9, 1: 0.91}, "b": {0: 0.1, 1: 0.11}}
    assert race(table, "maximize").out == ()
    assert race(table | {"a": {}, "b": {}}, "maximize").leader == ""


def test_a_race_for_the_smallest() -> None:
    """The largest loss leaves."""
    table = {"a": {0: 0.1, 1: 0.11, 2: 0.12}, "b": {0: 0.9, 1: 0.92, 2: 0.91}}
    assert race(table, "minimize").leader == "a"
    assert race(table, "minimize").out == ("b",)


def test_lucky_seeds_do_not_lead() -> None:
    """Who left after three good seeds stays behind one that had two bad ones for everybody."""
    good = {0: 0.90, 1: 0.91, 2: 0.92}
    table = {"long": {**good, 3: 0.5, 4: 0.5}, "short": {k: v - 0.05 for k, v in good.items()}}
    assert ranked(table, 1.0) == ["long", "short"]


def test_who_has_lost_a_run_comes_behind() -> None:
    """A configuration that diverges now and then is none to choose."""
    table = {"wild": {0: 0.99, 1: nan, 2: 0.99}, "tame": {0: 0.8, 1: 0.8, 2: 0.8}}
    assert ranked(table, 1.0) == ["tame", "wild"]
    assert ranked({"wild": table["wild"], "dead": {0: nan}}, 1.0) == ["wild"]


# --- the whole ----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_is_found(direction: str) -> None:
    """Winner, curse, noise and what tuning bought, against numbers computed by hand."""
    found = small(direction)
    assert (found.winner, found.runner_up) == ("trial 3", "trial 7")
    assert [c.candidate.name for c in found.configurations] == [
        "trial 3",
        "trial 7",
        "default of a",
    ]
    assert found.favourite == "trial 7"
    assert isinstance(found.curse, Estimate)
    assert found.curse.value == pytest.approx(0.04)  # 0.95 was promised, 0.91 found
    assert found.curse.low < 0.04 < found.curse.high
    assert isinstance(found.bought, Comparison)
    assert found.bought.difference.value == pytest.approx(0.34 / 3)
    assert isinstance(found.bought_test, Comparison)
    assert found.bought_test.difference.value == pytest.approx(0.34 / 3)
    assert found.promised_gain == pytest.approx(0.09)
    assert isinstance(found.against_runner_up, Comparison)
    assert found.against_runner_up.difference.value == pytest.approx(0.07 / 3)


def test_noise_is_that_of_seeds_and_that_of_images() -> None:
    """The pooled spread, and a binomial error that only accuracies have."""
    found = small()
    values = [(0.90, 0.91, 0.92), (0.92, 0.93, 0.95), (0.80, 0.81, 0.85)]
    assert isinstance(found.noise, Noise)
    pooled = sqrt(np.mean([np.var(each, ddof=1) for each in values]))
    assert found.noise.spread.value == pytest.approx(pooled)
    p = np.mean(values[1])
    assert found.noise.binomial == pytest.approx(sqrt(p * (1 - p) / 100))
    assert (found.unit, found.point) == ("points", 0.01)
    other = small(metric="f1").noise
    assert isinstance(other, Noise)
    assert other.binomial == Unsupported("f1 is no share of images")
    unknown = small(images=None).noise
    assert isinstance(unknown, Noise)
    assert not unknown.binomial


def test_the_default_may_win() -> None:
    """Then tuning bought nothing, and there is nothing to compare it with."""
    one = Candidate("trial 0", "best", 0, "a", 0.9, is_default=True)
    found = told(confirmation([one], [Rerun("trial 0", 0, 0.9), Rerun("trial 0", 1, 0.8)],
                              metric="accuracy", direction="maximize"))  # fmt: skip
    assert found.winner == "trial 0"
    assert found.bought == Unsupported("the untuned default won")
    assert found.runner_up == ""
    assert not found.configurations[0].test


def against_default(default: float) -> Confirmation:
    """Two tuned configurations of mean 0.86 and 0.88, and a default of this one; three seeds."""
    names = {"trial 7": 0.86, "trial 3": 0.88, "default of a": default}
    roles = ("best", "best", "default")
    candidates = [
        Candidate(name, role, None, "a", 0.9, is_default=role == "default")  # type: ignore[arg-type]
        for name, role in zip(names, roles, strict=True)
    ]
    reruns = [
        Rerun(name, seed, middle + step, middle - 0.1 + step)
        for name, middle in names.items()
        for seed, step in enumerate((-0.01, 0.0, 0.01))
    ]
    return told(
        confirmation(candidates, reruns, metric="accuracy", direction="maximize", images=100)
    )


def test_a_default_that_is_better_than_all_tuned_ones_wins() -> None:
    """The best tuned one is the runner-up; tuning bought nothing, on either split."""
    found = against_default(0.90)
    assert (found.winner, found.runner_up) == ("default of a", "trial 3")
    assert isinstance(found.against_runner_up, Comparison)
    assert found.against_runner_up.difference.value == pytest.approx(0.02)
    nothing = Unsupported("the untuned default won")
    assert found.bought == found.bought_test == nothing
    order = [each.candidate.name for each in found.configurations]
    assert order == ["trial 3", "trial 7", "default of a"]
    assert isinstance(found.noise, Noise)
    assert found.noise.binomial == pytest.approx(0.03)  # of the default's 0.9


def test_a_default_in_second_place_is_the_runner_up() -> None:
    """What is second best is told, whatever it is; what tuning bought is the same difference."""
    found = against_default(0.87)
    assert (found.winner, found.runner_up) == ("trial 3", "default of a")
    assert found.bought == found.against_runner_up


@pytest.mark.parametrize(("metric", "unit"), [("f1", "points"), ("r2", "r2"), ("loss", "loss")])
def test_only_shares_are_told_in_points(metric: str, unit: str) -> None:
    """An r2 may lie between 0 and 1 by chance."""
    assert small(metric=metric).unit == unit
    assert small(metric=metric).point == (0.01 if unit == "points" else 1.0)


def test_one_run_is_told_as_one() -> None:
    """Numbers without intervals are not drawn as if they had one."""
    one = Candidate("trial 4", "best", 4, "a", None)
    found = told(confirmation([one], [Rerun("trial 4", 0, 3.5, 4.0)],
                              metric="mse", direction="minimize"))  # fmt: skip
    assert found.configurations[0].mean == Unsupported("needs 2 seeds, has 1")
    assert not found.noise
    assert not found.bought
    assert (found.unit, found.point) == ("mse", 1.0)


def test_no_run_at_all_is_said() -> None:
    """Also where every run diverged."""
    one = Candidate("trial 4", "best", 4, "a", 0.9)
    for reruns in ([], [Rerun("trial 4", 0, nan)]):
        assert not confirmation([one], reruns, metric="accuracy", direction="maximize")


def test_failed_and_raced_out_runs_are_told() -> None:
    """Of five and three seeds, one lost."""
    names = ("trial 1", "trial 2", "trial 3")
    candidates = [Candidate(name, "best", n, "a", 0.9) for n, name in enumerate(names)]
    values = {"trial 1": (0.9, 0.91, 0.92, 0.91, 0.9), "trial 2": (0.3, 0.31, nan)}
    values["trial 3"] = (0.3, 0.31, 0.33)
    reruns = [Rerun(n, seed, v) for n, known in values.items() for seed, v in enumerate(known)]
    found = told(confirmation(candidates, reruns, metric="accuracy", direction="maximize"))
    by_name: dict[str, Confirmed] = {c.candidate.name: c for c in found.configurations}
    assert (by_name["trial 2"].seeds, by_name["trial 2"].failed) == (2, 1)
    assert by_name["trial 3"].raced_out
    assert not by_name["trial 1"].raced_out


def test_the_way_from_the_default_to_the_best() -> None:
    """Each step's gain is over the one before; the last is the best itself, not run again."""
    candidates = [
        Candidate("trial 9", "best", 9, "a", 0.95),
        Candidate("default of a", "default", 0, "a", 0.8, is_default=True),
        Candidate("step 1", "step", None, "a", None, change="lr 0.1 → 0.01"),
        Candidate("step 2", "step", None, "a", None, change="wd 0 → 1", same_as="trial 9"),
    ]
    reruns = [
        *(Rerun("trial 9", seed, 0.90 + 0.01 * seed) for seed in range(3)),
        *(Rerun("default of a", seed, 0.80 + 0.01 * seed) for seed in range(3)),
        Rerun("step 1", 0, 0.85),
    ]
    found = told(confirmation(candidates, reruns, metric="accuracy", direction="maximize"))
    first, second = (step.gain for step in found.path)
    assert isinstance(first, Estimate)
    assert isinstance(second, Estimate)
    assert (first.value, second.value) == pytest.approx((0.05, 0.05))
    assert isinstance(found.noise, Noise)
    assert found.noise.spread.trials == 5  # degrees of freedom and one: nothing counts twice
    assert "step 2" not in [c.candidate.name for c in found.configurations]


def test_it_is_plain_data() -> None:
    """It can be written as JSON."""
    assert json.loads(json.dumps(asdict(small())))["winner"] == "trial 3"


@pytest.mark.parametrize(
    ("run", "trial", "count"),
    [
        ("float32", "bfloat16", 2),
        ("float32", "float32", 0),
        ("", "bfloat16", 0),
        ("float32", "", 0),
    ],
)
def test_runs_of_another_precision_are_counted(run: str, trial: str, count: int) -> None:
    """Only those that came to their end, and where both are known; the page and asdict tell it."""
    one = Candidate("trial 7", "best", 7, "a", 0.9, precision=trial)
    values = (0.8, 0.81, nan)
    reruns = [Rerun("trial 7", n, value, precision=run) for n, value in enumerate(values)]
    found = told(confirmation([one], reruns, metric="accuracy", direction="maximize"))
    assert found.in_other_precision == asdict(found)["in_other_precision"] == count
    assert ("2 runs computed in another precision" in says(found)) == (count > 0)
