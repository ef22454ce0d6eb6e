"""What a trial stores of its run, as plain data.

Why: 2026-11: memory on the CPU is told by reckoning, and says so. A process's own peak, which
workers are packed by, tells of every trial that it has run so far, and of what it keeps.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from tunesvc.backbones import Backbone, weights
from tunesvc.cost import Ledger
from tunesvc.provenance import provenance
from tunesvc.spec import BackboneSpec, TrialConfig
from tunesvc.train import Epoch, Placement, Run
from tunesvc.trial import costs

ledger = Ledger()  # of this process


def of_run(label: str, training: Run, cache: Path) -> dict[str, Any]:
    """Return what is run, on what, and what its model costs.

    Args:
        cache: this machine's folder for what can be made again.
    """
    own = key(training.config.backbone, training.backbone)
    return {
        "backbone": label,
        "architecture": architecture(training.config.backbone),
        "knobs": training.config.knobs.model_dump(mode="json"),
        "seed": training.config.seed,
        "parameters": training.parameters_total,
        "parameters_trainable": training.parameters_trainable,
        "gflops": ledger.gflops(own, training.backbone),
        **costs.of_model(ledger, own, training, cache),
        "weights_sha256": training.backbone.weights_sha256,
        "images": {"train": len(training.train.targets), "val": len(training.val.targets)},
        "micro_batch": training.micro_batch,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        **training.placement.describe(),
        **provenance(),
    }


def of_skeleton(
    label: str, config: TrialConfig, backbone: Backbone, trained: Collection[str], where: Placement
) -> dict[str, Any]:
    """Return what would have been run, of a trial that ended before its model was built.

    Args:
        trained: names of the parameters that some epoch would have trained.
    """
    own, named = key(config.backbone, backbone), backbone.parameters
    return {
        "backbone": label,
        "architecture": architecture(config.backbone),
        "knobs": config.knobs.model_dump(mode="json"),
        "seed": config.seed,
        "parameters": backbone.size,
        "parameters_trainable": sum(named[name].numel() for name in trained),
        "gflops": ledger.gflops(own, backbone),
        **costs.of_shapes(ledger, own, backbone),
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        **where.describe(),
        **provenance(),
    }


def architecture(backbone: BackboneSpec) -> str:
    """Return `mobilenet_v2(width_mult=0.35)`: what a backbone is, whatever its weights."""
    given = ", ".join(f"{key}={value}" for key, value in sorted(backbone.kwargs.items()))
    return f"{backbone.name}({given})" if given else backbone.name


def of_peak(training: Run) -> dict[str, Any]:
    """Return the peaks so far in MiB: `peak_memory_mb` of the device's allocator on CUDA, else of
    the whole process, and the run's own `memory`.

    On CUDA that is the same: the run's step, and all that was held meanwhile. Elsewhere it is an
    estimate of one step that computes every stage.
    """
    peak = round(training.peak_memory_mb, 1)
    if training.placement.device.type == "cuda":
        return {"peak_memory_mb": peak, "memory": {"mb": peak, "kind": "measured"}}
    own = key(training.config.backbone, training.backbone)
    step = ledger.step_memory(own, training.backbone, training.trained)
    if step is None:
        return {"peak_memory_mb": peak}
    most = step.mb(training.micro_batch, 2 if training.placement.autocast else 4)
    return {"peak_memory_mb": peak, "memory": {"mb": round(most, 1), "kind": "estimated"}}


def of_end(
    training: Run, told: float | None, levers: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is known of a run at its end: its peaks, and what was spared.

    Args:
        told: when the worker's trial before was told, by `time.perf_counter`; None: there was none.
        before: `of_peak` of who had the trial before, where it is wanted.
    """
    gap = None if told is None or training.begun is None else round(training.begun - told, 4)
    spared = {**levers, "gap_seconds": gap, **of_levers(training)}
    peaks = [of_peak(training), dict(before)]
    return max(peaks, key=_mebibytes) | {"levers": spared}


def _mebibytes(peak: Mapping[str, Any]) -> float:
    return float((peak.get("memory") or {"mb": -1.0})["mb"])


def of_weights(backbone: BackboneSpec, base: Path) -> dict[str, Any]:
    """Return what a backbone's weights say of themselves, as the league table tells it.

    Args:
        base: folder that the study file's relative paths start from.
    """
    source = weights.locate(backbone, base)
    if source is not None and source.url:
        metrics = weights.named(backbone).meta.get("_metrics", {})
        return {"imagenet_top1": metrics.get("ImageNet-1K", {}).get("acc@1")}
    return {"pretraining": _pretraining(weights.meta(source))}


def _pretraining(meta: dict[str, Any]) -> dict[str, Any] | None:
    """Return how good weights of `tunesvc pretrain` were at what they were trained for."""
    match meta:
        case {"name": str(name), "epochs": [*_, {"epoch": int(epoch), "accuracy": float(value)}]}:
            known = {"name": name, "epoch": epoch, "metric": "accuracy", "value": value}
            return known if isfinite(value) else None
    return None


def key(spec: BackboneSpec, backbone: Backbone) -> str:
    """Return what stands for a model in the ledger."""
    return f"{architecture(spec)} {backbone.transform.crop} {backbone.size}"


def of_epoch(epoch: Epoch) -> dict[str, Any]:
    """Return one epoch; `epoch` counts the finished ones, from 1."""
    return {
        "epoch": epoch.index + 1,
        "train_loss": epoch.train_loss,
        **epoch.metrics,
        "seconds": {phase: round(seconds, 4) for phase, seconds in epoch.seconds.items()},
    }


def of_levers(training: Run) -> dict[str, Any]:
    """Return what was not computed again.

    `frozen`: the leading stages that stood still from an epoch on, how many fixed views of each
    training image there were, whether the stages' outputs were known, the seconds to have them,
    and those of them in which they were computed here. `compiled`: whether training steps were,
    and why.
    """
    built = "warm" if training.is_warm else "built"
    compiled = training.compiling.describe()
    return {"model": built, "frozen": training.inputs.used, "compiled": compiled}


def of_memory(config: TrialConfig, image_size: int, placement: Placement) -> dict[str, str | int]:
    """Return what decides how many images fit into a device's memory at once."""
    described = placement.describe()
    return {
        "device": f"{described['device_name']} {described['precision']}",
        "backbone": config.backbone.model_dump_json(include={"name", "kwargs"}),
        "image_size": image_size,
        "strategy": config.knobs.strategy,
    }
