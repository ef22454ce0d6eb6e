"""The command that says what an exported model sees on images."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesvc.cli.heap import imported
from tunesvc.cli.options import Device, finite

if TYPE_CHECKING:
    from tunesvc.exported import Model, Prediction

_SIGPIPE = 141  # as the shell tells that nobody reads on

Directory = Annotated[Path, typer.Argument(help="Exported model.", metavar="DIR")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time.")]

_Shown = Callable[[Path, "Prediction"], str]


def predict(
    directory: Directory,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, or - for paths on standard input.", metavar="IMAGE|FOLDER|-…"
        ),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to name, at most.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per image.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table, one line per image.")] = False,
    batch_size: BatchSize = 32,
    device: Device = None,
) -> None:
    """Tell what an exported model sees on images, as they come; needs the folder only.

    An image that cannot be read is told on standard error. If none can be, the exit code is 4.
    """
    from tunesvc.errors import DataError, UsageError

    if as_json and as_csv:
        raise UsageError("--json and --csv are given", "there is one output", "leave one out")
    model = loaded(directory, device)
    shown = _as_json if as_json else _as_csv(model, top) if as_csv else _as_text
    try:
        read_, bad = _run(model, images, top, batch_size, shown)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_SIGPIPE) from None
    if not read_:
        raise DataError(
            f"none of the {bad} images can be read" if bad else "no images there",
            "" if bad else f"looked at {', '.join(images)}",
            "" if bad else "name images, or folders that hold some",
        )


def loaded(directory: Path, device: str | None) -> Model:
    """Return an exported model on a device; it computes in float32, whatever it trains in there.

    Raises:
        UsageError, WeightsError: as `exported.load`.
    """
    with imported():
        from tunesvc import exported
        from tunesvc.train import place

    return exported.opened(exported.read(directory), place(device).settled(autocast=False))


def _run(
    model: Model, names: list[str], top: int, batch_size: int, shown: _Shown
) -> tuple[int, int]:
    """Print what is seen; return how many images were read, and how many were not."""
    from tunesvc.exported import paths
    from tunesvc.exported.stream import stream

    counts = [0, 0]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files
    with _progress() as (tell, complain):
        for batch in stream(
            model.pixels, model.outputs, paths.images(names), batch_size=batch_size,
            is_patient=paths.STDIN not in names,
        ):  # fmt: skip
            found = model.answers(batch.errors, batch.outputs, top)
            for path, prediction in zip(batch.items, found, strict=True):
                counts[bool(prediction.error)] += 1
                if prediction.error:
                    complain(f"{path}: cannot be read: {prediction.error}")
                sys.stdout.write(shown(path, prediction))
            sys.stdout.flush()
            tell(sum(counts))
    return counts[0], counts[1]


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    """Lend what tells of progress, where that is to be seen and disturbs nothing, and of errors."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    start = time.perf_counter()
    if not console.is_terminal or sys.stdout.isatty():
        yield lambda _: None, console.print
        return
    # Without a word it would send standard output to the terminal, too.
    with Live(console=console, transient=True, redirect_stdout=False) as live:

        def tell(count: int) -> None:
            rate = count / (time.perf_counter() - start)
            live.update(f"{count:,} images, {rate:,.0f} a second", refresh=True)

        yield tell, console.print


def _as_json(path: Path, prediction: Prediction) -> str:
    return json_text({"path": str(path), **prediction.as_json()})


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON with a line's end.

    It is ASCII, as file names may be any bytes, and terminals of any kind; NaN and infinities
    become null.
    """
    return json.dumps(finite(value), indent=indent, allow_nan=False) + "\n"


def _as_text(path: Path, prediction: Prediction) -> str:
    if prediction.error:
        return ""
    if prediction.value is not None:
        return f"{path}  {prediction.value:.6g}\n"
    named = [f"{label} {share:.4f}" for label, share in _ranked(prediction)]
    return f"{path}  {', '.join(named) or prediction.label}\n"


def _ranked(prediction: Prediction) -> list[tuple[str, float]]:
    """Return as many classes as were asked for: the predicted one, then the most probable ones."""
    label, share, top = prediction.label, prediction.probability, prediction.top
    if label is None or share is None:
        return []
    others = [each for each in top if each[0] != label]
    return [(label, share), *others][: len(top)]


def _as_csv(model: Model, top: int) -> _Shown:
    """Write the head of the table; return what makes its lines."""
    many = min(top, len(model.classes))
    columns = ["value"]
    if model.task.target == "class":
        columns = ["label", "probability"]
        columns += [f"{name}_{place}" for place in range(2, many + 1) for name in columns[:2]]
    sys.stdout.write(_line(["path", *columns, "error"]))

    def shown(path: Path, prediction: Prediction) -> str:
        cells: list[Any] = [] if prediction.value is None else [prediction.value]
        for label, share in _ranked(prediction) or ((prediction.label, ""),):
            cells += [label, share] if prediction.value is None else []
        cells += [""] * (len(columns) - len(cells))
        return _line([str(path), *cells, prediction.error])

    return shown


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
