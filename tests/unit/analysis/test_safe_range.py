"""Safe ranges on a surface known by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from json import dumps
from typing import Any

import numpy as np
import pytest
from known_surface import (
    DEFAULTS,
    SEEDS,
    accuracy,
    fitted,
    known_study,
    known_surface,
    share_held,
    with_states,
)
from made_trials import made

from tunesvc.analysis import surrogate
from tunesvc.analysis.safe_range import SafeRange, safe_ranges
from tunesvc.analysis.table import Estimate, Unsupported
from tunesvc.analysis.tunability import tunability

STUDY = known_study()
NEAR = DEFAULTS["near"]  # the top of the surface: full, lr 1e-3, layer decay 1, batches of 32
GRID = 10 ** (4 / 100)  # the grid of lr@full steps over four orders of magnitude


def ranges(
    surface: Callable[[Any], float] = accuracy, points: float = 1.0, **study: Any
) -> dict[str, SafeRange]:
    """Return the safe ranges of `near` by parameter."""
    trials = known_study(surface=surface, **study)
    found = safe_ranges(trials, known_surface(trials, surface), points)
    return {safe.name: safe for safe in found if safe.backbone == "near"}


@pytest.mark.parametrize(("points", "reach"), [(1.0, 0.5**0.5), (2.0, 1.0), (5.0, 2.5**0.5)])
def test_the_range_is_where_the_cost_stays_below_epsilon(points: float, reach: float) -> None:
    """0.02 for each squared order of magnitude of lr: the ends follow, never beyond the truth."""
    safe = ranges(points=points)["lr@full"]
    assert 1 <= safe.low.value / 10 ** (-3 - reach) < GRID * 1.001
    assert 1 / GRID / 1.001 < safe.high.value / 10 ** (-3 + reach) <= 1.001
    assert (safe.at, safe.whole, safe.epsilon) == (1e-3, False, points / 100)
    assert (safe.knob, safe.branch, safe.safe) == ("lr", "full", ())


def test_a_range_may_end_where_the_search_ended() -> None:
    """Layer decay is best at its upper end; below, each tenth costs 0.008."""
    safe = ranges()["layer_decay"]
    assert safe.high.value == safe.at == 1.0
    assert safe.low.value == pytest.approx(1 - 0.01 / 0.08, abs=0.0051)


def test_a_knob_without_effect_is_safe_everywhere() -> None:
    """All that was searched is, and it is said."""
    safe = ranges()["null"]
    assert (safe.low.value, safe.high.value, safe.whole) == (0.0, 1.0, True)


def test_choices_are_safe_or_not() -> None:
    """Batches of 64 cost half a point, of 16 three; a probe costs more than 20."""
    found = ranges()
    assert found["batch_size"].safe == (32, 64)
    assert found["batch_size"].low is found["batch_size"].high is None
    assert found["strategy"].safe == ("full",)
    assert ranges(points=5.0)["batch_size"].whole


def test_what_lies_behind_a_gap_is_not_safe() -> None:
    """A second optimum is no slack: the range is the connected one."""

    def gap(row: Any) -> float:
        return 0.8 if 0.2 < row["null"] < 0.3 else 0.9 + 0.005 * (row["null"] == 0.605)

    study = known_study([{**NEAR, "null": 0.605}], surface=gap, count=0)
    safe = next(s for s in safe_ranges(study, known_surface(study, gap)) if s.name == "null")
    assert safe.at == 0.605
    assert safe.low.value == pytest.approx(0.3)
    assert safe.high.value == 1.0


def test_a_better_value_is_safe() -> None:
    """The best was tried; that the surface is higher elsewhere costs nothing."""

    def rising(row: Any) -> float:
        return 0.5 + 0.1 * row["null"]

    study = known_study(surface=rising, count=0)
    safe = next(s for s in safe_ranges(study, known_surface(study, rising)) if s.name == "null")
    assert (safe.at, safe.high.value) == (0.5, 1.0)
    assert safe.low.value == pytest.approx(0.4, abs=0.011)


def test_a_loss_has_the_same_ranges() -> None:
    """A point is then a twentieth of the interquartile range, and ε says what that is."""

    def loss(row: Any) -> float:
        return 1 - accuracy(row)

    safe = ranges(loss, direction="minimize")["lr@full"]
    reach = (safe.epsilon / 0.02) ** 0.5
    assert 1 <= safe.low.value / 10 ** (-3 - reach) < GRID * 1.001
    assert safe.epsilon != 0.01


def test_the_ends_have_intervals() -> None:
    """Where draws disagree on the slope, they disagree on how far is safe."""
    surface = replace(
        known_surface(STUDY),
        leverage=lambda row: 0.0 if row["layer_decay"] is None else 4 * (1 - row["layer_decay"]),
    )
    found = [s for s in safe_ranges(STUDY, surface) if s.backbone == "near"]
    low = next(safe.low for safe in found if safe.name == "layer_decay")
    assert low.low < low.value < low.high <= 1.0
    sure = next(safe.low for safe in found if safe.name == "lr@full")
    assert sure.low == sure.value == sure.high


def test_each_backbone_has_its_own() -> None:
    """Around its own best configuration, with the parameters that exist there."""
    found = safe_ranges(STUDY, known_surface(STUDY))
    assert {safe.backbone for safe in found} == {"near", "far"}
    assert "backbone" not in {safe.name for safe in found}
    assert all(
        safe.trials == 0 or safe.low is None or safe.low.trials == safe.trials for safe in found
    )


def test_what_has_no_safe_range() -> None:
    """Without a surface there is none; nor for a loss that never changes; nor without trials."""
    why = Unsupported("needs 20 finished trials, has 5")
    assert safe_ranges(STUDY, why) is why
    flat = known_study(surface=lambda _: 3.0, direction="minimize")
    assert not safe_ranges(flat, known_surface(flat, lambda _: 3.0))
    pruned = with_states(STUDY, "PRUNED")
    assert not safe_ranges(pruned, known_surface(pruned))


def test_ranges_are_plain_data() -> None:
    """They can be written as JSON."""
    assert dumps([asdict(safe) for safe in safe_ranges(STUDY, known_surface(STUDY))])


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("spread", [0.001, 0.004])
def test_where_everything_diverged_is_not_safe(epochs: int, spread: float) -> None:
    """Nothing but divergence above 1e-2, early or late, and no other knob of any effect."""
    trials = made(60, pruned=0.0)
    hot = trials.frame["param:lr"] > 1e-2
    assert hot.sum() > 12
    values = 0.9 + np.random.default_rng(1).normal(0, spread, 60)
    frame = trials.frame.assign(value=values, last=values)
    frame.loc[hot, ["state", "reason"]] = ["PRUNED", "diverged in epoch 3: the train loss is inf"]
    frame.loc[hot, "value"] = np.nan
    frame.loc[hot, "last"] = 0.89 if epochs else np.nan
    frame.loc[hot, "epochs"] = epochs
    study = replace(trials, frame=frame)
    found = safe_ranges(study, surrogate.fit(study))
    assert not isinstance(found, Unsupported)
    rates = [safe for safe in found if safe.name == "lr"]
    assert len(rates) == 3
    for safe in rates:
        assert not safe.whole
        assert isinstance(safe.high, Estimate)
        assert safe.high.value < 0.03
        assert safe.high.low <= 0.012


def test_ends_hold_the_truth() -> None:
    """Of noisy studies: nine in ten or more; what all draws call safe costs at most a point."""
    told, costs = [], []
    for seed in SEEDS:
        trials, surface, truth = fitted(seed)
        best = {g.backbone: g.best for g in tunability(trials, surface).backbones}
        pairs = zip(safe_ranges(trials, surface), safe_ranges(trials, truth), strict=True)
        for found, real in pairs:
            if found.low:
                told += [(found.low, real.low), (found.high, real.high)]
                there = best[found.backbone]
                costs += [
                    accuracy(there) - accuracy({**there, found.name: end})
                    for end in (found.low.high, found.high.low)
                ]
    assert len(told) > 40
    assert share_held(told) >= 0.87
    assert np.mean(np.array(costs) <= 0.01) >= 0.95
