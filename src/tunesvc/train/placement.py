"""Where a run computes, and how: device, precision, memory layout, threads."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tunesvc.errors import UsageError
from tunesvc.train.compiled import Choice

Half = Literal["bfloat16", "float16"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h, in bytes


_SMALL = (
    2**28
)  # bytes that a worker may copy out of mapped files, or onto a device of shared memory


@dataclass(frozen=True)
class Placement:
    """A device and the settings that are good on it.

    Args:
        autocast: matrix products and convolutions in 16 bits.
        half: which 16 bits.
        channels_last: images and filters are laid out (N, H, W, C).
        threads: of torch, on the CPU.
        compiling: which training steps are compiled: see `compiled`.
        is_open: whether a net may be better off in the other precision: see `precision`.
    """

    device: torch.device
    autocast: bool
    channels_last: bool
    threads: int
    compiling: Choice = "auto"
    is_open: bool = False
    half: Half = "bfloat16"

    def settled(self, *, autocast: bool) -> Placement:
        """Return the same in a precision that stays."""
        return replace(self, autocast=autocast, is_open=False)

    @property
    def computed_in(self) -> str:
        """The type of matrix products and convolutions: "float32", "bfloat16" or "float16"."""
        return self.half if self.autocast else "float32"

    @property
    def is_scaled(self) -> bool:
        """Whether losses are scaled up before the backward pass: small gradients are 0 in float16.

        Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.2.
        """
        return self.autocast and self.half == "float16"

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of four-dimensional tensors."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Return a batch in the layout that convolutions want, where it has four dimensions."""
        is_image = tensor.dim() == 4
        return tensor.contiguous(memory_format=self.memory_format) if is_image else tensor

    def room(self, held: int = 0) -> int:
        """Return how many bytes may be held on the device to be quicker: a quarter of its memory.

        Args:
            held: bytes that are already.
        """
        if self.device.type != "cuda":
            return _SMALL
        free, _ = torch.cuda.mem_get_info(self.device)
        return (free + held) // 4

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which the model computes."""
        dtype = torch.float16 if self.half == "float16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.autocast)

    def describe(self) -> dict[str, Any]:
        """Return what a trial records of its device, as plain data."""
        is_cuda = self.device.type == "cuda"
        return {
            "device": str(self.device),
            "device_name": torch.cuda.get_device_name(self.device) if is_cuda else _cpu_name(),
            "precision": self.computed_in,
            "channels_last": self.channels_last,
            "threads": self.threads,
        }


def place(
    device: str | None, compiling: Choice = "auto", precision: Precision = "auto"
) -> Placement:
    """Choose the settings for a device ("cuda:1", "mps", "cpu"), or for the best one there is.

    Args:
        precision: what matrix products and convolutions are computed in; "auto": bfloat16 on CUDA
            devices that have it, float16 on those before them that have tensor cores (V100, T4),
            float32 elsewhere, which is left open on CPUs that have bfloat16.

    Why: 2026-11: channels_last also on the CPU: training on one core is 1.35 to 1.7 times as fast
    with it for the small backbones at 32 pixels, 1.4 times for MobileNetV2 and no slower for
    ResNet-18 at 96 (Intel Xeon with AVX-512, float32, torch 2.15).

    Raises:
        UsageError: there is no such device here, or it has no such precision.
    """
    chosen = _device(device)
    threads = min(torch.get_num_threads(), _available_cores())  # OMP_NUM_THREADS is in the first
    torch.set_num_threads(threads)
    is_cuda = chosen.type == "cuda"
    if chosen.type == "cpu":
        _keep_freed_memory()
    if is_cuda:
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = True  # a run's shapes stay the same
        torch.set_float32_matmul_precision("high")
    half = _half(chosen, precision)
    return Placement(
        device=chosen,
        autocast=half is not None,
        half=half or "bfloat16",
        channels_last=chosen.type in ("cuda", "cpu"),
        threads=threads,
        compiling=compiling,
        is_open=precision == "auto" and chosen.type == "cpu" and _has_bfloat16(),
    )


def _half(device: torch.device, wanted: Precision) -> Half | None:
    """Return which 16 bits are computed in; None: float32."""
    if wanted == "float32" or (wanted == "auto" and device.type != "cuda"):
        return None
    is_cuda = device.type == "cuda"
    has_bfloat16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "auto":
        if has_bfloat16:
            return "bfloat16"
        return "float16" if torch.cuda.get_device_capability(device) >= (7, 0) else None
    if wanted == "bfloat16" and not (has_bfloat16 or device.type == "cpu"):
        raise UsageError(
            f"{device} does not compute in bfloat16",
            "CUDA devices do from compute capability 8.0 on, and CPUs",
            "leave `--precision` out",
        )
    if wanted == "float16" and not is_cuda:
        raise UsageError(
            f"{device} does not train in float16", "CUDA devices do", "leave `--precision` out"
        )
    return wanted


def _has_bfloat16() -> bool:
    """Whether this CPU multiplies numbers in bfloat16, which others only imitate."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.8 has none
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def _keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed, for the next step to use.

    Why: 2026-11: by default it returns them to the kernel, and every step faults all its
    activations in again: for MobileNetV2 at 224 pixels on one core, batch 32, that took 26 of 62
    seconds; it takes 2 of 44 with this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # macOS and musl have none
    if mallopt is not None:
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, 2**31 - 1)


def _device(wanted: str | None) -> torch.device:
    known = _devices()
    if wanted is None:
        return torch.device(known[0])
    name = "cuda:0" if wanted == "cuda" else wanted
    if name not in known:
        raise UsageError(f"no device {wanted!r} on this machine", f"there is {', '.join(known)}")
    return torch.device(name)


def _devices() -> list[str]:
    """Return the devices of this machine, best first."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
