"""Timeline: which worker ran what, when."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tunesvc.analysis.table import Trials, Unsupported
from tunesvc.report import style, wording
from tunesvc.report.document import Table

MOST = 40  # workers in the picture
_NAMES = {"COMPLETE": "ran to the end", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


def measure(trials: Trials) -> Trials | Unsupported:
    """Return the trials if one of them was run by a worker that is known."""
    if len(_ran(trials)):
        return trials
    return Unsupported("needs a trial that a worker has begun, has none")


def figure(trials: Trials) -> go.Figure:
    """Draw a line for each worker, and on it a bar for each of its trials."""
    ran = _ran(trials)
    workers = _workers(ran)[:MOST]
    ran = ran[ran["worker"].isin(workers)]
    place = {worker: row for row, worker in enumerate(workers)}
    height = max(6, min(18, 320 // len(workers)))
    traces = []
    for state, name in _NAMES.items():
        part = ran[ran["state"] == state]
        if len(part):
            traces.append(_bars(part, place, name, style.STATES[state], height))
    ticks = {"tickvals": list(place.values()), "ticktext": list(place)}
    axes = {
        "xaxis": {"type": "date", "title": "UTC"},
        "yaxis": ticks | {"range": [len(workers) - 0.3, -0.7]},
    }
    return style.figure(traces, height=140 + (height + 8) * len(workers), **axes)


def table(trials: Trials) -> Table:
    """Return what each worker did."""
    ran = _ran(trials)
    rows = []
    for worker in _workers(ran):
        own = ran[ran["worker"] == worker]
        busy = float((own["until"] - own["started"]).dt.total_seconds().sum())
        span = float((own["until"].max() - own["started"].min()).total_seconds())
        first = own["started"].min().isoformat(sep=" ", timespec="seconds")
        rows.append((worker, len(own), first, span, busy, min(1.0, busy / span) if span else None))
    columns = (
        "worker",
        "trials",
        "first began (UTC)",
        "span, s",
        "in trials, s",
        "share in trials",
    )
    return Table(columns, tuple(rows))


def says(trials: Trials) -> str:
    """Tell how many workers took how long, and how much of it they were in trials."""
    ran = _ran(trials)
    workers = _workers(ran)
    lived = ran.groupby("worker").agg(first=("started", "min"), last=("until", "max"))
    span = float((ran["until"].max() - ran["started"].min()).total_seconds())
    present = float((lived["last"] - lived["first"]).dt.total_seconds().sum())
    busy = float((ran["until"] - ran["started"]).dt.total_seconds().sum())
    words = f"{wording.count(len(workers), 'worker')}, {wording.seconds(span)} from first to last"
    if present > 0:
        words += f"; between their first and last trial they were in trials {_busy(busy, present)}"
    words += " of the time" if present > 0 else ""
    return f"{words}." + (f" The first {MOST} are drawn." if len(workers) > MOST else "")


def _busy(busy: float, present: float) -> str:
    return wording.share(min(1.0, busy / present))


def _ran(trials: Trials) -> pd.DataFrame:
    """Return the trials that a known worker began, with `until`: their end, or the last one's."""
    frame = trials.frame
    began = frame[frame["started"].notna() & (frame["worker"].fillna("") != "")].copy()
    latest = pd.concat([frame["started"], frame["ended"]]).max()
    began["until"] = began["ended"].fillna(latest) if len(began) else began["ended"]
    return began


def _workers(ran: pd.DataFrame) -> list[str]:
    return list(ran.sort_values("started")["worker"].drop_duplicates())


def _bars(
    part: pd.DataFrame, place: dict[str, int], name: str, colour: str, height: int
) -> go.Scatter:
    """Return the bars of one state as one trace of thick lines with gaps between them."""
    gap = np.full(len(part), np.nan)
    ends = [part[end].to_numpy("datetime64[ms]").astype(float) for end in ("started", "until")]
    row = part["worker"].map(place).to_numpy(float)
    number = np.repeat(part.index.to_numpy(np.int32), 3)
    return go.Scatter(
        x=np.column_stack([*ends, gap]).ravel(),
        y=np.column_stack([row, row, gap]).ravel().astype(np.float32),
        customdata=number,
        mode="lines",
        name=name,
        line={"color": style.see_through(colour, 0.8), "width": height},
        hovertemplate=f"trial %{{customdata}}, {name}: %{{x}}<extra></extra>",
    )
