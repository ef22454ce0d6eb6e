"""How pictures look: one palette that reads on white and on black, one layout.

Ink, grid and background are left to the page's style sheet (`templates/page.css`), which follows
the reader's light or dark screen and always prints dark on white.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

# Source: Okabe & Ito's palette for colour-blind readers, moved to middle lightness so that each
# has a contrast of at least 3:1 both with white and with the page's dark background.
BLUE, ORANGE, GREEN, PURPLE, RED, TEAL, GREY = (
    "#3f7fc1",
    "#c8741a",
    "#278f68",
    "#9468d0",
    "#d1495b",
    "#21899c",
    "#7d8590",
)
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, RED, TEAL, GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
SCALE = [[0.0, "#e8edf3"], [0.5, "#7fa9d3"], [1.0, "#1f4e86"]]  # of heat maps, low to high
STATES = {"COMPLETE": BLUE, "PRUNED": ORANGE, "FAIL": RED, "RUNNING": GREEN}


def figure(traces: Sequence[Any], *, height: int = 360, **layout: Any) -> go.Figure:
    """Return a figure in the house's manner; `layout` overrides it."""
    ours: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 12, "r": 12, "t": 12, "b": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "colorway": list(CYCLE),
        "hoverlabel": {"font": {"size": 13}},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "dragmode": False,
    }
    drawn = go.Figure(data=list(traces), layout=ours | layout)
    drawn.update_xaxes(automargin=True, zeroline=False, showgrid=True, gridcolor="#8886")
    drawn.update_yaxes(automargin=True, zeroline=False, showgrid=True, gridcolor="#8886")
    return drawn


def colour(place: int) -> str:
    """Return the colour of the n-th of several things."""
    return CYCLE[place % len(CYCLE)]


def symbol(place: int) -> str:
    """Return the mark of the n-th of several things: colour alone tells nothing apart."""
    return SYMBOLS[place % len(SYMBOLS)]


def see_through(hexadecimal: str, opacity: float) -> str:
    """Return a colour that lets others shine through."""
    red, green, blue = (int(hexadecimal[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
