"""Single trials and single items of the table, with plain types."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunesvc.analysis.table import Trials


def best(trials: Trials) -> int | None:
    """Return the number of the best finished trial, the earliest of equals; None without one."""
    finished = trials.finished
    if finished.empty:
        return None
    place = int(np.argmax(trials.sign * finished["value"].to_numpy(dtype=float)))
    return int(finished.index.to_numpy()[place])


def number(trials: Trials, trial: int, column: str = "value") -> float:
    """Return a number of a trial; NaN where it has none."""
    return float(np.asarray(trials.frame.at[trial, column], dtype=float))


def word(trials: Trials, trial: int, column: str) -> str:
    """Return a word of a trial."""
    return str(trials.frame.at[trial, column])


def settings(trials: Trials, trial: int) -> dict[str, Any]:
    """Return the searched parameters of a trial by name, in the order of the space."""
    columns = {each.name: f"param:{each.name}" for each in trials.space}
    return _known(trials, trial, columns)


def knobs(trials: Trials, trial: int) -> dict[str, Any]:
    """Return every knob that acts in a trial, tuned or not."""
    columns = [name for name in map(str, trials.frame.columns) if name.startswith("knob:")]
    return _known(trials, trial, {name.removeprefix("knob:"): name for name in columns})


def is_missing(value: Any) -> bool:
    """Whether an item of the table says that there is none."""
    return value is None or (isinstance(value, float) and np.isnan(value))


def _known(trials: Trials, trial: int, columns: dict[str, str]) -> dict[str, Any]:
    row = trials.frame.loc[trial]
    told = {name: row[column] for name, column in columns.items() if column in row.index}
    return {name: _plain(value) for name, value in told.items() if not is_missing(value)}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
