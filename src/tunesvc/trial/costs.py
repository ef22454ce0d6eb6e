"""What a trial stores of its model's costs, besides its counts: size, inference's memory, latency.

Why: 2026-11: the latency is measured where a trial begins, before its first batch, on the model as
it stands on the device: half a second, and only for the first trial of a backbone on a host, or,
where other work disturbed that, of a worker (see `cost.kept`). `TUNESVC_LATENCY=off` spares it, for
machines whose latency nobody will ask for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torchvision

from tunesvc import cost
from tunesvc.cost import Ledger, Timing, kept
from tunesvc.train import Run

VARIABLE = "TUNESVC_LATENCY"


def of_model(ledger: Ledger, key: str, training: Run, cache: Path) -> dict[str, Any]:
    """Return file size and inference's peak in MiB, and the latency of one image.

    Args:
        key: of the model in the ledger.
        cache: this machine's folder for what can be made again.
    """
    return {
        "size_mb": _rounded(ledger.size_mb(key, training.backbone)),
        "infer_memory_mb": _rounded(ledger.inference_memory_mb(key, training.backbone)),
        "latency": _latency(ledger, key, training, cache / "latency"),
    }


def _latency(ledger: Ledger, key: str, training: Run, folder: Path) -> dict[str, Any] | None:
    """Return median and 95th percentile in ms, and on what they were measured."""
    if os.environ.get(VARIABLE, "").lower() in {"off", "0", "no"}:
        return None
    placed, side = training.placement, training.backbone.transform.crop
    where = placed.describe()
    del where["device"]  # cards of one name are alike
    where |= {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}
    kind = {"model": key, **where}

    def measure() -> Timing:
        return cost.inference(training.module, side, placed)

    timing = ledger.timing(kept.name(kind), lambda: kept.fetch(folder, kind, measure))
    if timing is None:
        return None
    return {
        "ms": round(timing.median_ms, 4),
        "p95_ms": round(timing.p95_ms, 4),
        "runs": timing.runs,
        "quiet": timing.is_quiet,
        **where,
    }


def _rounded(mebibytes: float | None) -> float | None:
    return None if mebibytes is None else round(mebibytes, 3)
