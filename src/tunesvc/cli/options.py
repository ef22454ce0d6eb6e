"""Options that several commands share, and how they print JSON."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Postgres URL without a password (that belongs into TUNESVC_STORAGE or ~/.pgpass). "
        "Default: $TUNESVC_STORAGE, else the embedded server.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the file, e.g. budget.trials=50.", metavar="K=V"),
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the study; default: the file's.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps; default: the best there is.")
]
StudyName = Annotated[str, typer.Argument(help="Name of the study.", metavar="STUDY")]


def print_json(value: Any) -> None:
    """Write a value to standard output as indented JSON; NaN and infinities become null."""
    json.dump(_finite(value), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    is_odd = isinstance(value, float) and value - value != 0
    return None if is_odd else value
