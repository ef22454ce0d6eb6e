"""A report's picture as a PNG, for where images alone are shown: optuna-dashboard's artifacts.

Why: 2026-11: plotly makes images only with a browser at hand, which servers have none of. So what
our figures consist of is drawn again by matplotlib: see `strokes`. On white, as a page prints.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from math import ceil
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from tunesvc.report import strokes
from tunesvc.report.strokes import Panel, numbers, words

_WIDTH, _DPI, _PIXELS = 9.0, 110, 90  # inches; dots an inch; a figure's pixels an inch
_LINE = 0.22  # inches, of a legend's row
_COLUMNS = 4  # of a legend
_LOOKS: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
          "axes.edgecolor": "#7d8590", "axes.axisbelow": True}  # fmt: skip

Layout = Mapping[str, Any]


def png(figure: str, title: str) -> bytes:
    """Return a plotly figure of the house's as an image, 9 inches wide.

    Args:
        figure: as JSON.
        title: above it.
    """
    told = json.loads(figure)
    layout = told["layout"]
    with rc_context(_LOOKS):
        made = Figure((_WIDTH, max(2.0, layout.get("height", 360) / _PIXELS)), dpi=_DPI)
        FigureCanvasAgg(made)
        panels = _panels(made, told["data"], layout)
        for trace in told["data"]:
            strokes.draw(trace, panels[_place(trace)], made)
        for panel in panels.values():
            _scaled(panel)
        _matched(panels)
        _shapes(panels, layout)
        _annotated(made, panels, layout)
        above = _LINE * (1 + _legend(made, panels, layout)) / made.get_figheight()
        above_all = made.suptitle(title, x=0.0, y=1 + above, ha="left", va="bottom", fontsize=11)
        above_all.set(weight="bold", parse_math=False)
        out = io.BytesIO()
        made.savefig(out, format="png", bbox_inches="tight", pad_inches=0.15, metadata={})
    return out.getvalue()


def _place(trace: Mapping[str, Any]) -> str:
    return str(trace.get("xaxis", "x"))[1:]


def _panels(made: Any, traces: list[dict[str, Any]], layout: Layout) -> dict[str, Panel]:
    """Return what is drawn on, by the number that plotly adds to `x` and `y`; "" is the first."""
    panels = {}
    for place in dict.fromkeys(["", *map(_place, traces)]):
        x, y = (layout.get(f"{axis}axis{place}", {}) for axis in "xy")
        (left, right), (low, high) = (each.get("domain", (0, 1)) for each in (x, y))
        axes = made.add_axes((left, low, right - left, high - low))
        panels[place] = Panel(axes, x, y)
    return panels


def _scaled(panel: Panel) -> None:
    """Have the axes as the layout asks for them."""
    for name, told in (("x", panel.x), ("y", panel.y)):
        axis = getattr(panel.axes, f"{name}axis")
        if told.get("type") == "log":
            getattr(panel.axes, f"set_{name}scale")("log")
        if told.get("type") == "date":
            axis.axis_date("UTC")
            axis.set_major_formatter(_dates(axis.get_major_locator()))
        _ticked(axis, panel.names(name), told)
        if told.get("range"):
            ends = [10**end if told.get("type") == "log" else end for end in told["range"]]
            getattr(panel.axes, f"set_{name}lim")(*ends)
        elif told.get("autorange") == "reversed":
            axis.set_inverted(True)
        title = told.get("title") or {}
        axis.set_label_text(words(title if isinstance(title, str) else title.get("text", "")))
        if told.get("showgrid", True):
            axis.grid(True, color="#7d859040", linewidth=0.6)
        if told.get("showticklabels") is False or told.get("visible") is False:
            panel.axes.tick_params(axis=name, labelbottom=False, labelleft=False, length=0)


def _dates(locator: Any) -> Any:
    return ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]


def _ticked(axis: Any, names: list[str], told: Mapping[str, Any]) -> None:
    if told.get("tickvals") is not None:
        at = numbers(told["tickvals"])
        axis.set_ticks(at, [words(str(each)) for each in told.get("ticktext", at)])
        axis.set_ticks([], minor=True)
    elif names:
        axis.set_ticks(range(len(names)), [words(name) for name in names])


def _matched(panels: Mapping[str, Panel]) -> None:
    """Give panels whose upright axes are said to match the same ends."""
    wanted = {place: str(panel.y["matches"])[1:] for place, panel in panels.items()
              if panel.y.get("matches")}  # fmt: skip
    alike = [panels[place] for place in {*wanted, *wanted.values()}]
    if alike:
        ends = [panel.axes.get_ylim() for panel in alike]
        for panel in alike:
            panel.axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))


def _shapes(panels: Mapping[str, Panel], layout: Layout) -> None:
    for shape in layout.get("shapes", ()):
        panel = panels.get(_number(shape.get("xref", "x")), panels[""])
        x, y = ((shape[f"{axis}0"], shape[f"{axis}1"]) for axis in "xy")
        across = _across(panel.axes, shape)
        line = shape.get("line", {})
        if shape.get("type") == "rect":
            panel.axes.fill(
                [x[0], x[1], x[1], x[0]], [y[0], y[0], y[1], y[1]], transform=across,
                **strokes.paint(shape.get("fillcolor", "#7d859030")), linewidth=0,
            )  # fmt: skip
        else:
            panel.axes.plot(x, y, transform=across, **strokes.pen(line), scalex=False, scaley=False)


def _annotated(made: Any, panels: Mapping[str, Panel], layout: Layout) -> None:
    sides = {"left": "left", "right": "right", "center": "center", "auto": "center"}
    heights = {"top": "top", "bottom": "bottom", "middle": "center", "auto": "center"}
    for told in layout.get("annotations", ()):
        is_paper = told.get("xref") == told.get("yref") == "paper"
        panel = panels.get(_number(told.get("xref", "x")), panels[""])
        across = made.transFigure if is_paper else _across(panel.axes, told)
        made_text = (made if is_paper else panel.axes).text(
            told["x"], told["y"], words(told["text"]), transform=across, fontsize=8,
            ha=sides[told.get("xanchor", "auto")], va=heights[told.get("yanchor", "auto")],
        )  # fmt: skip
        made_text.set_clip_on(False)


def _number(ref: str) -> str:
    return ref.partition(" ")[0][1:] if ref != "paper" else ""


def _across(axes: Any, told: Mapping[str, Any]) -> Any:
    """Return from where to where a shape's numbers go: data, or shares of the panel."""
    x, y = (
        axes.transAxes if ref == "paper" or ref.endswith("domain") else axes.transData
        for ref in (told.get("xref", "x"), told.get("yref", "y"))
    )
    return blended_transform_factory(x, y)


def _legend(made: Any, panels: Mapping[str, Panel], layout: Layout) -> int:
    """Draw the legend, if there is more than one thing to tell apart; return its rows."""
    if layout.get("showlegend") is False:
        return 0
    found: dict[str, Any] = {}
    for panel in panels.values():
        handles, names = panel.axes.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    if len(found) < 2:
        return 0
    drawn = made.legend(
        found.values(), found.keys(), loc="lower left", bbox_to_anchor=(0.0, 1.0),
        ncols=_COLUMNS, frameon=False, fontsize=8, borderaxespad=0.2,
    )  # fmt: skip
    for handle in drawn.legend_handles:
        if isinstance(handle, Line2D):
            handle.set(linewidth=min(handle.get_linewidth(), 6.0), alpha=1.0)
    return ceil(len(found) / _COLUMNS)
