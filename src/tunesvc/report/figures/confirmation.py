"""Confirmation: the best configurations run again with new seeds, and scored on the test split."""

from __future__ import annotations

import plotly.graph_objects as go

from tunesvc.analysis.confirmation import Comparison, Confirmation, Confirmed
from tunesvc.analysis.race import ALPHA
from tunesvc.analysis.table import Estimate
from tunesvc.report import style, wording
from tunesvc.report.document import Table
from tunesvc.report.figures.bars import Rows, interval

_SPLITS = {"mean": "validation", "test": "test"}


def figure(found: Confirmation) -> go.Figure:
    """Draw what selection promised, and the means over seeds on validation and test."""
    known = {each.candidate.name: each for each in found.configurations}
    rows = Rows(list(known), apart=True)
    promised = {name: each.candidate.promised for name, each in known.items()}
    told = {name: value for name, value in promised.items() if value is not None}
    rows.strokes(told, "promised", style.GREY)
    for place, (field, label) in enumerate(_SPLITS.items()):
        means = {name: getattr(each, field) for name, each in known.items()}
        sure = {name: mean for name, mean in means.items() if isinstance(mean, Estimate)}
        rows.dots(sure, f"{label}, mean over seeds", place)
    return rows.figure(found.metric)


def table(found: Confirmation) -> Table:
    """Return each configuration that was run again."""
    columns = ("configuration", "backbone", "promised", "mean", "low", "high", "spread over seeds")
    more = ("test", "test low", "test high", "seeds", "failed", "raced out")
    return Table((*columns, *more), tuple(_row(each) for each in found.configurations))


def says(found: Confirmation) -> str:
    """Tell the winner, how sure it is, and what selection had promised too much."""
    if not found.winner:
        return "Nothing could be confirmed."
    best = taken(found)
    words = [_first(found)]
    if best is not None and isinstance(best.gap, Estimate):
        words.append(curse(best.gap, best, found))
    if isinstance(found.bought_test, Comparison):
        test = found.bought_test
        words.append(f"on the test split {test.first} is {compared(test, found)}")
    if found.in_other_precision:
        words.append(caution(found))
    return " ".join(map(wording.sentence, words))


def taken(found: Confirmation) -> Confirmed | None:
    """Return what is to be taken; None where no mean is known yet.

    That is the winner, but for a default that is surely better than it: the winner is then only the
    best of what was tuned.
    """
    known = {each.candidate.name: each for each in found.configurations}
    best = known.get(found.winner)
    if best is None or not isinstance(best.mean, Estimate):
        return None
    bought = found.bought
    if isinstance(bought, Comparison) and bought.difference.high < 0:
        return known.get(bought.second, best)
    return best


def is_surely_best(found: Confirmation) -> bool:
    """Whether each other configuration, defaults too, is told to be worse than the winner.

    It is if the race sent it away; or if the paired difference to the winner excludes 0, at `ALPHA`
    as in the race; or, where no difference is known, if the two intervals of the means lie apart.
    Each has to be, so the level of the whole is no larger than that of one.
    """
    others = [each for each in found.configurations if each.candidate.name != found.winner]
    best = next((each for each in found.configurations if each not in others), None)
    return best is not None and all(_is_worse(each, best, found) for each in others)


def untuned(each: Confirmed) -> str:
    """Return what a default is called in a sentence."""
    return f"the untuned configuration of {each.candidate.backbone}"


def curse(gap: Estimate, of: Confirmed, found: Confirmation) -> str:
    """Return what the search had promised too much, or too little, for one configuration."""
    side = "too much" if gap.value >= 0 else "too little"
    told = f"{_amount(abs(gap.value), found)} {side}"
    return f"the search had promised {told} for {of.candidate.name}"


def caution(found: Confirmation) -> str:
    """Return what else than the seed was different in some runs."""
    runs = wording.count(found.in_other_precision, "run")
    return (
        f"{runs} computed in another precision than the search's trial: what was promised too much "
        "or too little may be due to that"
    )


def compared(comparison: Comparison, found: Confirmation) -> str:
    """Return "2.1 points better than trial 7 (0.9 to 3.3; p = 0.004, 5 seeds)"."""
    value = comparison.difference.value
    told = f"{_amount(abs(value), found)} {'better' if value >= 0 else 'worse'}"
    p = "p < 0.001" if comparison.p < 0.001 else f"p = {comparison.p:.2g}"
    seeds = wording.count(comparison.seeds, "seed")
    ends = _ends(comparison.difference, found)
    return f"{told} than {comparison.second} ({ends}; {p}, {seeds})"


def _first(found: Confirmation) -> str:
    best = taken(found)
    words, rival = f"{found.winner} has the best mean", found.against_runner_up
    if best is not None and best.candidate.is_default:
        words = f"nothing that was tried is better than {untuned(best)}"
        rival = rival if best.candidate.name == found.winner else found.bought
    if not isinstance(rival, Comparison):
        return words
    subject = rival.first if best is None or rival.first != best.candidate.name else "it"
    return f"{words}: {subject} is {compared(rival, found)}"


def _is_worse(each: Confirmed, best: Confirmed, found: Confirmation) -> bool:
    if each.raced_out:
        return True
    known = (found.against_runner_up, found.bought)
    for told in known:
        if isinstance(told, Comparison) and told.second == each.candidate.name:
            return told.difference.value > 0 and told.p < ALPHA
    if not isinstance(each.mean, Estimate) or not isinstance(best.mean, Estimate):
        return False
    if found.direction == "minimize":
        return best.mean.high < each.mean.low
    return each.mean.high < best.mean.low


def _row(each: Confirmed) -> tuple[str | float | int | bool | None, ...]:
    return (
        *(each.candidate.name, each.candidate.backbone, each.candidate.promised),
        *(*interval(each.mean), each.spread, *interval(each.test)),
        *(each.seeds, each.failed, each.raced_out),
    )


def _amount(value: float, found: Confirmation) -> str:
    if found.unit != "points":
        return f"{value:.3g} {found.metric}"
    told = f"{value / found.point:.1f}"
    return f"{told} point{'' if told == '1.0' else 's'}"


def _ends(estimate: Estimate, found: Confirmation) -> str:
    form = ".1f" if found.unit == "points" else ".3g"
    low, high = (f"{end / found.point:z{form}}" for end in (estimate.low, estimate.high))
    return f"{low} to {high}".replace("-", "−")
