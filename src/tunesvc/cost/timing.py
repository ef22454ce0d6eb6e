"""How long a model takes, on the device that it is on.

Why: 2026-11: the median is what is compared, the 95th percentile what a service has to promise; the
mean would hang on who else had the machine for a moment. A measurement ends after a number of
seconds rather than of runs, so that a large model takes hardly longer to measure than a small one.

Why: 2026-11: on a machine that others keep busy a small net was seen to take 500 times as long as
alone. Linux tells of each thread how long it was ready and had no core: that share of the time is
told beside the numbers, and they are *quiet* where it is small. Others on the same GPU do not show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunesvc.cost.meta import evaluating

SECONDS = 0.4  # of runs that count, unless the least number of them takes longer
_LEAST, _MOST = 3, 100  # runs that count
_WARM_SHARE = 0.25  # of the seconds go before, in runs that do not count; one at least
_MOST_WARM = 10
_QUIET = 0.05


class Setting(Protocol):
    """Where and how a model is run, as `train.place` chooses it."""

    @property
    def device(self) -> torch.device:
        """What computes."""

    @property
    def autocast(self) -> bool:
        """Whether matrix products and convolutions are in 16 bits."""

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of four-dimensional tensors."""

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which the model computes."""

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Return a batch in the layout that convolutions want."""

    def describe(self) -> dict[str, Any]:
        """Return device, device_name, precision, channels_last and threads."""


@dataclass(frozen=True)
class Timing:
    """How long one thing took, over and over.

    Args:
        median_ms, p95_ms: of the runs that count; milliseconds.
        runs: that count.
        waited: for a core, while others had it: seconds of all threads by those that the runs
            took; 0 where the system does not tell.
        joules: of one run; None: nobody counted them.
    """

    median_ms: float
    p95_ms: float
    runs: int
    waited: float = 0.0
    joules: float | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nobody else had the cores meanwhile, or hardly."""
        return self.waited <= _QUIET


def timed(
    act: Callable[[], object], device: torch.device | None = None, *, seconds: float = SECONDS
) -> Timing:
    """Time something: first warm-up runs, then 3 to 100 that count, each waited for to its end.

    Args:
        device: is synchronised before and after each run; None: nothing is left under way.
        seconds: after which no further run is begun.
    """
    settle = _synchronizer(device)
    _runs(act, settle, seconds * _WARM_SHARE, 1, _MOST_WARM)
    before = _waited_seconds()
    took = _runs(act, settle, seconds, _LEAST, _MOST)
    waited = max(0.0, _waited_seconds() - before) / max(sum(took), 1e-9)
    median, p95 = np.percentile(took, (50, 95))
    return Timing(float(median) * 1e3, float(p95) * 1e3, len(took), round(waited, 3))


def _waited_seconds() -> float:
    """Return how long this process's threads were ready and had no core.

    Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat, second field.
    """
    waited = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # the thread has ended
            waited += int(file.read_text().split()[1])
    return waited / 1e9


def _runs(
    act: Callable[[], object], settle: Callable[[], None], seconds: float, least: int, most: int
) -> list[float]:
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < least or (len(took) < most and time.perf_counter() < end):
        settle()
        start = time.perf_counter()
        act()
        settle()
        took.append(time.perf_counter() - start)
    return took


def _synchronizer(device: torch.device | None) -> Callable[[], None]:
    kind = device.type if device is not None else "cpu"
    if kind == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if kind == "mps" else _nothing


def _nothing() -> None:
    pass


def noise(count: int, side: int, setting: Setting) -> Tensor:
    """Return images (count, 3, side, side) on the device; torch's own RNG stays as it is.

    Why: 2026-11: a trial that goes on from a checkpoint has the RNG that it had.
    """
    generator = torch.Generator(setting.device).manual_seed(0)
    shape = (count, 3, side, side)
    return setting.laid_out(torch.rand(shape, device=setting.device, generator=generator))


def inference(
    module: nn.Module, side: int, setting: Setting, *, batch_size: int = 1, seconds: float = SECONDS
) -> Timing:
    """Time the forward pass of a batch that is on the device already.

    In evaluation mode, in the setting's precision, layout and number of threads. Decoding an image
    and moving it to the device are not in it. The images are noise: what a layer takes does not
    hang on its numbers.

    Args:
        module: on the device, in its layout.
        side: of the images in pixels.
    """
    images = noise(batch_size, side, setting)
    with evaluating(module), torch.inference_mode(), setting.precision():
        return timed(lambda: module(images), setting.device, seconds=seconds)


def training_step(
    module: nn.Module, side: int, setting: Setting, *, batch_size: int, seconds: float = SECONDS
) -> Timing:
    """Time a training step of a batch that is on the device already: forward, backward, AdamW.

    It changes the parameters. The loss is a cross-entropy, whatever the outputs are meant for.

    Args:
        module: on the device, in its layout; what has `requires_grad` is trained.
    """
    images = noise(batch_size, side, setting)
    targets = torch.zeros(batch_size, dtype=torch.int64, device=setting.device)
    optimizer = torch.optim.AdamW((p for p in module.parameters() if p.requires_grad), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        with setting.precision():
            outputs = module(images)
        F.cross_entropy(outputs.float(), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    module.train()
    return timed(step, setting.device, seconds=seconds)
