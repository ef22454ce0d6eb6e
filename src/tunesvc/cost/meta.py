"""Forward passes on torch's "meta" device: tensors have shapes there, but no memory.

Why: 2026-11: torch decomposes a few operations in Python there, 1.3 ms a piece, which was nine
tenths of a MobileNetV2's pass. Their shapes are plain, and are told by `_Shapes` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten


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


def passed(module: nn.Module, tensors: dict[str, Tensor], given: Tensor) -> Any:
    """Return what a module gives for a batch, as shapes.

    Args:
        tensors: as `on_meta` returns them.
        given: on "meta".
    """
    with _Shapes():
        return functional_call(module, tensors, (given,))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Has `answer` called in place of each operation, below autograd, while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.answer(func, args, kwargs or {})

    def answer(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return what the operation gives."""
        raise NotImplementedError


class _Shapes(Operations):  # type: ignore[no-untyped-call]
    """Answers by shapes alone what "meta" is slow at."""

    def answer(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return tensors of the right shapes."""
        if func is _ATEN.native_batch_norm.default:
            return _normalised(args[0], is_training=args[5])
        if func is _ATEN.hardtanh_.default:  # ReLU6
            return args[0]
        return func(*args, **kwargs)


def _normalised(batch: Tensor, *, is_training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shapes of a normalised batch and of its statistics; evaluation takes none."""
    statistics = batch.new_empty(batch.shape[1] if is_training else 0, dtype=torch.float32)
    return torch.empty_like(batch), statistics, torch.empty_like(statistics)


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
