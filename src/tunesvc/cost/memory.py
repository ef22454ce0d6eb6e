"""The memory of a training step and of inference, reckoned from one forward pass on "meta".

The device's own context, the workspaces of its kernels and memory lost between blocks come on top.

Why: 2026-11: inference is reckoned on every device, CUDA too, where an allocator could tell. A
trial's own peak is read from that allocator and must not be reset in its middle, and a cap is to
mean the same wherever a trial ran.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from tunesvc.cost.meta import Operations, evaluating, on_meta, passed, storage

if TYPE_CHECKING:
    from tunesvc.backbones import Backbone

_FLOAT_BYTES = 4
_ADAM_STATES = 2  # first and second moment; SGD with momentum keeps one, plain SGD none


@dataclass(frozen=True)
class StepMemory:
    """What one training step holds, in numbers of 32 bits.

    Args:
        states: parameters, and for the trained ones gradients and Adam's two moments.
        image: one image.
        kept: of the forward pass of one image, by autograd; each storage counts once.
    """

    states: int
    image: float
    kept: float

    def mb(self, batch_size: int, precision_bytes: int = 4) -> float:
        """Return the memory of a step with so many images, in MiB.

        Args:
            precision_bytes: of one activation: 4, or 2 under autocast.
        """
        kept = self.kept * precision_bytes / _FLOAT_BYTES
        return (self.states + batch_size * (self.image + kept)) * _FLOAT_BYTES / 2**20


def step_memory(
    backbone: Backbone, trained: Collection[str] | None = None, *, images: int = 2
) -> StepMemory:
    """Return an estimate of what one training step holds.

    What is held to be quicker comes on top as well: images, and outputs of frozen stages.

    Args:
        trained: names of parameters; None: those with `requires_grad`. Parts that are not trained
            keep no activations, as in training.
        images: to pass through the model; the rest is in proportion.
    """
    module, side = backbone.module, backbone.transform.crop
    weights = on_meta(module, trained)
    given = torch.empty(images, 3, side, side, device="meta")
    own = [weights[name].numel() for name, _ in module.named_parameters()]
    free = [w.numel() for w in weights.values() if w.requires_grad]
    with _kept() as storages:
        # The result is held until the sum is taken: a storage that is freed could come twice.
        outputs = passed(module, weights, given)
        for weight in weights.values():
            storages.pop(storage(weight), None)
        kept = sum(storages.values()) / _FLOAT_BYTES
        del outputs
    states = sum(own) + (1 + _ADAM_STATES) * sum(free)
    return StepMemory(states, given.numel() / images, kept / images)


def memory_estimate_mb(backbone: Backbone, batch_size: int, precision_bytes: int = 4) -> float:
    """Return `step_memory` of a batch in MiB, with what has `requires_grad` trained."""
    return step_memory(backbone, images=batch_size).mb(batch_size, precision_bytes)


def inference_memory_mb(backbone: Backbone, batch_size: int = 1) -> float:
    """Return the peak of memory while a batch is passed through in float32, in MiB.

    Parameters and buffers, the images, and of what the layers make at most so much as lives at the
    same moment: each storage counts from when it is made until nobody holds it any more.
    """
    module, side = backbone.module, backbone.transform.crop
    weights = on_meta(module, ())
    held = {storage(tensor): tensor.untyped_storage().nbytes() for tensor in weights.values()}
    given = torch.empty(batch_size, 3, side, side, device="meta")
    peak = _Peak([*held, storage(given)])
    with evaluating(module), torch.no_grad(), peak:
        passed(module, weights, given)
    return (sum(held.values()) + given.untyped_storage().nbytes() + peak.most) / 2**20


class _Peak(Operations):  # type: ignore[no-untyped-call]
    """Notes the most bytes that lived at once, of storages that were made inside."""

    def __init__(self, known: Collection[StorageWeakRef]) -> None:
        super().__init__()
        self.most = 0
        self._known, self._alive = frozenset(known), dict[StorageWeakRef, int]()

    def answer(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return what it gives, and note what lives then."""
        made = func(*args, **kwargs)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and storage(tensor) not in self._known:
                self._alive[storage(tensor)] = tensor.untyped_storage().nbytes()
        self._alive = {ref: size for ref, size in self._alive.items() if not _is_gone(ref)}
        self.most = max(self.most, sum(self._alive.values()))
        return made


def _is_gone(held: StorageWeakRef) -> bool:
    return bool(held.expired())  # type: ignore[no-untyped-call]


@contextmanager
def _kept() -> Iterator[dict[StorageWeakRef, int]]:
    """Collect the bytes of each storage that autograd saves."""
    storages: dict[StorageWeakRef, int] = {}

    def save(tensor: Tensor) -> Tensor:
        storages[storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(save, lambda tensor: tensor):
        yield storages
