"""The limit: the model's own work on float tensors that are in memory already.

    python -m speed.limit MODEL.json

The same model, batches, optimizer, number format and memory layout as a tunesvc worker's full
fine-tuning; no images, no data base, no checkpoints. Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peers.finetune import build
from peers.job import Backbone
from torch import Tensor, nn

from tunesvc.train import Placement, place


@dataclass(frozen=True)
class Work:
    """What is computed: epochs of so many images in batches."""

    backbone: Backbone
    image_size: int
    train: int
    batch_size: int
    epochs: int
    classes: int
    device: str


@dataclass(frozen=True)
class Limit:
    """What it took.

    Args:
        train: seconds of each epoch; one before them, which warms up, is not among them.
        peak_memory_mb: of the whole process, or of the GPU's allocator.
    """

    train: list[float]
    peak_memory_mb: float


def measure(work: Work) -> Limit:
    """Train."""
    where = place(work.device)
    module = build(work.backbone, work.classes, "full").to(where.device)
    module = module.to(memory_format=where.memory_format)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    batch = _batch(work, where)
    train = [
        _timed(lambda: _epoch(module, optimizer, batch, work, where))
        for _ in range(work.epochs + 1)
    ]
    return Limit(train[1:], _peak(where))


def _batch(work: Work, where: Placement) -> tuple[Tensor, Tensor]:
    """Return one batch, (batch_size, 3, S, S) float32 in [0, 1), and its targets, (batch_size,)."""
    images = torch.rand(work.batch_size, 3, work.image_size, work.image_size, device=where.device)
    targets = torch.randint(work.classes, (work.batch_size,), device=where.device)
    return images.contiguous(memory_format=where.memory_format), targets


def _epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    work: Work,
    where: Placement,
) -> None:
    module.train()
    images, targets = batch
    for first in range(0, work.train, work.batch_size):
        count = min(work.batch_size, work.train - first)
        optimizer.zero_grad()
        with where.precision():
            outputs = module(images[:count])
        nn.functional.cross_entropy(outputs.float(), targets[:count]).backward()
        optimizer.step()


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _peak(where: Placement) -> float:
    if where.device.type == "cuda":
        return torch.cuda.max_memory_allocated(where.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    given["backbone"] = Backbone(**given["backbone"])
    print(json.dumps(asdict(measure(Work(**given)))))
