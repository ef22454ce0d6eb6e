"""What a study has found, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tunesvc.cli.show import GLUE, console, counts, flat, no_best, params, table, wrapped
from tunesvc.cli.show_pareto import print_pareto

if TYPE_CHECKING:
    from tunesvc.analysis.strategy_table import Cell
    from tunesvc.results import Results
    from tunesvc.study import Probed

LEGEND = "median and spread (interquartile range) of finished trials; – : none finished"
LEAGUE = "linear probe: a linear layer on the frozen backbone, fitted to the end; no trial"


def print_results(found: Results) -> None:
    """Print the best configuration, its metrics, and the table of backbone × strategy."""
    status = found.status
    if status.best is None:
        _print_none(found)
        return
    lower = " (lower is better)" if status.direction == "minimize" else ""
    console.print(f"best of {counts(status)}: trial {status.best.trial}", markup=False)
    _entry("tuned", params(status.best.params))
    untouched = {k: v for k, v in found.knobs.items() if k not in _knob_names(status.best.params)}
    _entry("as default", params(untouched))
    _entry("validation", _metrics(found.validation, status.metric))
    _entry("tuned for", f"{status.metric}{lower}{_also(found)}")
    if found.untuned is not None:
        _entry("untuned", _untuned(found))
    missing = "not scored: no test split (data.split.test holds one out), or not by this machine"
    _entry("test", _metrics(found.test, status.metric) if found.test else missing)
    console.print()
    columns = ("backbone", "strategy", "best", "median", "spread", "s/trial", "finished", "pruned")
    table(columns, (_strategy_row(row) for row in found.table))
    wrapped(LEGEND)
    print_pareto(found.pareto)
    if found.league:
        console.print()
        table(
            ("backbone", "l2", f"linear probe: {status.metric}", "seconds"),
            (_league_row(each, status.metric) for each in found.league),
        )
        wrapped(LEAGUE)


def _print_none(found: Results) -> None:
    """Say that there is no best trial, and which comes nearest to the constraints."""
    status, nearest = found.status, found.nearest
    console.print(f"study {status.study}: {no_best(status)}", markup=False)
    if nearest is not None:
        wrapped(f"trial {nearest.trial}, {nearest.told}", "  nearest  ")


def _also(found: Results) -> str:
    """Return what else is an objective."""
    others = list(found.status.objectives)[1:]
    return f"; also weighed: {', '.join(others)}" if others else ""


def _entry(name: str, told: str) -> None:
    wrapped(told, f"  {name:<12}")


def _untuned(found: Results) -> str:
    number, value = found.untuned or (0, 0.0)
    if found.status.best and found.status.best.trial == number:
        return "the default won: no other configuration was better"
    gain = found.validation[found.status.metric] - value
    same = f"the same backbone at its defaults, trial {number}"
    return f"{found.status.metric} {value:.4f} ({same}); tuning changed it by {gain:+.4f}"


def _knob_names(names: Iterable[str]) -> set[str]:
    return {name.partition("@")[0] for name in names}


def _metrics(values: Mapping[str, float], first: str) -> str:
    ordered = sorted(values, key=lambda name: (name != first, name))
    return "  ".join(f"{name}{GLUE}{values[name]:.4f}" for name in ordered)


def _strategy_row(row: Cell) -> tuple[str, ...]:
    numbers = [flat(None) if n is None else f"{n:.4f}" for n in (row.best, row.median, row.spread)]
    seconds = flat(None) if row.seconds is None else f"{row.seconds:.1f}"
    return row.backbone, row.strategy, *numbers, seconds, str(row.finished), str(row.pruned)


def _league_row(entry: Probed, metric: str) -> tuple[str, ...]:
    value = entry.metrics.get(metric)
    if value is None:
        return entry.backbone, flat(None), entry.why or flat(None), flat(None)
    return entry.backbone, f"{entry.l2:.0e}", f"{value:.4f}", f"{entry.seconds:.1f}"
