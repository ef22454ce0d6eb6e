"""Which trials a picture shows where there are more than it can hold.

The best ones always, and of the others every so-manieth in the order of their numbers: the same
ones each time, from the study's whole length. What was left out is said below the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tunesvc.analysis.table import Trials
from tunesvc.report import wording


@dataclass(frozen=True)
class Shown:
    """Rows that a picture shows, by number, and in words how they were chosen ("" for all)."""

    frame: pd.DataFrame
    chosen: str


def thin(trials: Trials, frame: pd.DataFrame, most: int, best: int = 50) -> Shown:
    """Return at most `most` rows of `frame`: the `best` best and evenly many of the others."""
    if len(frame) <= most:
        return Shown(frame, "")
    score = trials.sign * frame["value"].fillna(frame["last"])
    top = score.nlargest(best).index
    others = frame.index.difference(top)
    places = np.linspace(0, len(others) - 1, most - len(top)).round().astype(int)
    kept = frame.loc[sorted([*top, *others[places]])]
    told = f"{wording.count(len(kept), 'trial')} of {len(frame):,} drawn: the best {len(top)}"
    return Shown(kept, f"{told}, and of the others every {len(others) / len(places):.3g}th.")
