"""Options that several commands share, and how they print JSON."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

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
WorkerDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, mps; free: the first accelerator that no other worker of this "
        "host holds, waiting for one if need be. Default: the best there is.",
    ),
]
Compile = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        "--compile",
        help="Compile training steps (torch.compile): auto: where this machine has measured that "
        "it pays, or 15 minutes of training are left to find out; on: wherever possible.",
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        "--precision",
        help="Of matrix products and convolutions. auto: bfloat16 on CUDA devices that have it, "
        "float16 with scaled losses on older ones with tensor cores, and bfloat16 on CPUs for nets "
        "that train faster with it. `tunesvc cost` shows what each takes.",
    ),
]
NoEstimate = Annotated[
    bool,
    typer.Option(
        "--no-estimate", help="Do not try, for some seconds, how long the study will take."
    ),
]
StudyName = Annotated[str, typer.Argument(help="Name of the study.", metavar="STUDY")]


def print_json(value: Any) -> None:
    """Write a value to standard output as indented JSON; NaN and infinities become null."""
    sys.stdout.write(as_json(value))


def as_json(value: Any) -> str:
    """Return a value as indented JSON with a line's end; NaN and infinities become null."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Return a value with null for NaN and infinities, which are no JSON."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    is_odd = isinstance(value, float) and value - value != 0
    return None if is_odd else value
