"""What plotly calls traces, drawn by matplotlib: those kinds, and of them that, which we use.

scatter    lines, marks, words, intervals on x or y, bands to the line before
bar        lying or standing, with intervals
heatmap    cells with words
box        of raw values
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Trace = Mapping[str, Any]

_MARKS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P",
          "star": "*", "hexagon": "h", "line-ns": "|", "x": "X"}  # fmt: skip
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_DAY = 86_400_000.0  # ms
_POINTS = 0.75  # of a pixel


@dataclass(eq=False)
class Panel:
    """Axes to draw on, and what plotly's layout says of them.

    `band`: x and y of the line before, which the next one may fill the space to.
    """

    axes: Any  # matplotlib's: its stubs want every option spelled out
    x: Mapping[str, Any]
    y: Mapping[str, Any]
    band: tuple[Floats, Floats] | None = None
    _names: dict[str, dict[str, int]] = field(default_factory=lambda: {"x": {}, "y": {}})

    def names(self, axis: str) -> list[str]:
        """Return the categories of an axis, in order; none where it has numbers."""
        return list(self._names[axis])

    def at(self, axis: str, values: Any) -> Floats:
        """Return where on an axis values stand: categories by their number, dates in days."""
        told: Mapping[str, Any] = getattr(self, axis)
        known, plain = self._names[axis], decoded(values)
        if any(isinstance(each, str) for each in plain):
            if told.get("type") == "date":
                return np.array(plain, dtype="datetime64[ms]").astype(float) / _DAY
            return np.array([known.setdefault(str(each), len(known)) for each in plain], float)
        found = numbers(plain)
        return found / _DAY if told.get("type") == "date" else found


def decoded(values: Any) -> list[Any]:
    """Return a list that plotly may have packed: `{"dtype": …, "bdata": base64, "shape": …}`."""
    if isinstance(values, Mapping):
        packed = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
        shape = values.get("shape")
        if shape is not None:
            packed = packed.reshape([int(each) for each in str(shape).split(",")])
        return list(packed.tolist())
    return list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []


def numbers(values: Any) -> Floats:
    """Return values as numbers; NaN for none."""
    return np.array([np.nan if each is None else each for each in decoded(values)], dtype=float)


def words(text: str) -> str:
    """Return a text of plotly's without its marks."""
    plain = unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br ?/?>", "\n", text)))
    return plain.replace("$", r"\$")  # else matplotlib reads formulas


def paint(colour: Any) -> dict[str, Any]:
    """Return a colour of CSS, `#rrggbb`, `#rgba` or `rgba(…)`, as matplotlib has it."""
    found = re.fullmatch(r"rgba?\(([^)]*)\)", str(colour).replace(" ", ""))
    if not found:
        return {"color": colour}
    red, green, blue, *rest = (float(part) for part in found[1].split(","))
    return {"color": (red / 255, green / 255, blue / 255, rest[0] if rest else 1.0)}


