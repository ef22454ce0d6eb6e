"""What a backbone costs: parameters, floating-point operations, the memory of one training step.

Nothing is computed for it: one forward pass on torch's "meta" device, whose tensors have shapes but
no memory, while torch counts operations, or autograd tells what it keeps for the backward pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from tunesvc.backbones import Backbone

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

_FLOAT_BYTES = 4
_ADAM_STATES = 2  # first and second moment; SGD with momentum keeps one, plain SGD none


def parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def trainable(module: nn.Module) -> int:
    """Return the number of parameters that have a gradient."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def gflops(backbone: Backbone) -> float:
    """Return the operations of one image's forward pass, in 1e9; a multiply-add counts as two.

    Convolutions, matrix products and attention count, as everywhere; normalisation, activations
    and pooling do not. Papers often tell multiply-adds: half of this. A training step takes about
    three times as many for what is trained.
    """
    module, side = backbone.module, backbone.transform.crop
    weights = _on_meta(module, None)
    image = torch.empty(1, 3, side, side, device="meta")
    counter = FlopCounterMode(display=False)
    with _evaluating(module), torch.no_grad(), counter:
        functional_call(module, weights, (image,))
    return counter.get_total_flops() / 1e9


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

    The device's own context, the workspaces of its kernels and memory lost between blocks come on
    top, and what is held to be quicker: images, and outputs of frozen stages.

    Args:
        trained: names of parameters; None: those with `requires_grad`. Parts that are not trained
            keep no activations, as in training.
        images: to pass through the model; the rest is in proportion.
    """
    module, side = backbone.module, backbone.transform.crop
    weights = _on_meta(module, trained)
    given = torch.empty(images, 3, side, side, device="meta")
    own = [weights[name].numel() for name, _ in module.named_parameters()]
    free = [w.numel() for w in weights.values() if w.requires_grad]
    with _kept() as storages:
        # The result is held until the sum is taken: a storage that is freed could come twice.
        outputs = functional_call(module, weights, (given,))
        for weight in weights.values():
            storages.pop(_storage(weight), None)
        kept = sum(storages.values()) / _FLOAT_BYTES
        del outputs
    states = sum(own) + (1 + _ADAM_STATES) * sum(free)
    return StepMemory(states, given.numel() / images, kept / images)


def memory_estimate_mb(backbone: Backbone, batch_size: int, precision_bytes: int = 4) -> float:
    """Return `step_memory` of a batch in MiB, with what has `requires_grad` trained."""
    return step_memory(backbone, images=batch_size).mb(batch_size, precision_bytes)


@dataclass
class Ledger:
    """What backbones cost, reckoned once each: a pass on "meta" takes up to a second.

    The `key` of a backbone stands for its architecture, its head and the size of its images.
    """

    _gflops: dict[str, float | None] = field(default_factory=dict)
    _steps: dict[tuple[str, frozenset[str]], StepMemory | None] = field(default_factory=dict)

    def gflops(self, key: str, backbone: Backbone) -> float | None:
        """Return `gflops`; None where the model does not run on "meta"."""
        return _once(self._gflops, key, lambda: gflops(backbone))

    def step_memory(
        self, key: str, backbone: Backbone, trained: frozenset[str]
    ) -> StepMemory | None:
        """Return `step_memory`; None where the model does not run on "meta"."""
        return _once(self._steps, (key, trained), lambda: step_memory(backbone, trained))


def _once(known: dict[K, V | None], key: K, reckon: Callable[[], V]) -> V | None:
    if key not in known:
        try:
            known[key] = reckon()
        except Exception as error:  # a plugin's model can do anything: its trial is to go on
            log.info("the cost of a model is not known: %s", error)
            known[key] = None
    return known[key]


def _on_meta(module: nn.Module, trained: Collection[str] | None) -> dict[str, Tensor]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: tensor.detach()
        .to("meta")
        .requires_grad_(tensor.requires_grad if trained is None else name in trained)
        for name, tensor in tensors.items()
    }


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Have a module behave as in evaluation, each of its parts as before afterwards."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, was in before:
            part.training = was


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
