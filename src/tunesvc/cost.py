"""What a backbone costs: parameters, and the memory of one training step.

The estimate is measured without computing anything: one forward pass on torch's "meta" device,
whose tensors have shapes but no memory, while autograd tells what it keeps for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef

if TYPE_CHECKING:
    from tunesvc.backbones import Backbone

_FLOAT_BYTES = 4
_ADAM_STATES = 2  # first and second moment; SGD with momentum keeps one, plain SGD none


def parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def trainable(module: nn.Module) -> int:
    """Return the number of parameters that have a gradient."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def memory_estimate_mb(backbone: Backbone, batch_size: int, precision_bytes: int = 4) -> float:
    """Return an estimate of a training step's memory in MiB.

    Parameters, and for the trainable ones gradients and Adam's two moments, in 32 bits each; the
    images; and what autograd keeps of the forward pass, each storage once. The device's own
    context, the workspaces of its kernels and memory lost between blocks come on top.

    Args:
        backbone: parts with `requires_grad` off keep no activations, as in training.
        batch_size: images per step.
        precision_bytes: of one activation: 4, or 2 under autocast.
    """
    module, side = backbone.module, backbone.transform.crop
    weights = _on_meta(module)
    images = torch.empty(batch_size, 3, side, side, device="meta")
    states = parameters(module) + (1 + _ADAM_STATES) * trainable(module)
    with _kept() as storages:
        # The result is held until the sum is taken: a storage that is freed could come twice.
        outputs = functional_call(module, weights, (images,))
        for weight in weights.values():
            storages.pop(_storage(weight), None)
        activations = sum(storages.values())
        del outputs
    floats = states + images.numel()
    return (floats * _FLOAT_BYTES + activations * precision_bytes / _FLOAT_BYTES) / 2**20


def _on_meta(module: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        for name, tensor in tensors.items()
    }


@contextmanager
def _kept() -> Iterator[dict[StorageWeakRef, int]]:
    """Collect the bytes of each storage that autograd saves."""
    storages: dict[StorageWeakRef, int] = {}

    def save(tensor: Tensor) -> Tensor:
        storages[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(save, lambda tensor: tensor):
        yield storages


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
