"""Everything that a backbone costs, in one row."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesvc.cost import energy
from tunesvc.cost.counting import gflops, parameters, trainable
from tunesvc.cost.memory import inference_memory_mb, step_memory
from tunesvc.cost.meta import evaluating
from tunesvc.cost.size import size_mb
from tunesvc.cost.timing import SECONDS, Setting, Timing, inference, noise, training_step

if TYPE_CHECKING:
    from tunesvc.backbones import Backbone

_BYTES = {True: 2, False: 4}  # of an activation, under autocast and without


@dataclass(frozen=True)
class Costs:
    """What a backbone costs; None: not measured, or it does not apply.

    MiB are 2**20 bytes. What is measured hangs on the device and its precision, which stand beside
    it; what is reckoned does not.

    Args:
        image_size: side of the images in pixels.
        num_outputs: of the head, which counts in everything.
        batch_size: of the batch N.
        params_m, trainable_m: parameters in 1e6; those with a gradient.
        flops_g: operations of one image's forward pass in 1e9; a multiply-add counts as two
            (`gflops`).
        size_mb, size_bf16_mb, size_int8_mb: length of the state dict's file, MiB (`size_mb`).
        infer_memory_mb: peak of one image's inference, MiB, reckoned (`inference_memory_mb`).
        train_memory_mb: of a training step of a batch, MiB.
        train_memory_kind: whether that was "measured" by CUDA's allocator, or "estimated"
            (`step_memory`).
        latency_ms, latency_p95_ms: of one image (`inference`): median and 95th percentile.
        batch_latency_ms, batch_latency_p95_ms: of a batch.
        images_per_second: of inference in batches: the batch size by their median.
        train_step_ms: median of a batch's training step (`training_step`).
        epoch_images, epoch_seconds: of how many images an epoch was reckoned, and what its steps
            take; reading the data is not in it.
        energy_j: of one image's inference in batches (`joules`).
    """

    image_size: int
    num_outputs: int
    batch_size: int
    device: str
    device_name: str
    precision: str
    threads: int
    params_m: float
    trainable_m: float
    flops_g: float
    size_mb: float
    size_bf16_mb: float
    size_int8_mb: float | None
    infer_memory_mb: float
    train_memory_mb: float
    train_memory_kind: str
    latency_ms: float | None = None
    latency_p95_ms: float | None = None
    batch_latency_ms: float | None = None
    batch_latency_p95_ms: float | None = None
    images_per_second: float | None = None
    train_step_ms: float | None = None
    epoch_images: int | None = None
    epoch_seconds: float | None = None
    energy_j: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as `tunesvc cost --json` prints it: numbers to six digits."""
        fields = asdict(self).items()
        return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in fields}


def measure(
    backbone: Backbone,
    setting: Setting,
    *,
    num_outputs: int,
    batch_size: int,
    epoch_images: int,
    is_run: bool = True,
) -> Costs:
    """Return what a backbone costs, all of it trained; running it moves it to the device.

    Args:
        epoch_images: how many images an epoch has.
        is_run: false: only what is reckoned without running it.
    """
    told = _reckoned(backbone, setting, batch_size)
    if is_run:
        backbone.module.to(setting.device).to(memory_format=setting.memory_format)
        told |= _inferred(backbone, setting, batch_size)
        told |= _trained(backbone, setting, batch_size, epoch_images)
    described = setting.describe()
    where = {key: described[key] for key in ("device", "device_name", "precision", "threads")}
    return Costs(backbone.transform.crop, num_outputs, batch_size, **where, **told)


def _reckoned(backbone: Backbone, setting: Setting, batch_size: int) -> dict[str, Any]:
    module = backbone.module
    return {
        "params_m": parameters(module) / 1e6,
        "trainable_m": trainable(module) / 1e6,
        "flops_g": gflops(backbone),
        "size_mb": size_mb(module),
        "size_bf16_mb": size_mb(module, "bfloat16"),
        "size_int8_mb": size_mb(module, "int8"),
        "infer_memory_mb": inference_memory_mb(backbone),
        "train_memory_mb": step_memory(backbone).mb(batch_size, _BYTES[setting.autocast]),
        "train_memory_kind": "estimated",
    }


def _inferred(backbone: Backbone, setting: Setting, batch_size: int) -> dict[str, Any]:
    module, side = backbone.module, backbone.transform.crop
    one = inference(module, side, setting)
    many = batch_inference(module, side, setting, batch_size)
    return {
        "latency_ms": one.median_ms,
        "latency_p95_ms": one.p95_ms,
        "batch_latency_ms": many.median_ms,
        "batch_latency_p95_ms": many.p95_ms,
        "images_per_second": batch_size * 1e3 / many.median_ms,
        "energy_j": None if many.joules is None else many.joules / batch_size,
    }


def batch_inference(
    module: nn.Module, side: int, setting: Setting, batch_size: int, *, seconds: float = SECONDS
) -> Timing:
    """Time `inference` of a batch, and count its joules where the device does."""
    found = inference(module, side, setting, batch_size=batch_size, seconds=seconds)
    read = energy.meter(setting.device)
    if read is None:
        return found
    images = noise(batch_size, side, setting)
    with evaluating(module), torch.inference_mode(), setting.precision():
        spent = energy.joules(
            lambda: module(images), read, lambda: torch.cuda.synchronize(setting.device)
        )
    return replace(found, joules=spent)


def _trained(backbone: Backbone, setting: Setting, batch_size: int, images: int) -> dict[str, Any]:
    device = setting.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    side = backbone.transform.crop
    step = training_step(backbone.module, side, setting, batch_size=batch_size)
    told: dict[str, Any] = {
        "train_step_ms": step.median_ms,
        "epoch_images": images,
        "epoch_seconds": ceil(images / batch_size) * step.median_ms / 1e3,
    }
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
        told |= {"train_memory_mb": peak, "train_memory_kind": "measured"}
    return told
