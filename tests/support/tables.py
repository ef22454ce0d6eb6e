"""Small tables of trials, written down by hand; `pythonpath` finds this file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from tunesvc.analysis.table import Dimension, Direction, Trials

_ROW: dict[str, Any] = {
    "state": "COMPLETE",
    "value": float("nan"),
    "last": float("nan"),
    "epochs": 1,
    "backbone": "resnet",
    "strategy": "full",
    "default": False,
    "drawn": "random",
    "control": False,
    "stop_epoch": float("nan"),
    "seconds": float("nan"),
    "started": pd.NaT,
    "ended": pd.NaT,
    "worker": "",
    "reason": "",
    "parameters": float("nan"),
    "trainable": float("nan"),
    "gflops": float("nan"),
    "memory_mb": float("nan"),
    "memory_kind": "",
}


def table(
    rows: Iterable[dict[str, Any]],
    direction: Direction = "maximize",
    *,
    space: Sequence[Dimension] = (),
    study: str = "study",
) -> Trials:
    """A study of these trials, in order; what a row leaves out is as above."""
    made = [_ROW | row for row in rows]
    columns = list(dict.fromkeys([*_ROW, *(name for row in made for name in row)]))
    frame = pd.DataFrame(made, columns=columns).rename_axis("number")
    frame["value"] = frame["value"].astype(float)
    frame["seconds"] = frame["seconds"].astype(float)
    labels = tuple(dict.fromkeys(frame["backbone"]))
    return Trials(
        study, "accuracy", direction, 1, tuple(space), frame, {}, labels, {}, "random", "none"
    )
