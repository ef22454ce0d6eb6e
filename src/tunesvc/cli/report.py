"""The command that tells what a study found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc.cli.options import Storage, print_json

if TYPE_CHECKING:
    from tunesvc.report import Report
    from tunesvc.report.evidence import Evidence

_BESIDE = "index"  # the page of several studies side by side, unless a study has that name


class Format(StrEnum):
    """How a report is written."""

    html = "html"
    md = "md"
    json = "json"


def report(
    names: Annotated[
        list[str], typer.Argument(help="One study, or several side by side.", metavar="STUDY…")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder to write to. Default: reports; md and json are printed."
        ),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Page, text or data.")] = Format.html,
    storage: Storage = None,
) -> None:
    """Tell what a study found: which configuration, what it buys, how sure; what to tune."""
    from tunesvc import report as reports
    from tunesvc import study
    from tunesvc.storage import open_store

    names = list(dict.fromkeys(names))
    with open_store(storage) as store:
        opened = [study.open_study(store, name) for name in names]
        looked: dict[str, Evidence] = {}
        told = {each.name: reports.told(each, looked=looked) for each in opened}
        beside = reports.beside(opened, looked=looked) if len(opened) > 1 else None
    if out is None and form is not Format.html:
        _print([beside, *told.values()] if beside else list(told.values()), form)
        return
    folder = out or Path("reports")
    files = _pages(told, beside) if form is Format.html else _texts(told, beside, form)
    for name, text in files.items():
        _write(folder / name, text)
    for sentence in (beside or next(iter(told.values()))).sentences:
        typer.echo(sentence)
    first = f"{_overview(told) if beside else names[0]}.{form.value}"
    typer.echo(f"\nwritten: {folder / first}")


def _print(told: Sequence[Report], form: Format) -> None:
    from tunesvc.report import markdown

    if form is Format.json:
        known = [each.as_json() for each in told]
        print_json(known[0] if len(known) == 1 else known)
    else:
        typer.echo("\n".join(markdown(each) for each in told), nl=False)


def _pages(told: dict[str, Report], beside: Report | None) -> dict[str, str]:
    """Return the pages by file name; several share one copy of the drawing library."""
    from tunesvc.report import PLOTLY, drawing_library, html

    if beside is None:
        return {f"{name}.html": html(each) for name, each in told.items()}
    links = [(name, f"{name}.html") for name in told]
    overview = f"{_overview(told)}.html"
    back = [("All studies side by side", overview)]
    pages = {f"{name}.html": html(each, shared=True, others=back) for name, each in told.items()}
    first = {overview: html(beside, shared=True, others=links)}
    return pages | first | {PLOTLY: drawing_library()}


def _texts(told: dict[str, Report], beside: Report | None, form: Format) -> dict[str, str]:
    from tunesvc.cli.options import as_json
    from tunesvc.report import markdown

    every = told | ({_overview(told): beside} if beside else {})
    if form is Format.md:
        return {f"{name}.md": markdown(each) for name, each in every.items()}
    return {f"{name}.json": as_json(each.as_json()) for name, each in every.items()}


def _overview(studies: Iterable[str]) -> str:
    """Return the overview's name, which is none of the studies': two may differ by case only."""
    taken = {name.casefold() for name in studies}
    names = chain([_BESIDE], (f"{_BESIDE}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def _write(path: Path, text: str) -> None:
    from tunesvc.shelf import whole

    with whole(path) as file:
        file.write(text.encode())
