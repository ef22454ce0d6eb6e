"""A report's pictures as images: every one can be drawn, and shows the numbers it is given."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from made_trials import made
from matplotlib.figure import Figure
from PIL import Image

from tunesvc.analysis.table import Direction
from tunesvc.report import Report, pictures, strokes, style
from tunesvc.report.drawn import png
from tunesvc.report.evidence import Evidence
from tunesvc.report.making import beside, make
from tunesvc.report.strokes import Panel


@cache
def reported(count: int, direction: Direction = "maximize") -> Report:
    """The report of so many made-up trials."""
    return make(Evidence(made(count, direction=direction), images=153))


def pixels(picture: bytes) -> np.ndarray:
    """Return a picture's (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def panel(**layout: Any) -> Panel:
    return Panel(Figure().add_axes((0, 0, 1, 1)), layout.get("x", {}), layout.get("y", {}))


def drawn(trace: Any, **layout: Any) -> Panel:
    """Draw a trace by itself, as it stands in a report."""
    on = panel(**layout)
    figure = go.Figure([trace], {"template": "none"})
    strokes.draw(json.loads(figure.to_json())["data"][0], on, on.axes.figure)
    return on


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("count", [1, 5, 60])
def test_every_picture_can_be_drawn(count: int, direction: Direction) -> None:
    """In colour, on white; where there are few trials some are hardly more than axes."""
    sections = [told for told in reported(count, direction).sections if told.figure]
    assert len(sections) > (15 if count == 60 else 0)
    for told in sections:
        found = pixels(png(told.figure, told.title))
        assert 600 < found.shape[1] < 1500, told.key
        assert (found == 255).all(axis=2).mean() > 0.2, told.key
        assert count < 60 or (np.ptp(found.astype(int), axis=2) > 40).any(), told.key


def test_studies_side_by_side_can_be_drawn() -> None:
    """Heat maps and boxes of several."""
    evidences = [Evidence(made(count), images=153) for count in (40, 60)]
    report = beside(evidences, [reported(40), reported(60)])
    found = [told for told in report.sections if told.figure]
    assert found
    for told in found:
        assert pixels(png(told.figure, told.title)).shape[1] > 600


def test_bars_are_as_long_as_the_numbers() -> None:
    """And their intervals reach as far."""
    error = {"type": "data", "array": [1.0, 2.0], "arrayminus": [0.5, 3.0]}
    bar = go.Bar(x=np.array([3.0, 7.5]), y=[0, 1], orientation="h", error_x=error)
    axes = drawn(bar).axes
    assert [patch.get_width() for patch in axes.patches] == [3.0, 7.5]
    (whiskers,) = axes.collections
    assert [line[:, 0].tolist() for line in whiskers.get_segments()] == [[2.5, 4.0], [4.5, 9.5]]
    none = go.Bar(x=np.array([]), y=[], orientation="h", marker={"color": []}, error_x=error)
    assert not drawn(none).axes.patches


def test_lines_marks_and_bands_are_where_the_numbers_are() -> None:
    """Gaps stay gaps; dates are days; names are places."""
    x = np.array([1.0, 2.0, 3.0])
    line = drawn(go.Scatter(x=x, y=[1.0, None, 4.0], mode="lines+markers")).axes
    np.testing.assert_array_equal(line.lines[0].get_ydata(), [1.0, np.nan, 4.0])
    assert line.collections[0].get_offsets()[0].tolist() == [1.0, 1.0]
    steps = drawn(go.Scatter(x=x, y=x, mode="lines", line={"shape": "hv"}))
    assert steps.axes.lines[0].get_drawstyle() == "steps-post"
    days = drawn(go.Scatter(x=[0.0, 86_400_000.0], y=[0, 0]), x={"type": "date"})
    assert days.axes.lines[0].get_xdata().tolist() == [0.0, 1.0]
    named = drawn(go.Scatter(x=["a", "b", "a"], y=[1, 2, 3]))
    assert named.axes.lines[0].get_xdata().tolist() == [0.0, 1.0, 0.0]
    assert named.names("x") == ["a", "b"]
    on = panel()
    for y, fill in (([0.0, 0.0], {}), ([2.0, 3.0], {"fill": "tonexty", "fillcolor": style.BLUE})):
        trace = go.Scatter(x=[0.0, 1.0], y=y, mode="lines", line={"width": 0}, **fill)
        strokes.draw(json.loads(go.Figure([trace]).to_json())["data"][0], on, None)
    (band,) = on.axes.patches
    assert band.get_xy().tolist()[:4] == [[0.0, 2.0], [1.0, 3.0], [1.0, 0.0], [0.0, 0.0]]


def test_a_heat_map_has_its_cells() -> None:
    """With what is unknown left out."""
    heat = go.Heatmap(z=np.array([[1.0, np.nan], [3.0, 2.0]]), x=["a", "b"], y=["c", "d"],
                      text=[["one", ""], ["three", "two"]], colorscale=style.SCALE)  # fmt: skip
    on = drawn(heat)
    (mesh,) = on.axes.collections
    cells = mesh.get_array()
    assert cells.filled(-1.0).tolist() == [[1.0, -1.0], [3.0, 2.0]]
    assert {text.get_text() for text in on.axes.texts} >= {"one", "two", "three"}
    assert mesh.get_coordinates()[0].tolist() == [[-0.5, -0.5], [0.5, -0.5], [1.5, -0.5]]
    single = drawn(go.Heatmap(z=[[1.0]], x=["a"], y=["c"], colorscale=style.SCALE))
    corners = single.axes.collections[0].get_coordinates()
    assert corners.tolist() == [[[-0.5, -0.5], [0.5, -0.5]], [[-0.5, 0.5], [0.5, 0.5]]]


@pytest.mark.parametrize(
    ("given", "read"),
    [("<b>a</b><br>b", "a\nb"), ("1 &lt; 2", "1 < 2"), ("$5 and $6", r"\$5 and \$6")],
)
def test_words_are_plain(given: str, read: str) -> None:
    """What plotly reads as marks is none here, and nothing is a formula."""
    assert strokes.words(given) == read


def test_a_strangers_text_is_drawn_as_it_is() -> None:
    """A study can be called anything."""
    figure = go.Figure([go.Scatter(x=["$\\frac$", "<script>"], y=[1, 2], name="名前 ${}$")])
    assert pictures._drawn(figure.to_json(), "$\\frac$ 名前 <img>").startswith(b"\x89PNG")
