"""The command that writes a study's model as a folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunesvc.cli.heap import imported
from tunesvc.cli.options import Device, Json, Storage, StudyName, print_json

if TYPE_CHECKING:
    from tunesvc.export import Written
    from tunesvc.exported import Evaluation


def export(
    name: StudyName,
    into: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", metavar="DIR")],
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="This trial.")] = None,
    best: Annotated[
        bool,
        typer.Option("--best", help="The best trial (default); where confirmed, the winner of it."),
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", metavar="CAPS", help='The best of what fits: "latency_ms <= 3"; as in best.'
        ),
    ] = None,
    refit: Annotated[
        Literal["train", "train+val"] | None,
        typer.Option("--refit", help="Train the configuration anew, on these images."),
    ] = None,
    soup: Annotated[
        int | None,
        typer.Option(
            "--soup",
            min=2,
            metavar="K",
            help="Average the weights of up to K kept models, where that is better.",
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Write model.onnx too.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    device: Device = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write a model as a folder: weights, torch.export, ONNX, a model card, its whole story.

    Stopped or killed, it leaves no folder. The test split is scored once, of what is written.
    """
    with imported():
        from tunesvc import places, study
        from tunesvc.errors import UsageError
        from tunesvc.export import Wish
        from tunesvc.export import export as write
        from tunesvc.interrupt import Stopped, stoppable
        from tunesvc.storage import open_store
        from tunesvc.storage.artifacts import open_artifacts

    if best and (trial is not None or where is not None):
        raise UsageError("--best goes without --trial and --where", "each says which trial")
    wish = Wish(trial, where, refit, soup, onnx, force)
    try:
        with stoppable(), open_store(storage) as store:
            written = write(
                study.open_study(store, name), wish, into,
                shelf=open_artifacts(places.artifacts()), cache=places.cache(), device=device,
                say=_to_stderr if as_json else typer.echo,
            )  # fmt: skip
    except Stopped as stop:
        again = shlex.join(["tunesvc", *sys.argv[1:]])
        typer.echo(f"stopped; nothing was written. Begin again:  {again}", err=True)
        raise typer.Exit(130) from stop
    if as_json:
        print_json(written.as_json())
    else:
        _print(written)


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)


def _print(written: Written) -> None:
    from tunesvc.cli import show

    told = written.record.selection
    first = written.record.runs[0]
    typer.echo()
    typer.echo(f"trial {told['trial']} of {told['of_study']} ({first.label}) in {written.path}")
    _tell("validation", written.validation, written.record.metric)
    _tell("test", written.test, written.record.metric)
    files = ((file, show.size(count)) for file, count in written.files.items())
    show.table(("file", "size"), files)
    typer.echo(
        f"took {show.duration(written.seconds)}; use it:  tunesvc predict {written.path} IMAGE"
    )


def _tell(split: str, found: Evaluation | None, metric: str) -> None:
    from tunesvc.export.card import with_interval

    if found is not None:
        told = with_interval(found.metrics[metric])
        typer.echo(f"  {split:<11} {metric} {told} on {found.images} images")
