"""Forward passes on torch's "meta" device: tensors have shapes there, but no memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef


def on_meta(module: nn.Module, trained: Collection[str] | None) -> dict[str, Tensor]:
    """Return parameters and buffers by name, as shapes.

    Args:
        trained: names of those that get gradients; None: those with `requires_grad`.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: tensor.detach()
        .to("meta")
        .requires_grad_(tensor.requires_grad if trained is None else name in trained)
        for name, tensor in tensors.items()
    }


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Have a module behave as in evaluation, each of its parts as before afterwards."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, was in before:
            part.training = was


def storage(tensor: Tensor) -> StorageWeakRef:
    """Return what a tensor's numbers lie in: views of one tensor share it."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
