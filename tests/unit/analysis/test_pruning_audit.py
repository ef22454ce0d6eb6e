"""The pruning audit, on studies whose pruner is known to be right, wrong or blind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from math import asin, nan, pi
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tunesvc.analysis.pruning_audit import PruningAudit, pruning_audit
from tunesvc.analysis.table import Direction, Estimate, Trials, Unsupported

STOPPED = "others were better after epoch 1 (pruner: asha)"


def study(
    curves: Sequence[Sequence[float]],
    epochs: int = 3,
    *,
    controls: dict[int, int | None] | None = None,
    direction: Direction = "maximize",
    pruner: str = "asha",
    **columns: Sequence[Any],
) -> Trials:
    """Return trials by their curves: those that are not whole were stopped by the pruner.

    Args:
        controls: number → the epoch at which the pruner would have stopped it, or None.
    """
    controls = controls or {}
    whole = [len(curve) == epochs for curve in curves]
    frame = pd.DataFrame(
        {
            "state": ["COMPLETE" if is_whole else "PRUNED" for is_whole in whole],
            "value": [
                c[-1] if is_whole else nan for c, is_whole in zip(curves, whole, strict=True)
            ],
            "epochs": [len(curve) for curve in curves],
            "reason": ["" if is_whole else STOPPED for is_whole in whole],
            "control": [number in controls for number in range(len(curves))],
            "stop_epoch": [controls.get(number) or nan for number in range(len(curves))],
            "epoch_seconds": [2.0] * len(curves),
        }
        | columns
    )
    told = {number: tuple(enumerate(curve, 1)) for number, curve in enumerate(curves)}
    return Trials(
        "s", "accuracy", direction, epochs, (), frame, told, ("net",), {}, "random", pruner
    )


def audit(trials: Trials) -> PruningAudit:
    found = pruning_audit(trials)
    assert isinstance(found, PruningAudit)
    json.dumps(dataclasses.asdict(found))
    return found


def number(found: Estimate | Unsupported) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


def latent(trials: int, rho: float, seed: int) -> list[list[float]]:
    """Return curves of two epochs whose values correlate by `rho` (Pearson's, both normal)."""
    rng = np.random.default_rng(seed)
    last, other = rng.normal(size=(2, trials))
    first = rho * last + np.sqrt(1 - rho**2) * other
    return np.stack([first, last], axis=1).tolist()  # type: ignore[no-any-return]


def halved(curves: list[list[float]], share: float, seed: int) -> Trials:
    """Return the study in which a pruner let the best third pass the first epoch, and controls."""
    rng = np.random.default_rng(seed)
    bar = np.quantile([curve[0] for curve in curves], 2 / 3)
    chosen = np.flatnonzero(rng.random(len(curves)) < share).tolist()
    stops = {n: 1 if curves[n][0] < bar else None for n in chosen}
    kept = [c if c[0] >= bar or n in stops else c[:1] for n, c in enumerate(curves)]
    return study(kept, 2, controls=stops)


# ---- what early values foretell -----------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_intervals_cover_the_truth_as_often_as_they_say(rho: float) -> None:
    """In 90 ± 5 % of 300 unpruned studies of 40 trials, for Spearman's and for Kendall's."""
    truth = {"spearman": 6 / pi * asin(rho / 2), "kendall": 2 / pi * asin(rho)}
    covered = dict.fromkeys(truth, 0)
    for seed in range(300):
        found = audit(study(latent(40, rho, seed), 2)).finished[0]
        for name, value in truth.items():
            estimate = number(getattr(found, name))
            covered[name] += estimate.low <= value <= estimate.high
    assert {name: 0.85 <= hits / 300 <= 0.95 for name, hits in covered.items()} == {
        "spearman": True,
        "kendall": True,
    }


def test_survivors_mislead_and_controls_do_not() -> None:
    """Among what a pruner has left, early values seem to tell less than they do."""
    truth = 6 / pi * asin(0.8 / 2)
    found = audit(halved(latent(4000, 0.8, 1), 0.05, 1))
    survivors = number(found.finished[0].spearman)
    assert survivors.high < truth
    assert "survivors" in found.bias
    assert not isinstance(found.controls, Unsupported)
    fair = number(found.controls[0].spearman)
    assert fair.low < truth < fair.high
    assert fair.trials == found.control_trials < survivors.trials
    assert found.finished[0].left_out == 4000 - survivors.trials
    assert found.controls[0].left_out == 0


def test_an_unpruned_study_has_no_bias() -> None:
    """Where nobody was stopped, finished trials are all trials."""
    found = audit(study(latent(30, 0.5, 0), 2, pruner="none"))
    assert found.bias == ""
    assert number(found.finished[0].kendall).trials == 30
    assert found.savings == Unsupported("the study has no pruner")


def test_the_order_of_better_and_worse_changes_nothing() -> None:
    """A loss whose curves are the accuracies' negatives gives the same audit."""
    up = halved(latent(300, 0.7, 3), 0.2, 3)
    curves = {n: tuple((e, -v) for e, v in curve) for n, curve in up.curves.items()}
    frame = up.frame.assign(value=-up.frame["value"])
    down = dataclasses.replace(up, direction="minimize", curves=curves, frame=frame)
    first, second = audit(up), audit(down)
    assert second.finished == first.finished
    assert (second.winners, second.regret, second.savings) == (
        first.winners,
        first.regret,
        first.savings,
    )
    assert [each.rank for each in second.spared] == [each.rank for each in first.spared]


# ---- whom it stops wrongly ----------------------------------------------------------------------

BY_HAND = [
    [0.5, 0.6, 0.70],
    [0.4, 0.5, 0.90],  # a control that would have been stopped, and ends best
    [0.6, 0.7, 0.85],
    [0.1, 0.1, 0.10],  # a control that was rightly to be stopped, after epoch 2
    [0.3],
    [0.2, 0.3],
    [0.5, 0.6, 0.80],  # a control that the pruner has nothing against
]


def test_a_winner_that_was_to_be_stopped() -> None:
    """Its rank, and what the study would have lost; the rightly stopped one beside it."""
    found = audit(study(BY_HAND, controls={1: 1, 3: 2, 6: None}))
    assert found.control_trials == 3
    best, worst = found.spared
    assert (best.trial, best.stop_epoch, best.value, best.rank) == (1, 1, 0.90, 1)
    assert (worst.trial, worst.stop_epoch, worst.value, worst.rank) == (3, 2, 0.10, 5)
    assert (best.behind, worst.behind) == (0.0, pytest.approx(0.80))
    assert found.regret == pytest.approx(0.05)  # 0.90 less 0.85
    assert isinstance(found.winners, Unsupported)
    assert "needs 5" in found.winners.why
    assert "has 2" in found.winners.why


def test_a_stopped_control_that_did_not_finish() -> None:
    """It is listed, last, and counts for nothing."""
    found = audit(study([*BY_HAND, [0.3, 0.4]], controls={3: 2, 7: 1}))
    assert [each.trial for each in found.spared] == [3, 7]
    assert found.spared[1].rank is None
    assert found.regret == 0.0


@pytest.mark.parametrize(("rho", "low", "high"), [(0.0, 0.06, 0.16), (0.999, 0.0, 0.01)])
def test_the_share_of_winners(rho: float, low: float, high: float) -> None:
    """A blind pruner stops winners as often as anybody, one that sees stops none."""
    curves = latent(6000, rho, 2)
    rng = np.random.default_rng(2)
    chosen = np.flatnonzero(rng.random(6000) < 0.1).tolist()
    bar = np.quantile([curve[0] for curve in curves], 2 / 3)
    stops = {n: 1 if curves[n][0] < bar else None for n in chosen}
    found = number(audit(study(curves, 2, controls=stops)).winners)  # nobody is left out
    assert low <= found.value <= high
    assert found.low <= min(0.1, found.value) <= found.high
    assert found.trials == len([stop for stop in stops.values() if stop])


# ---- what it saves ------------------------------------------------------------------------------


def test_savings() -> None:
    """Two and one epochs of three, at two seconds each; what the controls cost beside them."""
    found = audit(study(BY_HAND, controls={1: 1, 3: 2})).savings
    assert not isinstance(found, Unsupported)
    assert found.pruned == 2
    assert found.epochs == Estimate(3, 3, 3, 2, "epochs")
    assert found.share.value == 3 / (5 * 3 + 1 + 2 + 3)
    seconds = number(found.seconds)
    assert seconds.value == 6.0
    assert seconds.low < 6.0 < seconds.high
    assert found.audit_epochs == 2 + 1


def test_what_the_pruner_did_not_stop_saves_nothing() -> None:
    """A loss that is no number would have ended the trial anyway."""
    reasons = ["", "", "", "", "the loss is nan in epoch 2", STOPPED, ""]
    found = audit(study(BY_HAND, reason=reasons)).savings
    assert not isinstance(found, Unsupported)
    assert (found.pruned, found.epochs.value) == (1, 1)


def test_seconds_that_nobody_measured() -> None:
    """Epochs are counted all the same."""
    found = audit(study(BY_HAND, epoch_seconds=[nan] * 7)).savings
    assert not isinstance(found, Unsupported)
    assert found.epochs.value == 3
    assert isinstance(found.seconds, Unsupported)
    assert "has 0" in found.seconds.why
    without = study(BY_HAND)
    bare = dataclasses.replace(without, frame=without.frame.drop(columns="epoch_seconds"))
    assert not audit(bare).savings.seconds  # type: ignore[union-attr]


# ---- little or strange data ---------------------------------------------------------------------


@pytest.mark.parametrize("trials", [0, 1, 5])
def test_too_few_trials(trials: int) -> None:
    """No number is told, and it is said how many trials it would need."""
    found = pruning_audit(study(latent(trials, 0.5, 0), 2))
    if not trials:
        assert found == Unsupported("no trial has reported an epoch yet")
        return
    assert isinstance(found, PruningAudit)
    why = f"needs 10 finished trials with a value after epoch 1, has {trials}"
    assert found.finished[0].spearman == found.finished[0].kendall == Unsupported(why)
    assert found.controls == Unsupported("needs 10 control trials that have finished, has 0")
    assert isinstance(found.regret, Unsupported)
    assert found.savings == Unsupported("the pruner has stopped no trial")


def test_equal_values_have_no_order() -> None:
    """A correlation with what does not vary is not invented."""
    found = audit(study([[0.5, 0.5]] * 20, 2)).finished[0]
    assert isinstance(found.spearman, Unsupported)
    assert "equal" in found.spearman.why


def test_all_pruned() -> None:
    """Savings are told, correlations not."""
    found = audit(study([[0.1], [0.2], [0.3]], 4, controls={2: 1}))
    assert isinstance(found.finished[0].spearman, Unsupported)
    assert found.finished[0].left_out == 3
    assert not isinstance(found.savings, Unsupported)
    assert found.savings.epochs.value == 9
    assert isinstance(found.regret, Unsupported)


def test_only_epochs_with_values_count() -> None:
    """Where validation follows rungs only, and where a trial has failed, gaps are no values."""
    trials = study(latent(20, 0.5, 0), 2)
    curves = {n: curve[1:] if n < 5 else curve for n, curve in trials.curves.items()}
    frame = trials.frame.assign(value=trials.frame["value"].where(trials.frame.index != 19))
    found = audit(dataclasses.replace(trials, curves=curves, frame=frame)).finished[0]
    assert number(found.spearman).trials == 14
    assert found.left_out == 1


def test_perfect_agreement_of_few_trials_is_not_certain() -> None:
    """Ten trials in the same order leave room below 1."""
    found = number(audit(study([[n, n] for n in range(10)], 2)).finished[0].spearman)
    assert found.value == found.high == pytest.approx(1.0)
    assert 0.5 < found.low < 0.95
