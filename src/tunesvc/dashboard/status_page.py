"""The page that shows what the service does now: studies, workers, the queue, the last failures.

Why: 2026-11: it loads itself again by a word in its head, not by a script, so that its policy can
forbid every script; a reader whom that disturbs can stop it (`?refresh=off`; WCAG 2.2, 2.2.2).
Bars are drawn in SVG, whose lengths are attributes: the policy forbids styles of elements too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tunesvc import leases
from tunesvc.dashboard import page
from tunesvc.errors import StorageError
from tunesvc.leases import Worker
from tunesvc.report import wording
from tunesvc.storage import Store, guard
from tunesvc.study import Census, Failure, Outcome, Tally

log = logging.getLogger(__name__)

STYLE = "/status.css"
REFRESH_SECONDS = 10
FAILURES = 10
POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_PARTS = (("complete", "complete"), ("pruned", "pruned"), ("fail", "failed"),
          ("running", "running"), ("waiting", "waiting"))  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What one look has found.

    Args:
        trouble: why nothing was found; empty: something was.
        outcomes, eta_seconds: by id of the study.
    """

    at: datetime
    trouble: str = ""
    studies: Sequence[Tally] = ()
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    eta_seconds: Mapping[int, float] = field(default_factory=dict)
    workers: Sequence[Worker] = ()
    failures: Sequence[Failure] = ()

    @property
    def queue(self) -> list[Tally]:
        """The studies whose trials wait for workers, in the order in which they are served."""
        return [each for each in self.studies if each.queue]

    @property
    def lost(self) -> int:
        """Workers that show no life."""
        return sum(worker.is_lost for worker in self.workers)


class Page:
    """What the page is made of. Threads may share it."""

    def __init__(self, store: Store, census: Census) -> None:
        self._engine, self._census = store.engine, census

    def look(self) -> Seen:
        """Look at the database; where it is away, that is what was seen."""
        now = datetime.now(UTC)
        try:
            with guard():
                studies = self._census.tallies()
                return Seen(
                    at=now,
                    studies=studies,
                    outcomes=self._census.outcomes(),
                    eta_seconds=self._census.eta_seconds(studies),
                    workers=leases.workers(self._engine),
                    failures=self._census.failures(FAILURES),
                )
        except StorageError as error:
            log.warning("no status: %s: %s", error.what, error.why)
            return Seen(at=now, trouble=error.what)


def html(seen: Seen, environ: dict[str, Any], *, refreshes: bool) -> bytes:
    """Return the page."""
    told = _environment().get_template("status.html.j2").render(
        seen=seen,
        bar=page.bar(environ),
        styles=(*page.STYLES, STYLE),
        refresh=REFRESH_SECONDS if refreshes else 0,
        every=REFRESH_SECONDS,
    )  # fmt: skip
    return told.encode()


def as_json(seen: Seen) -> bytes:
    """Return the same as JSON."""
    told = {
        "at": seen.at.isoformat(timespec="seconds"),
        "database": "away" if seen.trouble else "up",
        "trouble": seen.trouble,
        "studies": [_study(seen, each) for each in seen.studies],
        "queue": sum(each.queue for each in seen.studies),
        "workers": [each.as_json() for each in seen.workers],
        "failures": [asdict(each) | {"at": each.at.isoformat()} for each in seen.failures],
    }
    return (json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


@cache
def style() -> bytes:
    """Return the page's style sheet."""
    return files("tunesvc.dashboard").joinpath("templates", "status.css").read_bytes()


def _study(seen: Seen, tally: Tally) -> dict[str, Any]:
    best = seen.outcomes.get(tally.study_id)
    shown = None
    if best is not None:
        shown = {"trial": best.trial, "value": best.value if isfinite(best.value) else None}
    names = ("complete", "pruned", "fail", "running", "waiting", "remaining")
    return {
        "study": tally.study,
        "state": tally.condition,
        "why": tally.why,
        "budget": {"trials": tally.limit},
        "trials": {name: getattr(tally, name) for name in names},
        "metric": tally.metric,
        "direction": tally.direction,
        "best": shown,
        "queue": tally.queue,
        "takeovers": tally.takeovers,
        "eta_seconds": seen.eta_seconds.get(tally.study_id),
    }


@dataclass(frozen=True)
class _Part:
    """A piece of a bar, in percent of it."""

    state: str
    start: float
    width: float


def _bar(tally: Tally) -> Iterator[_Part]:
    whole, start = max(tally.limit, tally.ended + tally.running + tally.waiting, 1), 0.0
    for state, _ in _PARTS:
        width = 100 * getattr(tally, state) / whole
        if width:
            yield _Part(state, round(start, 2), round(width, 2))
        start += width


def _counts(tally: Tally) -> str:
    told = ((getattr(tally, state), name) for state, name in _PARTS)
    return ", ".join(f"{number:,} {name}" for number, name in told if number) or "none begun"


def _ago(seconds: float) -> str:
    return f"{wording.seconds(round(seconds))} ago" if seconds >= 1 else "just now"


def _last_line(reason: str) -> str:
    lines = reason.strip().splitlines() or [""]
    return lines[-1] if len(lines[-1]) <= 300 else f"{lines[-1][:299]}…"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("tunesvc.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "counts": _counts,
        "ago": _ago,
        "bar": _bar,
        "duration": wording.seconds,
        "last_line": _last_line,
        "number": lambda number: f"{number:,}",
        "value": wording.value,
    }
    return made
