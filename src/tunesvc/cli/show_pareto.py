"""The trials that no other beats, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunesvc.cli.show import console, flat, table, wrapped

if TYPE_CHECKING:
    from tunesvc.analysis.feasible import Fit
    from tunesvc.analysis.pareto_set import ParetoSet

MOST_ROWS = 8


def print_pareto(found: Sequence[ParetoSet]) -> None:
    """Print the Pareto sets as one table: the best first; nothing where there is none."""
    known = [each for each in found if each.members]
    if not known:
        return
    names = list(dict.fromkeys(name for each in known for name in each.against))
    rows = _rows(known)
    console.print()
    over = ", or in ".join(" and ".join([each.metric, *each.against]) for each in known)
    wrapped(f"Pareto set: no other trial beats these in {over}")
    mark = ["unbeaten in"] if len(known) > 1 else []
    columns = ("trial", "backbone", "strategy", known[0].metric, *names, *mark)
    table(columns, (_row(fit, names, known) for fit in rows[:MOST_ROWS]))
    if len(rows) > MOST_ROWS:
        console.print(f"and {len(rows) - MOST_ROWS} more: --json has them all")
    for line in dict.fromkeys(_remarks(known)):
        wrapped(line)


def _rows(known: Sequence[ParetoSet]) -> list[Fit]:
    """Return every member once, with all that is told of it; the best first."""
    found: dict[int, Fit] = {}
    for each in known:
        for fit in each.members:
            found.setdefault(fit.trial, fit)
    sign = -1 if known[0].direction == "maximize" else 1
    return sorted(found.values(), key=lambda fit: (sign * fit.value, fit.trial))


def _row(fit: Fit, names: Sequence[str], known: Sequence[ParetoSet]) -> tuple[str, ...]:
    own = [each for each in known if fit.trial in {one.trial for one in each.members}]
    places = [", ".join(name for each in own for name in each.against)] if len(known) > 1 else []
    values = (flat(fit.told.get(name)) for name in names)
    return str(fit.trial), fit.backbone, fit.strategy, f"{fit.value:.4f}", *values, *places


def _remarks(known: Sequence[ParetoSet]) -> Iterator[str]:
    for each in known:
        if each.left_out:
            total = each.among + each.left_out
            yield (
                f"{each.left_out} of {total} finished trials are left out: "
                f"not all of {', '.join(each.against)} is known of them"
            )
        if each.disturbed:
            yield (
                f"{each.disturbed} of them were told too high a latency, since other work had the "
                "cores: a trial of the same net was told a much lower one"
            )
        if len(each.measured_on) > 1:
            yield f"latencies are of different devices: {'; '.join(each.measured_on)}"
