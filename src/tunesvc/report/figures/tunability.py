"""What tuning buys over the defaults: of each backbone, of each knob, and step by step."""

from __future__ import annotations

import plotly.graph_objects as go

from tunesvc.analysis.ablation import AblationPath, Flip
from tunesvc.analysis.table import Estimate, Trials
from tunesvc.analysis.tunability import BackboneGain, KnobGain, Tunability
from tunesvc.report import style, wording
from tunesvc.report.document import Item, Table
from tunesvc.report.figures.bars import Rows, interval


def figure(found: Tunability, trials: Trials) -> go.Figure:
    """Draw the gain of each backbone: as the surface has it, and as it was observed."""
    rows = Rows([each.backbone for each in found.backbones], scale=wording.scale(trials))
    estimated = {each.backbone: each.estimated for each in found.backbones}
    seen = {each.backbone: each.observed for each in found.backbones}
    known = {name: each for name, each in estimated.items() if isinstance(each, Estimate)}
    rows.dots(known, "estimated", 0)
    rows.points({name: each for name, each in seen.items() if each is not None}, "observed", 1)
    return rows.figure(f"gain over the default, {wording.unit(trials)}")


def table(found: Tunability) -> Table:
    """Return what tuning bought each backbone."""
    rows = tuple(
        (
            *(each.backbone, each.default_observed, each.best_observed, each.observed),
            *interval(each.estimated),
            _settings(each),
            each.trials,
        )
        for each in found.backbones
    )
    columns = ("backbone", "default", "best", "gain observed", "gain estimated", "low", "high")
    return Table((*columns, "best configuration on the surface", "trials"), rows)


def says(found: Tunability, trials: Trials) -> str:
    """Tell the most and the least tunable backbone."""
    known = [each for each in found.backbones if gain(each) is not None]
    if not known:
        return "No backbone has both its default and another finished trial."
    words = [f"{each.backbone} {_gain(each, trials)}" for each in known]
    if len(words) > 4:
        words = [*words[:2], *words[-2:]]
        return f"Tuning buys most for {wording.row(words[:2])}, least for {wording.row(words[2:])}."
    return f"Tuning buys over the defaults: {wording.row(words)}."


def gain(each: BackboneGain) -> Estimate | float | None:
    """Return the estimated gain of a backbone, else the observed one."""
    return each.estimated if isinstance(each.estimated, Estimate) else each.observed


def knob_figure(found: Tunability, trials: Trials) -> go.Figure:
    """Draw, for the best backbone, what each knob buys alone and what leaving it loses."""
    knobs = {_knob(each): each for each in best(found).knobs}
    rows = Rows(list(knobs), scale=wording.scale(trials))
    alone = {name: each.alone for name, each in knobs.items() if each.alone}
    rows.bars(alone, [style.BLUE] * len(alone), "bought by tuning it alone")
    left = {name: each.left for name, each in knobs.items() if each.left}
    rows.dots(left, "lost by leaving it", 1)
    return rows.figure(wording.unit(trials))


def knob_table(found: Tunability) -> Table:
    """Return what each knob buys, for every backbone."""
    rows = tuple(
        (
            *(backbone.backbone, _knob(each), wording.setting(each.default)),
            *(wording.setting(each.alone_at), *interval(each.alone)),
            *interval(each.left),
        )
        for backbone in found.backbones
        for each in backbone.knobs
    )
    columns = ("backbone", "knob", "default", "alone best at", "bought alone", "low", "high")
    return Table((*columns, "lost if left", "left low", "left high"), rows)


def knob_says(found: Tunability, trials: Trials) -> str:
    """Tell the knob that buys most alone, for the best backbone."""
    top = best(found)
    first = top.knobs[0]
    if first.alone is None or first.alone.value <= 0:
        return f"For {top.backbone}, tuning a single knob buys nothing over the default."
    told = wording.difference(first.alone.value, trials)
    span = wording.between(first.alone.low, first.alone.high, trials)
    return (
        f"For {top.backbone}, tuning only {_knob(first)} buys most: {told} ({span}), at "
        f"{wording.setting(first.alone_at)} in place of {wording.setting(first.default)}."
    )


def best(found: Tunability) -> BackboneGain:
    """Return the backbone that gains most; the picture is of it."""
    return next(each for each in found.backbones if each.knobs)


def path_figure(path: AblationPath, trials: Trials) -> go.Figure:
    """Draw the values on the way from the default to the best configuration."""
    value = path.start_value.value
    values, measured = {"default": value}, {"default": path.start_measured}
    for step, flip in enumerate(path.flips, 1):
        name = f"{step}. {wording.row(map(wording.knob, flip.knobs))}"
        value += trials.sign * flip.gain.value
        values[name], measured[name] = value, flip.measured
    rows = Rows(list(values))
    rows.path(values, "predicted")
    rows.dots({name: each for name, each in measured.items() if each}, "measured", 1)
    return rows.figure(trials.metric)


def path_table(path: AblationPath, trials: Trials) -> Table:
    """Return each step with its predicted value and gain, and what a real run measured."""
    value = path.start_value.value
    none = (None, None, None)
    rows: list[tuple[Item, ...]] = [
        ("default", "untuned", value, *none, *interval(path.start_measured))
    ]
    for flip in path.flips:
        value += trials.sign * flip.gain.value
        name = wording.row(map(wording.knob, flip.knobs))
        gained = interval(flip.gain)
        rows.append((name, _change(flip), value, *gained, *interval(flip.measured)))
    columns = ("step", "change", "predicted", "gain", "gain, low", "gain, high")
    return Table((*columns, "measured", "measured, low", "measured, high"), tuple(rows))


def path_says(path: AblationPath, trials: Trials) -> str:
    """Tell how few steps bring most of the gain."""
    if not path.flips:
        return f"{path.backbone}'s default is its best configuration: there is no step."
    gains = [max(0.0, flip.gain.value) for flip in path.flips]
    if not sum(gains):
        return f"No step from {path.backbone}'s default is predicted to gain anything."
    first = path.flips[0]
    words = (
        f"From {path.backbone}'s default, changing {wording.row(map(wording.knob, first.knobs))} "
        f"({_change(first)}) is predicted to bring {wording.difference(gains[0], trials)} of "
        f"{wording.difference(sum(gains), trials)}."
    )
    idle = sum(flip.idle for flip in path.flips)
    return words + (f" {wording.count(idle, 'step')} bring next to nothing." if idle else "")


def _gain(each: BackboneGain, trials: Trials) -> str:
    if isinstance(each.estimated, Estimate):
        told = wording.difference(each.estimated.value, trials)
        return f"{told} ({wording.between(each.estimated.low, each.estimated.high, trials)})"
    return f"{wording.difference(each.observed or 0.0, trials)} as observed"


def _knob(each: KnobGain) -> str:
    return wording.knob(each.names[0]) if len(each.names) == 1 else each.knob


def _settings(each: BackboneGain) -> str:
    return ", ".join(
        f"{wording.knob(name)} {wording.setting(value)}" for name, value in each.best.items()
    )


def _change(flip: Flip) -> str:
    names = [*flip.after, *(name for name in flip.before if name not in flip.after)]
    return ", ".join(
        f"{wording.knob(name)} {wording.setting(flip.before.get(name))} → "
        f"{wording.setting(flip.after.get(name))}"
        for name in names
    )
