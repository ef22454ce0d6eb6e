"""Studies side by side, with importances that are written down by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from tables import table

from tunesvc.analysis.across import Across, Concordance, across
from tunesvc.analysis.importance import Importance, KnobShare
from tunesvc.analysis.table import Dimension, Estimate, Trials, Unsupported

NONE: Trials = table([])


def shares(**known: Any) -> Importance:
    """Of each knob its share, (share, is_noise, trials), or a list of these by branch."""
    knobs = []
    for name, told in known.items():
        branches = told if isinstance(told, list) else [told]
        for place, each in enumerate(branches):
            share, is_noise, trials = each if isinstance(each, tuple) else (each, False, 50)
            estimate = Estimate(share, share, share, trials, "share")
            label = f"b{place}" if len(branches) > 1 else ""
            knobs.append(KnobShare(name, name, label, estimate, estimate, 0.05, is_noise))
    sure = Estimate(0.9, 0.9, 0.9, 50, "share")
    return Importance(tuple(knobs), (), (), 0.05, sure, 50, 0, "by hand")


def noise(share: float) -> tuple[float, bool, int]:
    return share, True, 50


def beside(*importances: Importance | Unsupported) -> Across:
    found = across([NONE] * len(importances), importances)
    assert isinstance(found, Across), found
    return found


def test_what_matters_everywhere_somewhere_and_never() -> None:
    """By the noise line of each study; the largest mean share first."""
    found = beside(
        shares(lr=0.5, strategy=0.3, dropout=noise(0.01), mixup=noise(0.02), warmup=0.1),
        shares(lr=0.7, strategy=noise(0.04), dropout=noise(0.03), layer_decay=0.2),
    )
    verdicts = {knob.knob: knob.verdict for knob in found.knobs}
    assert verdicts == {
        "lr": "everywhere",
        "strategy": "somewhere",
        "dropout": "never",
        "mixup": "unjudged",
        "warmup": "unjudged",
        "layer_decay": "unjudged",
    }
    first = found.knobs[0]
    assert (first.knob, first.shares, first.judged, first.clear) == ("lr", (0.5, 0.7), 2, 2)
    assert first.mean == pytest.approx(0.6)
    assert {k.knob: k.shares for k in found.knobs}["mixup"] == (0.02, None)
    json.dumps(asdict(found))


def test_branches_count_by_their_trials() -> None:
    """A knob matters in a study where it does so in one branch."""
    found = beside(
        shares(lr=[(0.6, False, 30), (0.2, True, 10)]),
        shares(lr=[(0.1, True, 20), (0.3, True, 20)]),
    )
    (lr,) = found.knobs
    assert lr.shares == (pytest.approx(0.5), pytest.approx(0.2))
    assert (lr.clear, lr.verdict) == (1, "somewhere")


def test_studies_that_rank_alike_are_concordant() -> None:
    """W is 1 where the order is the same, 0 where it is reversed; only common knobs count."""
    alike = beside(
        shares(a=0.5, b=0.3, c=0.2, d=0.1, e=0.05, f=0.01, x=0.9),
        shares(a=0.9, b=0.05, c=0.04, d=0.03, e=0.02, f=0.01),
        shares(a=0.4, b=0.35, c=0.2, d=0.1, e=0.05, f=0.01),
    ).concordance
    assert isinstance(alike, Concordance)
    assert alike.w == pytest.approx(1)
    assert alike.p < 0.001
    assert alike.knobs == ("a", "b", "c", "d", "e", "f")
    reverse = beside(shares(a=0.5, b=0.3, c=0.2), shares(a=0.2, b=0.3, c=0.5)).concordance
    assert isinstance(reverse, Concordance)
    assert (reverse.w, reverse.p) == (0, 1)


def test_w_is_the_textbook_s() -> None:
    """Siegel 1956, "Nonparametric Statistics", chapter 9: three judges of six, W = 0.16."""
    names = "abcdef"
    ranks = [(1, 6, 3, 2, 5, 4), (1, 5, 6, 4, 2, 3), (6, 3, 2, 5, 4, 1)]
    judges = [shares(**{n: 1 - r / 10 for n, r in zip(names, own, strict=True)}) for own in ranks]
    found = beside(*judges).concordance
    assert isinstance(found, Concordance)
    assert found.w == pytest.approx(0.162, abs=0.001)
    assert found.p > 0.5


def test_ties_are_allowed_for() -> None:
    """Of two that agree but for ties, W stays at 1 where both have the same ties."""
    tied = shares(a=0.5, b=0.2, c=0.2, d=0.1)
    found = beside(tied, tied).concordance
    assert isinstance(found, Concordance)
    assert found.w == pytest.approx(1)
    equal = shares(a=0.2, b=0.2, c=0.2)
    flat = beside(equal, equal).concordance
    assert isinstance(flat, Concordance)
    assert flat.w == 0


@pytest.mark.parametrize("count", [0, 1])
def test_one_study_is_beside_nothing(count: int) -> None:
    """Two at least."""
    assert across([NONE] * count, [shares(lr=1.0)] * count) == Unsupported(
        f"needs 2 studies, has {count}"
    )


def test_a_study_of_unknown_importance_is_named() -> None:
    """What is left decides nothing alone."""
    found = beside(shares(lr=0.5), Unsupported("needs 20 trials, has 5"))
    assert found.left_out == (("study", "needs 20 trials, has 5"),)
    assert [knob.verdict for knob in found.knobs] == ["unjudged"]
    assert found.concordance == Unsupported("needs 2 studies whose importance is known, has 1")
    assert isinstance(found.priors, Unsupported)
    assert found.fragment == ""
    few = beside(shares(lr=0.5, dropout=0.1), shares(lr=0.5, mixup=0.1))
    assert few.concordance == Unsupported("needs 3 knobs that all studies judge, has 1")
    nothing = beside(Unsupported("a"), Unsupported("b"))
    assert nothing.knobs == ()


def test_priors_and_their_piece_come_with_it() -> None:
    """What never rises above the noise is not searched again."""
    lr = Dimension("lr", "lr", "float", 1e-5, 1e-1, log=True)
    warmup = Dimension("warmup", "warmup", "float", 0.0, 0.5)
    rng = np.random.default_rng(0)

    def study() -> Trials:
        rows = [
            {"param:lr": 10**-u, "param:warmup": w / 2, "value": -abs(u - 3)}
            for u, w in zip(rng.uniform(1, 5, 100), rng.random(100), strict=True)
        ]
        return table(rows, space=(lr, warmup))

    told = shares(lr=0.9, warmup=noise(0.01))
    found = across([study(), study()], [told, told])
    assert isinstance(found, Across)
    assert not isinstance(found.priors, Unsupported)
    assert [prior.name for prior in found.priors] == ["lr", "warmup"]
    searched, _, defaults = found.fragment.partition("defaults:")
    assert "lr" in searched
    assert "warmup" not in searched.partition("search_space:")[2]
    assert "warmup: 0." in defaults
    json.dumps(asdict(found))
