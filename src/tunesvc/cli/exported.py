"""Commands that measure an exported model, and train it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc.cli.heap import imported
from tunesvc.cli.options import Device, Json
from tunesvc.cli.predict import BatchSize, Directory, json_text, loaded

if TYPE_CHECKING:
    from tunesvc.exported import Compared, EpochCompared, Evaluation, Measured, Reproduction

_MOST_CLASSES = 12  # that a table of the terminal has room for
_MISTAKES = 10


def evaluate(
    directory: Directory,
    data: Annotated[
        Path,
        typer.Argument(
            help="Class folders, a table (.csv), arrays (.npz) or a study file.", metavar="DATA"
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="train, val or test. Default: test; all, where it is not divided; of the study's "
            "own data without a test split, val.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Picture to write: .png, .svg or .html.", metavar="FILE"),
    ] = None,
    batch_size: BatchSize = 32,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure an exported model on images with known classes or numbers, with 95 % intervals."""
    with imported():
        from tunesvc.exported import evaluate as measured
        from tunesvc.exported import picture

    if out is not None:
        picture.check(out)
    model = loaded(directory, device)
    with _counting() as tell:
        found = measured(model, data, split=split, batch_size=batch_size, on_images=tell)
    if out is not None:
        title = f"{directory.resolve().name} on {data.name}"
        picture.write(picture.draw(found, title), out, _as_text(found))
    if as_json:
        typer.echo(json_text(found.as_json(), indent=2), nl=False)
        return
    for name, why in found.skipped:
        typer.echo(f"{name}: cannot be read: {why}", err=True)
    if found.remark:
        typer.echo(f"note: {found.remark}", err=True)
    _print(found)
    if out is not None:
        typer.echo(f"wrote {out}")


@contextmanager
def _counting() -> Iterator[Callable[[int], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield lambda count: status.update(f"{count:,} images")


def _print(found: Evaluation) -> None:
    from tunesvc.cli import show

    left_out = f", {len(found.skipped)} left out" if found.skipped else ""
    typer.echo(f"{found.images:,} images{left_out}")
    rows = [(name, *_cells(each)) for name, each in found.metrics.items()]
    show.table(("metric", "value", "95 % interval", "by"), rows)
    if found.confusion is None:
        return
    typer.echo()
    if len(found.classes) <= _MOST_CLASSES:
        counts = zip(found.classes, found.confusion.tolist(), strict=True)
        lines = ((name, *map(str, row)) for name, row in counts)
        show.table(("true \\ predicted", *found.classes), lines)
    elif mistakes := _mistakes(found):
        show.table(("true", "predicted", "images"), mistakes)


def _cells(measured: Measured) -> tuple[str, str, str]:
    if measured.low is None or measured.high is None:
        return f"{measured.value:.4f}", "–", "–"
    return f"{measured.value:.4f}", f"{measured.low:.4f} … {measured.high:.4f}", measured.how


def _mistakes(found: Evaluation) -> list[tuple[str, str, str]]:
    """Return which classes are taken for which others most often."""
    assert found.confusion is not None
    pairs = [
        (count, true, said)
        for true, row in zip(found.classes, found.confusion.tolist(), strict=True)
        for said, count in zip(found.classes, row, strict=True)
        if count and true != said
    ]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:_MISTAKES]
    return [(true, said, str(count)) for count, true, said in worst]


def _as_text(found: Evaluation) -> str:
    lines = [f"{found.images} images; value and 95 % interval"]
    lines += [found.remark] if found.remark else []
    lines += [f"{name:<20}{'  '.join(_cells(each)[:2])}" for name, each in found.metrics.items()]
    return "\n".join(lines)


def reproduce(
    directory: Directory,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Where the data lies now. Default: where the study had it.",
            metavar="PATH",
        ),
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train an exported model again from its study.json, with the same seeds, and compare.

    Nothing is written, no study is needed. The exit code is 1 where the objective lies further off
    than the study's noise explains.
    """
    with imported():
        from tunesvc.exported import reproduce as again

    def tell(epoch: EpochCompared) -> None:
        typer.echo(_epoch(epoch), err=as_json)

    found = again(directory, data_path=data, device=device, on_epoch=tell)
    if as_json:
        typer.echo(json_text(found.as_json(), indent=2), nl=False)
    else:
        _print_reproduction(found)
    if found.verdict == "outside noise":
        raise typer.Exit(1)


def _epoch(epoch: EpochCompared) -> str:
    trial = "" if epoch.trial is None else f"trial {epoch.trial} "
    values = ", ".join(f"{name} {_then_and_now(each)}" for name, each in epoch.values.items())
    return f"{trial}epoch {epoch.epoch}: {values or 'nothing was recorded of it'}"


def _then_and_now(compared: Compared) -> str:
    if compared.difference == 0:
        return f"{compared.again:.4f} (the same)"
    return f"{compared.again:.4f} (found {compared.found:.4f}, {compared.difference:+.2g})"


def _print_reproduction(found: Reproduction) -> None:
    for name, metrics in (("validation", found.validation), ("test", found.test)):
        for metric, each in metrics.items():
            typer.echo(f"{name} {metric}: {_then_and_now(each)}")
    odd = {
        "the data is not the same: its fingerprint is another": found.same_data,
        "the pretrained weights are not the same file": found.same_weights,
        "the device, its precision or its threads are others": found.same_hardware,
    }
    for words, is_same in odd.items():
        if not is_same:
            typer.echo(f"note: {words}")
    typer.echo(_verdict(found))


def _verdict(found: Reproduction) -> str:
    match found.verdict:
        case "identical":
            return "reproduced: the model is the same, bit for bit"
        case "differs":
            return "trained again: the model is another, and how far chance goes is not known"
    assert found.final is not None
    off = f"{found.metric} is {found.final.difference:+.4f} off"
    if found.verdict == "within noise":
        return f"reproduced: {off}, within the study's noise (±{found.band:.4f})"
    return f"not reproduced: {off}, which is outside the study's noise (±{found.band:.4f})"
