"""The precision that a CPU with bfloat16 trains a net in: measured once per host, and kept there.

    t, h   milliseconds of a forward and a backward pass in float32 and in bfloat16, the least of
           some, taken in turn

A net is trained in bfloat16 where 1.25 × h <= t.

Why: 2026-11: with AVX-512 BF16, one thread, 32 images of 128 pixels, a step of ResNet-18 was 1.9
times as fast in bfloat16 and SqueezeNet's 1.6 times, but MobileNetV2's took 1.3 times as long, at
64 pixels 1.9 times (AMD EPYC, torch 2.15). No rule tells which a net is on the next processor.

Why: 2026-11: what was measured once stays, for every study and worker of the host: a trial's
numbers do not hang on how busy the host was when it began. The margin is there for hosts that are
alike, whose answers are to be alike, and because rounding more coarsely is to bring something.

Why: 2026-11: where a run trains on few images it stays in float32: measuring would be a tenth of
it, or more. That does not hang on how many runs a study has: those that confirm it are of the same
precision.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesvc import hostcache
from tunesvc.backbones import Backbone
from tunesvc.cost import kept
from tunesvc.cost.timing import noise
from tunesvc.spec import BackboneSpec
from tunesvc.train.placement import Placement

log = logging.getLogger(__name__)

GAIN = 1.25
LEAST_IMAGES = 640  # of a run: measuring takes some 64
_IMAGES = 16  # of a step
_TURNS = 6  # at most; the first warms up, and counts where it takes long
_SECONDS = 1.0  # after which no further turn is taken


@dataclass(frozen=True)
class Net:
    """What is to be trained.

    Args:
        crop: side of its images in pixels.
        build: makes one that nobody else uses.
    """

    spec: BackboneSpec
    crop: int
    build: Callable[[], Backbone]


def settled(placement: Placement, net: Net, images: int, cache: Path) -> Placement:
    """Return a placement in the precision that a net is trained in there.

    Args:
        images: that a run trains on: of its split, times its epochs.
        cache: this machine's folder for what can be made again.
    """
    if not placement.is_open:
        return placement
    if images < LEAST_IMAGES:
        return placement.settled(autocast=False)
    kind = _kind(placement, net)
    file = cache / "precision" / f"{kept.name(kind)}.json"
    known = _known(file)
    if known is None:
        known = _found(file, kind, placement, net)
    return placement.settled(autocast=known)


def _kind(placement: Placement, net: Net) -> dict[str, Any]:
    """Return everything that the answer hangs on."""
    where = placement.describe()
    return {
        "backbone": net.spec.model_dump_json(include={"name", "kwargs"}),
        "crop": net.crop,
        "torch": str(torch.__version__),
        **{key: where[key] for key in ("device_name", "channels_last", "threads")},
    }


def _known(file: Path) -> bool | None:
    told = hostcache.noted(file).get("is_quicker")
    return told if isinstance(told, bool) else None


def _found(file: Path, kind: dict[str, Any], placement: Placement, net: Net) -> bool:
    """Measure, one process at a time, and keep the answer."""
    with ExitStack() as held:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(hostcache.alone(file.parent / "measuring.lock"))
            known = _known(file)
            if known is not None:
                return known
        except OSError as error:
            log.info("a precision is measured alone, and not kept: %s", error)
        try:
            plain, half = _measured(placement, net)
        except Exception as error:  # a plugin's model can do anything
            log.info("%s stays in float32: %s", net.spec.name, error)
            return False
        is_quicker = GAIN * half <= plain
        log.info(
            "%s: a step takes %.4g ms in float32, %.4g in bfloat16", net.spec.name, plain, half
        )
        with suppress(OSError):  # the disk is full
            times = {"float32_ms": plain, "bfloat16_ms": half}
            hostcache.note(file, {"is_quicker": is_quicker, **times, "kind": kind})
    return is_quicker


def _measured(placement: Placement, net: Net) -> tuple[float, float]:
    """Return a step's milliseconds in float32 and in bfloat16; torch's RNG stays as it is."""
    plain, half = placement.settled(autocast=False), placement.settled(autocast=True)
    least = {plain: inf, half: inf}
    with torch.random.fork_rng(devices=[]):
        module = net.build().module.to(memory_format=placement.memory_format).train()
        images = noise(_IMAGES, net.crop, placement)
        end = time.perf_counter() + _SECONDS
        for turn in range(_TURNS):
            for where in (plain, half):
                least[where] = min(least[where], _step(module, images, where))
            if (turn and least[half] > least[plain]) or time.perf_counter() > end:
                break
    return least[plain], least[half]


def _step(module: nn.Module, images: Tensor, placement: Placement) -> float:
    """Return the milliseconds of a forward and a backward pass: an optimizer's do not differ."""
    start = time.perf_counter()
    with placement.precision():
        outputs = module(images)
    outputs.float().sum().backward()
    module.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) * 1e3
