"""Several studies side by side: which knobs matter everywhere, which never do, what to try next.

    m, k    studies, knobs that all of them judge
    W       Kendall's coefficient of concordance: 1, all rank the knobs alike; 0, at random

Source: Kendall & Babington Smith 1939, "The Problem of m Rankings"; with ties: Siegel & Castellan
1988, section 9.3.

A knob that is drawn in several branches of a study counts with the mean of its shares there, each
of the variance in its own branch, weighted by the branch's trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tunesvc.analysis.fragment import fragment
from tunesvc.analysis.importance import Importance, KnobShare
from tunesvc.analysis.priors import Prior, priors
from tunesvc.analysis.table import Trials, Unsupported

Verdict = Literal["everywhere", "somewhere", "never", "unjudged"]

_PERMUTATIONS = 5000
_FEWEST_KNOBS = 3


@dataclass(frozen=True)
class KnobAcross:
    """One knob in all studies.

    Args:
        shares: main effect, share of variance, in the order of the studies; None where a study
            does not search it or cannot judge it.
        mean: of the shares.
        judged: studies with a share; clear: those in which it rises above the noise line.
        verdict: "everywhere" or "never" where it does so in all or none of two studies or more;
            "unjudged" below two studies.
    """

    knob: str
    shares: tuple[float | None, ...]
    mean: float
    judged: int
    clear: int
    verdict: Verdict


@dataclass(frozen=True)
class Concordance:
    """How far studies agree on the order of the knobs.

    Args:
        w: Kendall's W, between 0 and 1.
        p: share of random orders with a W as large.
        knobs: that all studies judge, in the order of their mean rank.
    """

    w: float
    p: float
    studies: int
    knobs: tuple[str, ...]


@dataclass(frozen=True)
class Across:
    """Several studies side by side.

    Args:
        studies: their names.
        left_out: (study, why) of those whose importance is not known.
        knobs: the largest mean share first.
        fragment: the priors as `search_space` and `defaults` of a study file; "" without priors.
    """

    studies: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    knobs: tuple[KnobAcross, ...]
    concordance: Concordance | Unsupported
    priors: tuple[Prior, ...] | Unsupported
    fragment: str


def across(
    studies: Sequence[Trials], importances: Sequence[Importance | Unsupported]
) -> Across | Unsupported:
    """Return what several studies have in common.

    Args:
        importances: of each study, in the same order.
    """
    if len(studies) < 2:
        return Unsupported(f"needs 2 studies, has {len(studies)}")
    pairs = list(zip(studies, importances, strict=True))
    columns = [{} if isinstance(each, Unsupported) else _by_knob(each) for each in importances]
    knobs = _knobs(columns)
    never = {knob.knob for knob in knobs if knob.verdict == "never"}
    found = priors(studies)
    return Across(
        studies=tuple(trials.study for trials in studies),
        left_out=tuple((t.study, i.why) for t, i in pairs if isinstance(i, Unsupported)),
        knobs=knobs,
        concordance=_concordance([column for column in columns if column]),
        priors=found,
        fragment="" if isinstance(found, Unsupported) else fragment(found, never),
    )


Array = NDArray[np.float64]
Column = Mapping[str, tuple[float, bool]]  # knob → share, whether it rises above the noise


def _by_knob(found: Importance) -> dict[str, tuple[float, bool]]:
    parts: dict[str, list[KnobShare]] = {}
    for each in found.knobs:
        parts.setdefault(each.knob, []).append(each)
    return {
        knob: (
            float(np.average([s.share.value for s in own], weights=[s.share.trials for s in own])),
            not all(share.is_noise for share in own),
        )
        for knob, own in parts.items()
    }


def _knobs(columns: Sequence[Column]) -> tuple[KnobAcross, ...]:
    names = dict.fromkeys(knob for column in columns for knob in column)
    found = (_knob(name, [column.get(name) for column in columns]) for name in names)
    return tuple(sorted(found, key=lambda knob: -knob.mean))


def _knob(name: str, entries: Sequence[tuple[float, bool] | None]) -> KnobAcross:
    known = [entry for entry in entries if entry is not None]
    clear = sum(is_clear for _, is_clear in known)
    verdict: Verdict = "somewhere"
    if len(known) < 2:
        verdict = "unjudged"
    elif clear in (0, len(known)):
        verdict = "everywhere" if clear else "never"
    shares = tuple(None if entry is None else entry[0] for entry in entries)
    mean = float(np.mean([share for share, _ in known]))
    return KnobAcross(name, shares, mean, len(known), clear, verdict)


def _concordance(columns: Sequence[Column]) -> Concordance | Unsupported:
    """Return how far the studies agree, on the knobs that all of them judge."""
    if len(columns) < 2:
        return Unsupported(f"needs 2 studies whose importance is known, has {len(columns)}")
    common = [knob for knob in columns[0] if all(knob in column for column in columns)]
    if len(common) < _FEWEST_KNOBS:
        return Unsupported(f"needs {_FEWEST_KNOBS} knobs that all studies judge, has {len(common)}")
    ranks = np.array([rankdata([-column[knob][0] for knob in common]) for column in columns])
    drawn = np.random.default_rng(0).permuted(np.tile(ranks, (_PERMUTATIONS, 1, 1)), axis=2)
    spread, chance = _spread(ranks[None])[0], _spread(drawn)
    p = (1 + float((chance >= spread - 1e-9).sum())) / (1 + _PERMUTATIONS)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    return Concordance(
        float(spread) / most if (most := _most(ranks)) else 0.0,
        p,
        len(columns),
        tuple(common[place] for place in order),
    )


def _spread(ranks: Array) -> Array:
    """Return how far the sums of ranks (n, m, k) are apart, (n,)."""
    sums = ranks.sum(axis=1)
    found: Array = ((sums - sums.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return found


def _most(ranks: Array) -> float:
    """Return the spread of studies that agree, their ranks (m, k) being tied as they are."""
    m, k = ranks.shape
    counts = [np.unique(own, return_counts=True)[1] for own in ranks]
    ties = sum(float((count**3 - count).sum()) for count in counts)
    return float(m**2 * (k**3 - k) - m * ties) / 12
