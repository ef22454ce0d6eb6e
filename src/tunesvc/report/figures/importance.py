"""Importance of each knob, and of pairs of knobs, beside what noise alone would reach."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from tunesvc.analysis.importance import Importance, KnobShare, PairShare
from tunesvc.report import style, wording
from tunesvc.report.document import Table
from tunesvc.report.figures.bars import Rows

NOISE = "not distinguishable from noise"
MOST = 25  # rows in the picture


def figure(importance: Importance) -> go.Figure:
    """Draw a bar for each knob; those that do not clear the noise line are grey."""
    return _figure(importance.knobs[:MOST], style.BLUE)


def table(importance: Importance) -> Table:
    """Return each knob's share alone and with others, then those that could not be judged."""
    rows = [
        (
            named(each),
            *(each.share.value, each.share.low, each.share.high),
            each.total.value,
            each.noise_line,
            NOISE if each.is_noise else "matters",
            each.share.trials,
        )
        for each in importance.knobs
    ]
    unjudged = [
        (wording.in_branch(each.name, each.knob, each.branch), *(None,) * 5, each.why, each.trials)
        for each in importance.unjudged
    ]
    columns = ("knob", "share", "low", "high", "with interactions", "noise line", "reads", "trials")
    return Table(columns, (*rows, *unjudged))


def says(importance: Importance) -> str:
    """Tell the knobs that matter, how many do not, and how well the surface fits."""
    clear = [each for each in importance.knobs if not each.is_noise]
    told = [f"{named(each)} {wording.share_of(each.share)}" for each in clear[:3]]
    words = f"Of what varies, {wording.row(told)}." if told else "No knob clears the noise line."
    noise = len(importance.knobs) - len(clear)
    if noise:
        words += (
            f" {noise} of {wording.count(len(importance.knobs), 'knob')} {_are(noise)} {NOISE}."
        )
    fit = f"explains {wording.share(max(0.0, importance.explained.value))} of the differences"
    pruned = f" and {importance.pruned:,} pruned" if importance.pruned else ""
    return (
        f"{words} The fitted surface {fit} between trials it has not seen "
        f"({wording.count(importance.trials, 'finished trial')}{pruned})."
    )


def pair_figure(importance: Importance) -> go.Figure:
    """Draw a bar for each pair."""
    return _figure(importance.pairs[:MOST], style.PURPLE)


def pair_table(importance: Importance) -> Table:
    """Return each pair's share beyond what its two knobs do alone."""
    rows = tuple(
        (
            pair_named(each),
            *(each.share.value, each.share.low, each.share.high),
            each.noise_line,
            NOISE if each.is_noise else "matters",
            each.share.trials,
        )
        for each in importance.pairs
    )
    return Table(("pair", "share", "low", "high", "noise line", "reads", "trials"), rows)


def pair_says(importance: Importance) -> str:
    """Tell the pairs that have to be tuned together."""
    clear = [each for each in importance.pairs if not each.is_noise]
    if not clear:
        count = wording.count(importance.trials, "finished trial")
        return f"No pair could be told from noise with {count}."
    told = [f"{pair_named(each)} {wording.share_of(each.share)}" for each in clear[:3]]
    return f"To be tuned together: {wording.row(told)}."


def named(each: KnobShare) -> str:
    """Return a knob and its branch, as people read it."""
    return wording.in_branch(each.name, each.knob, each.branch)


def pair_named(each: PairShare) -> str:
    """Return a pair and its branch, as people read it."""
    pair = " × ".join(each.knobs)
    return f"{pair} ({each.branch})" if each.branch else pair


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _figure(found: Sequence[KnobShare] | Sequence[PairShare], colour: str) -> go.Figure:
    by_name = {
        named(each) if isinstance(each, KnobShare) else pair_named(each): each for each in found
    }
    rows = Rows(list(by_name), scale=100)
    colours = [style.GREY if each.is_noise else colour for each in found]
    rows.bars({name: each.share for name, each in by_name.items()}, colours)
    rows.strokes({name: each.noise_line for name, each in by_name.items()}, "noise line")
    return rows.figure("share of variance, %", rangemode="tozero")