def pen(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return colour, width and dashes of a line."""
    look = paint(line["color"]) if "color" in line else {}
    dash = _DASHES.get(line.get("dash", "solid"), "--")
    steps = "steps-post" if line.get("shape") == "hv" else "default"
    width = line.get("width", 2) * _POINTS
    return {**look, "linewidth": width, "linestyle": dash, "drawstyle": steps}


def draw(trace: Trace, panel: Panel, figure: Any) -> None:
    """Draw a trace.

    Raises:
        KeyError: it is of a kind that nobody draws here.
    """
    {"scatter": _scatter, "bar": _bar, "heatmap": _heatmap, "box": _box}[trace["type"]](
        trace, panel, figure
    )


def _name(trace: Trace) -> dict[str, str]:
    shown = trace.get("name") and trace.get("showlegend", True) is not False
    return {"label": words(trace["name"])} if shown else {}


def _scatter(trace: Trace, panel: Panel, _figure: Any) -> None:
    x, y = panel.at("x", trace["x"]), panel.at("y", trace["y"])
    mode, line = trace.get("mode", "lines"), trace.get("line", {})
    look, name = pen(line), _name(trace)
    for error, axis in (("error_x", "x"), ("error_y", "y")):
        if error in trace:
            _whiskers(panel.axes, x, y, trace[error], axis)
    if trace.get("fill") == "tonexty" and panel.band is not None:
        across = np.concatenate([x, panel.band[0][::-1]])
        up = np.concatenate([y, panel.band[1][::-1]])
        panel.axes.fill(across, up, linewidth=0, **paint(trace["fillcolor"]), **name)
        name = {}
    if "lines" in mode and line.get("width", 2):
        panel.axes.plot(x, y, **look, **name)
        name = {}
    if "markers" in mode:
        _marks(trace, panel.axes, x, y, name)
    if "text" in mode:
        for at, up, text in zip(x, y, decoded(trace["text"]), strict=False):
            panel.axes.annotate(
                words(str(text)), (at, up), (4, 3), textcoords="offset points", fontsize=7
            )
    panel.band = x, y


def _marks(trace: Trace, axes: Any, x: Floats, y: Floats, name: Mapping[str, str]) -> None:
    mark = trace.get("marker", {})
    colour = mark.get("color", trace.get("line", {}).get("color", "#3f7fc1"))
    symbol = mark.get("symbol", "circle")
    is_open = isinstance(symbol, str) and symbol.endswith("-open")
    size = mark.get("size", 6)
    area = (numbers(size) if not isinstance(size, int | float) else size) * _POINTS
    look: dict[str, Any] = {"marker": _MARKS.get(str(symbol).removesuffix("-open"), "o")}
    if isinstance(colour, str):
        look |= paint(colour)
    else:
        each = decoded(colour)
        is_number = all(isinstance(one, int | float) for one in each)
        look |= {"c": each if is_number else [paint(one)["color"] for one in each]}
    if is_open and look["marker"] != "|":
        look |= {"facecolors": "none", "edgecolors": look.pop("color", "#3f7fc1")}
    width = mark.get("line", {}).get("width", 1.2) * _POINTS
    axes.scatter(x, y, s=area**2, linewidths=width, zorder=3,
                 alpha=mark.get("opacity", trace.get("opacity")), **look, **name)  # fmt: skip


def _whiskers(axes: Any, x: Floats, y: Floats, told: Mapping[str, Any], axis: str) -> None:
    up = numbers(told["array"])
    down = numbers(told["arrayminus"]) if "arrayminus" in told else up
    ends = np.nan_to_num(np.clip(np.vstack([down, up]), 0, None))
    look = {"fmt": "none", "elinewidth": 1.3, "capsize": 3}
    colour = paint(told.get("color", "#7d8590"))["color"]
    axes.errorbar(x, y, ecolor=colour, zorder=2, **{f"{axis}err": ends}, **look)


def _bar(trace: Trace, panel: Panel, _figure: Any) -> None:
    x, y = panel.at("x", trace["x"]), panel.at("y", trace["y"])
    if not x.size:  # its intervals belong to none, and neither do its colours
        return
    colour = trace.get("marker", {}).get("color", "#3f7fc1")
    each = [paint(one)["color"] for one in ([colour] if isinstance(colour, str) else colour)]
    if trace.get("orientation") == "h":
        panel.axes.barh(y, x, height=0.65, color=each, **_name(trace))
    else:
        panel.axes.bar(x, y, width=0.65, color=each, **_name(trace))
    for error, axis in (("error_x", "x"), ("error_y", "y")):
        if error in trace:
            _whiskers(panel.axes, x, y, trace[error], axis)


def _heatmap(trace: Trace, panel: Panel, figure: Any) -> None:
    cells = np.array([numbers(row) for row in decoded(trace["z"])], dtype=float)
    x = panel.at("x", trace.get("x", range(cells.shape[1])))
    y = panel.at("y", trace.get("y", range(cells.shape[0])))
    scale = [(at, paint(colour)["color"]) for at, colour in trace["colorscale"]]
    colours = LinearSegmentedColormap.from_list("ours", scale)
    if trace.get("reversescale"):
        colours = colours.reversed()
    image = panel.axes.pcolormesh(
        _edges(x), _edges(y), cells, cmap=colours,
        vmin=trace.get("zmin"), vmax=trace.get("zmax"), edgecolors="white", linewidth=2,
    )  # fmt: skip
    for row, texts in zip(y, decoded(trace.get("text", [])), strict=False):
        for column, text in zip(x, decoded(texts), strict=False):
            panel.axes.text(column, row, words(str(text)), ha="center", va="center", fontsize=8,
                            bbox={"color": "#ffffffc0", "pad": 1.5, "linewidth": 0})  # fmt: skip
    if trace.get("showscale", True):
        bar = figure.colorbar(image, ax=panel.axes, pad=0.02)
        bar.set_label(words((trace.get("colorbar", {}).get("title") or {}).get("text", "")))


def _edges(places: Floats) -> Floats:
    """Return where the cells around evenly spaced places begin and end; of one, a half aside."""
    half = (places[1] - places[0]) / 2 if len(places) > 1 else 0.5
    return np.append(places - half, places[-1] + half)


def _box(trace: Trace, panel: Panel, _figure: Any) -> None:
    is_lying = trace.get("orientation") == "h"
    values, name = numbers(trace["x" if is_lying else "y"]), trace.get("name", "")
    (at,) = panel.at("y" if is_lying else "x", [name])
    kind = "horizontal" if is_lying else "vertical"
    panel.axes.boxplot(values[np.isfinite(values)], positions=[at], widths=0.5, orientation=kind)
