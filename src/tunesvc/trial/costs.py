"""What a trial stores of its model's costs, besides its counts: sizes, inference's memory, latency.

Why: 2026-11: the latency is measured where a trial begins, before its first batch, on the model as
it stands on the device: a quarter of a second, and only for the first trial of a backbone on a
host, or, where other work disturbed that, of a worker (see `cost.kept`). The batch is small on a
CPU, where a large one of a large net takes seconds. `TUNESVC_LATENCY=off` spares it, for machines
whose latency nobody will ask for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision

from tunesvc import cost
from tunesvc.backbones import Backbone
from tunesvc.cost import Ledger, Timing, kept
from tunesvc.study import is_latency_off
from tunesvc.train import Placement, Run

log = logging.getLogger(__name__)

_SECONDS = 0.1  # of runs that count


def of_model(ledger: Ledger, key: str, training: Run, cache: Path) -> dict[str, Any]:
    """Return file sizes and inference's peak in MiB, and the latency of one image and of a batch.

    Args:
        key: of the model in the ledger.
        cache: this machine's folder for what can be made again.
    """
    told = of_shapes(ledger, key, training.backbone)
    for name, batch_size in (("latency", 1), ("batch_latency", _batch_size(training))):
        told[name] = _latency(ledger, key, training, cache / "latency", batch_size)
    return told


def of_shapes(ledger: Ledger, key: str, backbone: Backbone) -> dict[str, Any]:
    """Return file sizes and inference's peak in MiB; the parameters may be on "meta"."""
    return {
        "size_mb": _rounded(ledger.size_mb(key, backbone)),
        "size_bf16_mb": _rounded(ledger.size_mb(key, backbone, "bfloat16")),
        "size_int8_mb": _rounded(ledger.size_mb(key, backbone, "int8")),
        "infer_memory_mb": _rounded(ledger.inference_memory_mb(key, backbone)),
    }


def latency_again(known: dict[str, Any], key: str, training: Run, cache: Path) -> dict[str, Any]:
    """Return a latency that other work disturbed, measured once more: the lower of both."""
    try:
        timing = kept.fetch(cache / "latency", *_what(key, training, 1))
    except Exception as error:  # a plugin's model can do anything: its trial has trained
        log.info("a latency could not be measured again: %s", error)
        return known
    return min(known, _told(timing, training, 1), key=lambda each: float(each["ms"]))


def _batch_size(training: Run) -> int:
    return 8 if training.placement.device.type == "cpu" else 32


def _latency(
    ledger: Ledger, key: str, training: Run, folder: Path, batch_size: int
) -> dict[str, Any] | None:
    """Return median and 95th percentile in ms, and on what they were measured."""
    if is_latency_off():
        return None
    kind, measure = _what(key, training, batch_size)
    timing = ledger.timing(kept.name(kind), lambda: kept.fetch(folder, kind, measure))
    return None if timing is None else _told(timing, training, batch_size)


def _what(key: str, training: Run, batch_size: int) -> tuple[dict[str, Any], Callable[[], Timing]]:
    """Return what a latency hangs on, and what measures it."""
    side, placed = training.backbone.transform.crop, _placed(training)
    kind = {"model": key, **_where(training)}
    if batch_size == 1:
        return kind, lambda: cost.inference(training.module, side, placed, seconds=_SECONDS)
    return (
        {**kind, "batch": batch_size},
        lambda: cost.batch_inference(training.module, side, placed, batch_size, seconds=_SECONDS),
    )


def _placed(training: Run) -> Placement:
    """Return where, and how, the model is timed.

    On a CPU in float32, whatever it is trained in: an exported model computes in that.
    """
    placed = training.placement
    return placed.settled(autocast=False) if placed.device.type == "cpu" else placed


def _where(training: Run) -> dict[str, Any]:
    where = _placed(training).describe()
    del where["device"]  # cards of one name are alike
    return where | {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}


def _told(timing: Timing, training: Run, batch_size: int) -> dict[str, Any]:
    spent = {} if timing.joules is None else {"joules": round(timing.joules, 4)}
    return {
        "batch": batch_size,
        "ms": round(timing.median_ms, 4),
        "p95_ms": round(timing.p95_ms, 4),
        "runs": timing.runs,
        "quiet": timing.is_quiet,
        **spent,
        **_where(training),
    }


def _rounded(mebibytes: float | None) -> float | None:
    return None if mebibytes is None else round(mebibytes, 3)
