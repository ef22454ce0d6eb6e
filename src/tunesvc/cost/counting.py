"""Parameters, and the operations of a forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tunesvc.cost.meta import evaluating, on_meta, passed

if TYPE_CHECKING:
    from tunesvc.backbones import Backbone


def parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def trainable(module: nn.Module) -> int:
    """Return the number of parameters that have a gradient."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def gflops(backbone: Backbone) -> float:
    """Return the operations of one image's forward pass, in 1e9; a multiply-add counts as two.

    torch's `FlopCounterMode` adds them up over one pass on "meta". Convolutions, matrix products
    and attention count, as everywhere; normalisation, activations and pooling do not. Papers, and
    `_ops` of torchvision's weights ("GFLOPS"), tell multiply-adds: half of this. A training step
    takes about three times as many for what is trained.
    """
    module, side = backbone.module, backbone.transform.crop
    weights = on_meta(module, None)
    image = torch.empty(1, 3, side, side, device="meta")
    counter = FlopCounterMode(display=False)
    with evaluating(module), torch.no_grad(), counter:
        passed(module, weights, image)
    return counter.get_total_flops() / 1e9
