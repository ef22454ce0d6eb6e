"""Memory that does not suffice: told apart from other errors, and given back."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tunesvc.errors import TrainingError
from tunesvc.train.run import Run

# torch has a class of its own for this, but not all of its allocators raise it.
_SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # the same on Windows
    "MPS backend out of memory",
    "CUDA error: out of memory",  # of pinned memory, for example
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class OutOfMemory(TrainingError):  # noqa: N818 (the field's word)
    """`micro_batch` images did not fit at once, in `epoch`, counted from 0."""

    def __init__(self, micro_batch: int, epoch: int, crop: int, device: str) -> None:
        super().__init__(
            f"out of memory on {device} in epoch {epoch + 1}",
            f"a batch of {micro_batch}, at {crop} pixels, does not fit beside what else runs there",
            "lower `batch_size`, or give `data.image_size`",
        )
        self.args = (micro_batch, epoch, crop, device)  # what pickle calls the class with
        self.micro_batch = micro_batch
        self.epoch = epoch


def within_memory(run: Run, work: Iterator[None], images: int) -> Iterator[None]:
    """Do the work; what its taker does between two steps is none of ours, and passes unchanged.

    Args:
        images: how many are worked on at once.

    Raises:
        OutOfMemory: an allocator gave up. What the failed step held is given back, on a CUDA
            device to other processes as well; the run stands in the middle of that step.
    """
    try:
        yield from work
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Its frames hold activations; clearing them would leave those that closures see.
        error.__traceback__ = None
        _give_back(run)
        crop, device = run.backbone.transform.crop, str(run.placement.device)
        raise OutOfMemory(images, run.next_epoch, crop, device) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator gave up, by its class or its words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(sign in str(error) for sign in _SIGNS)


def _give_back(run: Run) -> None:
    run.module.zero_grad()
    match run.placement.device.type:
        case "cuda":
            torch.cuda.empty_cache()
        case "mps":
            torch.mps.empty_cache()
