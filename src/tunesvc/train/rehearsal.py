"""A few steps of a run before its first, to learn what its epochs take; they leave no trace.

    n_p  epochs of phase p          t_p  seconds of a step in it, the least of some
    S    steps of an epoch          v_p  seconds of one evaluated batch
    B    batches of an evaluation   l_p  how many of its epochs are evaluated

    epoch = Σ (n_p × S × t_p + l_p × B × v_p) / Σ n_p

What the outputs of frozen stages take, once per host, is not in it.

Why: 2026-11: by the code that trains, on a batch of the run's own images: how they are augmented
and mixed, in how many pieces a batch is learned from, and what frozen stages spare, all count. A
second run over the same model does it, with an optimizer and features of its own. What it changes
of the model is kept on the host meanwhile, and put back; every epoch seeds chance anew. So what
training gives is the same, bit for bit, whether it was rehearsed or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tunesvc.backbones import cut
from tunesvc.data import Split
from tunesvc.strategies import Phase
from tunesvc.train.fit import Diverged, fit
from tunesvc.train.frozen import Shared
from tunesvc.train.run import Run

_SECONDS = 0.3  # of one phase; no step is begun after them
_MOST = 5  # steps of one phase, the first of which warms up


@dataclass(frozen=True)
class Rehearsed:
    """What a run's epochs will take.

    Args:
        epoch_seconds: of one, on average over its phases.
        memory_mb: the device's peak in MiB as CUDA's allocator has it; None elsewhere.
    """

    epoch_seconds: float
    memory_mb: float | None


def rehearse(run: Run, tick: Callable[[], None]) -> Rehearsed:
    """Try a step of each of a run's phases; the run is as it was afterwards.

    Args:
        run: at its beginning.
        tick: called after every batch; what it raises passes.

    Raises:
        OutOfMemory: as training would.
    """
    phases, ends = run.plan.phases, [p.first_epoch for p in run.plan.phases[1:]]
    spans = [
        range(p.first_epoch, end) for p, end in zip(phases, [*ends, run.config.epochs], strict=True)
    ]
    with _unchanged(run), TemporaryDirectory() as scratch:
        whole = sum(
            _phase(run, phase, span, Path(scratch) / str(number), tick)
            for number, (phase, span) in enumerate(zip(phases, spans, strict=True))
            if span
        )
        device = run.placement.device
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Rehearsed(whole / run.config.epochs, None if peak is None else peak / 2**20)


def _phase(run: Run, phase: Phase, span: range, scratch: Path, tick: Callable[[], None]) -> float:
    """Return the seconds of all epochs of a phase."""
    small = _small(run, scratch)
    small.module.eval()
    steps: list[float] = []
    looks: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(steps) < 2 or (len(steps) < _MOST and time.perf_counter() < end):
        small.next_epoch = phase.first_epoch
        try:
            seconds = next(fit(small, tick)).seconds
        except Diverged:  # training itself will tell
            break
        steps.append(seconds["train"])
        looks.append(seconds["eval"])
    batches = ceil(len(run.val.targets) / max(1, run.evaluation_batch))
    seen = sum(run.config.is_evaluated(epoch + 1) for epoch in span)
    step, look = min(steps[1:] or steps or [0.0]), min(looks[1:] or looks or [0.0])
    return len(span) * run.steps_per_epoch * step + seen * batches * look


def _small(run: Run, scratch: Path) -> Run:
    """Return a run of one step an epoch, over the same model."""
    images = min(run.config.knobs.batch_size, len(run.train.targets))
    first = _first(run.train, images)
    second = _first(run.val, min(run.evaluation_batch, len(run.val.targets)))
    small = Run(
        run.backbone, run.task, first, second, replace(run.config, evaluated=None), run.placement,
        run.plan, Shared("rehearsal", scratch).freezer(lambda n: cut(run.backbone, n)), True,
    )  # fmt: skip
    small.micro_batch, small.is_short_of_memory = run.micro_batch, run.is_short_of_memory
    return small


def _first(split: Split, images: int) -> Split:
    return Split(split.images[:images], split.targets[:images])


@contextmanager
def _unchanged(run: Run) -> Iterator[None]:
    """Put back whatever of the model, and of chance, the block changes."""
    named = run.module.state_dict(keep_vars=True)
    kept = {n: t.detach().to("cpu", copy=True) for n, t in named.items() if n in run.changing}
    free = {name: p.requires_grad for name, p in run.module.named_parameters()}
    modes = [(part, part.training) for part in run.module.modules()]
    chance = run.chance.state_dict()
    try:
        yield
    finally:
        run.module.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in kept.items():
                named[name].copy_(value)
        for name, parameter in run.module.named_parameters():
            parameter.requires_grad_(free[name])
        for part, mode in modes:
            part.training = mode
        run.chance.load_state_dict(chance)
        if run.placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.placement.device)
