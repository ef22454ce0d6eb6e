"""The best configuration, knob by knob, beside the default of its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesvc.analysis.table import Unsupported
from tunesvc.report import picking, wording
from tunesvc.report.document import Table
from tunesvc.report.evidence import Evidence

Rows = tuple[tuple[str, str, str, str], ...]


def measure(evidence: Evidence) -> Rows | Unsupported:
    """Return (knob, value, default, whether it was searched) of the best trial."""
    best, trials = evidence.answer(), evidence.trials
    if best is None:
        return evidence.unanswered()
    knob_of = {each.name: each.knob for each in trials.space}
    backbone = picking.word(trials, best, "backbone")
    default = _by_knob(knob_of, trials.defaults.get(backbone, {}))
    drawn = _by_knob(knob_of, picking.settings(trials, best))
    told = {
        knob: (wording.setting(value), wording.setting(default.get(knob)))
        for knob, value in (picking.knobs(trials, best) | drawn).items()
    }
    return tuple(
        (knob, *values, "searched" if knob in drawn else "fixed") for knob, values in told.items()
    )


def table(rows: Rows) -> Table:
    """Return them as they are."""
    return Table(("knob", "value", "untuned", ""), rows)


def says(rows: Rows) -> str:
    """Tell which searched knobs differ from their defaults."""
    moved = [knob for knob, value, default, how in rows
             if how == "searched" and default not in {wording.NONE, value}]  # fmt: skip
    if not moved:
        return "No searched knob differs from its default."
    return f"{wording.row(moved)} {'differs' if len(moved) == 1 else 'differ'} from the default."


def _by_knob(knobs: Mapping[str, str], params: Mapping[str, Any]) -> dict[str, Any]:
    return {knobs.get(name, name): value for name, value in params.items()}
