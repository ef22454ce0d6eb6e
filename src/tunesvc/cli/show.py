"""How reports, studies and progress look in a terminal."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tunesvc.analysis.feasible import Fit
    from tunesvc.analysis.pareto_set import ParetoSet
    from tunesvc.check import Report
    from tunesvc.study import Status

GLUE = "\N{NO-BREAK SPACE}"  # holds two words on one line
console = Console(soft_wrap=True, highlight=False)
_LOG = logging.getLogger("tunesvc")
_MOST_IN_LINE = 3


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print nested facts as an indented outline, then the problems."""
    _outline({key: value for key, value in facts.items() if key != "problems"}, 0)
    problems = facts.get("problems", [])
    for problem in problems:
        console.print(Text.assemble(("problem: ", "bold red"), problem["what"]))
        for part in ("why", "fix"):
            if problem[part]:
                console.print(f"  {part}: {problem[part]}", markup=False)
    if not problems:
        console.print(Text("ok: nothing stands in the way", style="green"))


def print_report(report: Report) -> None:
    """Print what `tunesvc check` found."""
    print_facts(report.facts | {"problems": report.as_json()["problems"]})


def _outline(value: Any, depth: int) -> None:
    indent = "  " * depth
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            console.print(f"{indent}{key}:", markup=False)
            _outline(inner, depth + 1)
        elif isinstance(inner, list) and inner and isinstance(inner[0], Mapping):
            console.print(f"{indent}{key}:", markup=False)
            for item in inner:
                console.print(f"{indent}  {flat(item)}", markup=False)
        else:
            console.print(f"{indent}{key}: {flat(inner)}", markup=False)


def flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(flat, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


def duration(seconds: float) -> str:
    """Return seconds as `2d 03h`, `1h 02m`, `3m 20s` or `12s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24:02d}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def size(count: int) -> str:
    """Return a number of bytes as `12 B`, `3.4 kB`, `5.0 MB` or `6.7 GB`."""
    if count < 1000:
        return f"{count} B"
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.1f} {'kMG'[power - 1]}B"


def params(values: Mapping[str, Any]) -> str:
    """Return a configuration on one line, the backbone first."""
    first = sorted(values, key=lambda name: (name != "backbone", not name.startswith("strategy")))
    return "  ".join(f"{name}={flat(values[name])}" for name in first)


def counts(status: Status) -> str:
    """Return how many trials are in which state, on one line."""
    parts = [f"{done(status)} trials"]
    for state in ("complete", "pruned", "fail", "running", "waiting"):
        number = status.trials[state]
        parts += [f"{number} {state}"] if number else []
    parts += [f"{status.infeasible} of them infeasible"] if status.infeasible else []
    return ", ".join(parts)


def done(status: Status) -> str:
    """Return how many trials have ended, `3/30`; or `3`, where their number has no limit."""
    most = status.budget_trials
    return str(status.finished) if most is None else f"{status.finished}/{most}"


def spent(status: Status) -> str:
    """Return what is spent of the budgets besides trials, on one line; "" where there is none."""
    units = {"hours": "hours", "gpu_hours": "device hours", "epochs_total": "epochs"}
    budget, used = status.budget, status.spent
    return ", ".join(
        f"{used[key]:.4g} of {budget[key]:g} {unit}" for key, unit in units.items() if key in budget
    )


def best_line(status: Status) -> str:
    """Return the best trial so far on one line."""
    if status.best is None:
        return no_best(status)
    best = status.best
    return f"best {status.metric} {best.value:.4f} (trial {best.trial})  {params(best.params)}"


def no_best(status: Status) -> str:
    """Return why a study has no best trial, so far."""
    if status.none_fits:
        return f"no trial keeps the constraints, of {status.infeasible} that were measured by them"
    if status.infeasible:
        return f"no trial that keeps the constraints has ended yet ({status.infeasible} break them)"
    return "no trial has ended yet"


def pace(status: Status) -> str:
    """Return rate and remaining time on one line."""
    if status.state != "open":
        return status.state
    if status.rate_per_minute is None:
        return "rate: not known yet"
    left = "" if status.eta_seconds is None else f", {duration(status.eta_seconds)} left"
    return f"{status.rate_per_minute:.1f} trials/min{left}"


class Progress:
    """Live progress of a study: redrawn in a terminal, else a plain line whenever it changes."""

    def __init__(self, study: str, url: str | None, devices: list[str]) -> None:
        self._live = _live() if console.is_terminal else None
        self._notes = _Notes(self)
        self._counts = self._best = ""
        workers = f"{len(devices)} worker(s) on {', '.join(sorted(set(devices)))}"
        parts = [workers if devices else "", f"dashboard {url}" if url else ""]
        told = ", ".join(filter(None, parts))
        console.print(f"study {study}" + (f": {told}" if told else ""), markup=False)

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
            _LOG.addHandler(self._notes)
            _LOG.propagate = False  # a line on standard error would tear the display
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            _LOG.propagate = True
            _LOG.removeHandler(self._notes)
            self._live.stop()

    def note(self, line: str) -> None:
        """Print a line that stays."""
        (self._live.console if self._live else console).print(line, markup=False)

    def update(self, status: Status) -> None:
        """Show a new state."""
        if self._live:
            self._live.update(_picture(status, self._live.console.width))
            return
        if best_line(status) != self._best:
            self._best = best_line(status)
            console.print(self._best, markup=False)
        if counts(status) != self._counts:
            self._counts = counts(status)
            told = (self._counts, spent(status), pace(status))
            console.print("; ".join(filter(None, told)), markup=False)


class _Notes(logging.Handler):
    """Prints what is logged above the display."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.note(record.getMessage())


def _live() -> Live:
    """Return a display that wraps its lines itself, so that it knows how many to redraw."""
    return Live(console=Console(highlight=False), refresh_per_second=4, transient=True)


def _picture(status: Status, width: int) -> Group:
    bar = Table.grid()  # a bar alone ends without a new line
    bar.add_row(ProgressBar(total=1, completed=_share(status), width=20))
    return Group(
        Text(counts(status)),
        *([Text(spent(status))] if spent(status) else []),
        Text(pace(status)),
        *([bar] if width >= 60 else []),
        Text(best_line(status), style="green"),
    )


def _share(status: Status) -> float:
    """Return how much is done, 0 to 1: of the trials, or of the budget that ends first."""
    used = status.spent | {"trials": status.finished}
    return min(1.0, max(used[key] / most for key, most in status.budget.items() if most))


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table; plain columns where the output is not a terminal."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < 2 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    wide = console if console.is_terminal else Console(file=sys.stdout, width=200, highlight=False)
    wide.print(made)


def wrapped(told: str, start: str = "") -> None:
    """Print words in the width of the terminal, the lines after the first below its words."""
    lines = textwrap.fill(
        told,
        max(console.width, len(start) + 20),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(lines.replace(GLUE, " "), markup=False)


def print_status(status: Status, unbeaten: Sequence[ParetoSet] = ()) -> None:
    """Print how far a study is."""
    why = f": {status.why}" if status.why else ""
    of = f"; it runs the best of {status.confirms} again" if status.confirms else ""
    console.print(f"study {status.study}: {status.state}{why}{of}", markup=False)
    console.print(f"  {counts(status)}{_takeovers(status)}", markup=False)
    if spent(status):
        console.print(f"  spent: {spent(status)}", markup=False)
    console.print(f"  {best_line(status)}", markup=False)
    for each in unbeaten:
        if each.members:
            console.print(f"  {pareto_line(each)}", markup=False)
    if status.state == "open" and not status.trials["running"]:
        again = f"tunesvc worker --study {status.study} --until-done"
        console.print(f"  no worker is running; continue with: {again}", markup=False)
    elif status.state == "open":
        console.print(f"  {pace(status)}", markup=False)
    elif status.state == "paused":
        console.print(
            f"  go on with:  {_mended(status)}tunesvc resume {status.study}", markup=False
        )
    elif status.why:
        more = f"tunesvc up FILE --set budget.{status.over}=…"
        console.print(f"  give it more with:  {more}", markup=False)


def pareto_line(found: ParetoSet) -> str:
    """Return a Pareto set on one line, its best first."""
    told = [_short(fit, found.against) for fit in found.members[:_MOST_IN_LINE]]
    more = len(found.members) - len(told)
    rest = f", and {more} more" if more else ""
    return f"Pareto set of {found.metric}, {', '.join(found.against)}: {'; '.join(told)}{rest}"


def _short(fit: Fit, against: Iterable[str]) -> str:
    told = ", ".join(flat(fit.told[name]) for name in against)
    return f"{fit.value:.4f}, {told} (trial {fit.trial})"


def _mended(status: Status) -> str:
    return f"tunesvc retry {status.study} --failed;  " if status.why else ""


def _takeovers(status: Status) -> str:
    """Tell how many workers were lost in the middle of a trial: none of the trials was."""
    if not status.takeovers:
        return ""
    times = "once" if status.takeovers == 1 else f"{status.takeovers} times"
    return f"; taken over from a lost worker {times}"
