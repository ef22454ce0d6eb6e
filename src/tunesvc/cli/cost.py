"""The command that tells what backbones cost."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesvc.cli.heap import imported
from tunesvc.cli.options import Device, Json, Precision, print_json

if TYPE_CHECKING:
    from tunesvc.cost import Costs
    from tunesvc.errors import TuneError

_RECKONED = {
    "pixels": "image_size",
    "params M": "params_m",
    "GFLOPs": "flops_g",
    "MiB": "size_mb",
    "bf16": "size_bf16_mb",
    "int8": "size_int8_mb",
    "infer MiB": "infer_memory_mb",
    "train MiB": "train_memory_mb",
}
_MEASURED = {
    "ms": "latency_ms",
    "p95": "latency_p95_ms",
    "ms/N": "batch_latency_ms",
    "images/s": "images_per_second",
    "s/epoch": "epoch_seconds",
    "J/image": "energy_j",
}

_RECKONED_WORDS = (
    "GFLOPs: of one image, a multiply-add counts as two (papers often tell half of it). MiB, bf16, "
    "int8: the file in float32, in bfloat16, and with linear layers in 8 bits (dynamic). infer "
    "MiB: one image, reckoned. train MiB: a step with a batch of {told.batch_size}, all parameters "
    "trained, {told.train_memory_kind}."
)
_MEASURED_WORDS = (
    "ms, p95: latency of one image, median and 95th percentile. ms/N, images/s: of a batch of "
    "{told.batch_size}. s/epoch: training steps of {told.epoch_images:,} images, without reading "
    "them. On {told.device_name} ({told.device}), {told.precision}, threads: {told.threads}."
)


def cost(
    backbones: Annotated[list[str], typer.Argument(help="Names.", metavar="BACKBONE…")],
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=8, help="Side in pixels; default: as it was pretrained."),
    ] = None,
    num_classes: Annotated[
        int, typer.Option("--num-classes", min=1, help="Outputs of the head.")
    ] = 1000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=2, help="N, of inference in batches and training.")
    ] = 32,
    images: Annotated[
        int, typer.Option("--images", min=1, help="How many make the epoch of s/epoch.")
    ] = 1000,
    static: Annotated[
        bool, typer.Option("--static", help="Only what is reckoned: run nothing.")
    ] = False,
    device: Device = None,
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Show what backbones cost: size, operations, memory, time. No study, no weights needed."""
    with imported():
        from tunesvc.backbones import build, skeleton
        from tunesvc.cost import measure
        from tunesvc.spec import BackboneSpec
        from tunesvc.train import place

    placed = place(device, precision=precision)

    def measured(name: str) -> Costs:
        make = skeleton if static else build
        spec = BackboneSpec(name=name, weights="none")
        backbone = make(spec, num_classes, base=Path(), image_size=image_size)
        return measure(
            *(backbone, placed), num_outputs=num_classes, batch_size=batch_size,
            epoch_images=images, is_run=not static,
        )  # fmt: skip

    found = {name: _tried(name, measured) for name in backbones}
    if as_json:
        print_json([_as_json(name, told) for name, told in found.items()])
    else:
        _print({name: told for name, told in found.items() if not isinstance(told, Exception)})
    _complain([told for told in found.values() if isinstance(told, Exception)])


def _tried(name: str, measured: Callable[[str], Costs]) -> Costs | TuneError:
    """Return what a backbone costs, or why that cannot be told: the others' can."""
    from tunesvc.cli import show
    from tunesvc.errors import TuneError, UsageError

    try:
        with show.console.status(f"measuring {name}"):
            return measured(name)
    except TuneError as error:
        return error
    except Exception as error:  # a model can end in any error where images do not suit it
        first = next(iter(str(error).splitlines()), "")
        return UsageError(
            f"{name}: it does not run with these images",
            f"{type(error).__name__}: {first}",
            "try another --image-size, or a smaller --batch-size",
        )
    finally:
        gc.collect()  # the model's memory, before the next one is built


def _as_json(name: str, told: Costs | TuneError) -> dict[str, Any]:
    if isinstance(told, Exception):
        return {"backbone": name, "error": told.what, "why": told.why, "fix": told.fix}
    return {"backbone": name, **told.as_dict()}


def _print(found: Mapping[str, Costs]) -> None:
    from tunesvc.cli import show

    if not found:
        return
    first = next(iter(found.values()))
    _table(found, _RECKONED)
    show.wrapped(_RECKONED_WORDS.format(told=first))
    if first.latency_ms is not None:
        typer.echo()
        _table(found, _MEASURED)
        show.wrapped(_MEASURED_WORDS.format(told=first))


def _table(found: Mapping[str, Costs], columns: Mapping[str, str]) -> None:
    """Print the columns of which at least one backbone has a number."""
    from tunesvc.cli import show

    rows = {name: told.as_dict() for name, told in found.items()}
    known = {
        title: k for title, k in columns.items() if any(r[k] is not None for r in rows.values())
    }
    show.table(
        ("backbone", *known),
        ((name, *(_number(row[key]) for key in known.values())) for name, row in rows.items()),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _complain(errors: Sequence[TuneError]) -> None:
    """Tell every error, and end in the last one's exit code."""
    for error in errors[:-1]:
        typer.echo(f"error: {error}", err=True)
    if errors:
        raise errors[-1]
