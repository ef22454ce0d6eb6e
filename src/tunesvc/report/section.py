"""One section of a report: a measure, and how its result becomes words, a table and a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tunesvc.analysis.table import Unsupported
from tunesvc.report import wording
from tunesvc.report.document import Table, Told
from tunesvc.report.evidence import Evidence


@dataclass(frozen=True)
class Section:
    """One section. `says`, `table` and `figure` take the evidence and the measure's result."""

    key: str
    title: str
    tells: str
    measure: Callable[[Evidence], Any]
    says: Callable[[Evidence, Any], str]
    table: Callable[[Evidence, Any], Table]
    figure: Callable[[Evidence, Any], go.Figure] | None = None
    wide: bool = False

    def told(self, evidence: Evidence) -> Told:
        """Take the measure and tell what came out, or why nothing could."""
        found = self.measure(evidence)
        if isinstance(found, Unsupported):
            return Told(self.key, self.title, self.tells, why=wording.sentence(found.why))
        return Told(
            self.key,
            self.title,
            self.tells,
            says=self.says(evidence, found),
            figure=self.figure(evidence, found).to_json() if self.figure else "",
            table=self.table(evidence, found),
            wide=self.wide,
        )


def plain(function: Callable[[Any], Any]) -> Callable[[Evidence, Any], Any]:
    """Return a function of a result as one of evidence and result."""
    return lambda _, found: function(found)


def of_trials(function: Callable[..., Any]) -> Callable[[Evidence, Any], Any]:
    """Return a function of a result and the trials as one of evidence and result."""
    return lambda evidence, found: function(found, evidence.trials)
