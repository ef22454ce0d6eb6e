"""Batch-norm statistics of a model whose weights are a mean of others'.

Why: 2026-11: statistics belong to what comes into a layer, and that is another thing once the
weights before it are averaged: the mean of the members' statistics describes none of it. One pass
over the training images measures them anew. Where all members have the same (frozen stages,
`frozen_bn`) they stay: nobody wanted them to follow the data.

Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization",
section 3.2; `torch.optim.swa_utils.update_bn`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tunesvc.train.run import Run

_STATISTICS = ("running_mean", "running_var")


def _nothing() -> None:
    pass


def differing(states: Sequence[Mapping[str, Tensor]]) -> frozenset[str]:
    """Return the names of the modules whose statistics are not the same in all states."""
    if not states:
        return frozenset()
    first, *others = states
    names = [name for name in first if name.rpartition(".")[2] in _STATISTICS]
    return frozenset(
        name.rpartition(".")[0]
        for name in names
        if any(not torch.equal(first[name], other[name]) for other in others)
    )


@torch.no_grad()
def refresh(run: Run, modules: Collection[str], tick: Callable[[], None] = _nothing) -> None:
    """Measure the statistics of some modules anew, on the training images as they are.

    Args:
        modules: names of batch-norm layers.
        tick: called after every batch; what it raises passes, and leaves them half measured.
    """
    layers = [run.module.get_submodule(name) for name in modules]
    layers = [layer for layer in layers if isinstance(layer, _BatchNorm)]
    if not layers:
        return
    before = [layer.momentum for layer in layers]
    run.module.eval()
    try:
        for layer in layers:
            _begin(layer)
        for images, _ in run.evaluation_batches(run.train):
            if len(images) > 1:  # one image has no variance
                run.module(images)
            tick()
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
        run.module.eval()


def _begin(layer: nn.Module) -> None:
    assert isinstance(layer, _BatchNorm)
    layer.reset_running_stats()
    layer.momentum = None  # the mean over all batches
    layer.train()
