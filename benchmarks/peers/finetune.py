"""The tutorial's fine-tuning: every image is decoded anew in every epoch.

The frozen part is in eval mode and needs no gradients; evaluation has no gradients at all.
On CUDA: bfloat16 autocast, pinned memory, copies that do not wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

from peers.job import Backbone, Job


def finetune(job: Job, drawn: dict[str, Any], seed: int) -> Iterator[tuple[float, float]]:
    """Train a configuration; yield accuracy on the validation images and seconds, per epoch."""
    torch.manual_seed(seed)
    train, val = loaders(job, drawn["augmentation"])
    backbone = job.backbone(drawn["backbone"])
    model = build(backbone, len(train.dataset.classes), drawn["strategy"])
    model.to(job.device)
    optimizer = _optimizer(model, backbone.head, drawn)
    for epoch in range(job.epochs):
        began = time.perf_counter()
        freeze(model, backbone, drawn, epoch, job.epochs)
        _train(model, optimizer, train, job.device)
        accuracy = evaluate(model, val, job.device)
        yield accuracy, time.perf_counter() - began


def loaders(job: Job, augmentation: str) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return the training images, shuffled and augmented, and the validation images."""
    to_input = [transforms.ToTensor(), transforms.Normalize(job.mean, job.std)]
    centre = [transforms.Resize(job.resize), transforms.CenterCrop(job.image_size)]
    zoom = [transforms.RandomResizedCrop(job.image_size), transforms.RandomHorizontalFlip()]
    made = []
    for split, steps in (
        ("train", zoom if augmentation == "flip-crop" else centre),
        ("val", centre),
    ):
        images = datasets.ImageFolder(f"{job.data}/{split}", transforms.Compose(steps + to_input))
        made.append(
            DataLoader(
                images,
                job.batch_size,
                shuffle=split == "train",
                num_workers=job.loader_workers,
                persistent_workers=job.loader_workers > 0,
                pin_memory=job.device != "cpu",
            )
        )
    return made[0], made[1]


def build(backbone: Backbone, classes: int, strategy: str) -> nn.Module:
    """Return the model with its weights and a new head."""
    model = models.get_model(backbone.model, **backbone.kwargs)
    if backbone.weights and strategy != "from-scratch":
        model.load_state_dict(torch.load(backbone.weights, weights_only=True), strict=False)
    old = model.get_submodule(backbone.head)
    if isinstance(old, nn.Conv2d):  # SqueezeNet's
        new: nn.Module = nn.Conv2d(old.in_channels, classes, kernel_size=1)
    else:
        new = nn.Linear(old.in_features, classes)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # not searched: no side has any
    parent, _, name = backbone.head.rpartition(".")
    setattr(model.get_submodule(parent), name, new)
    return model


def _optimizer(model: nn.Module, head: str, drawn: dict[str, Any]) -> torch.optim.Optimizer:
    named = list(model.named_parameters())
    body = [p for name, p in named if not name.startswith(f"{head}.")]
    head_parameters = list(model.get_submodule(head).parameters())
    rates = ((body, drawn["lr"] * drawn.get("body", 1.0)), (head_parameters, drawn["lr"]))
    groups = [{"params": parameters, "lr": lr} for parameters, lr in rates]
    return torch.optim.AdamW(groups, weight_decay=drawn["weight_decay"])


def freeze(
    model: nn.Module, backbone: Backbone, drawn: dict[str, Any], epoch: int, epochs: int
) -> None:
    """Set what this epoch trains."""
    model.train()
    model.requires_grad_(True)
    if drawn["strategy"] == "bias-norm-only":
        _only_bias_and_norm(model, backbone.head)
    for stage in backbone.stages[: _frozen(drawn, len(backbone.stages), epoch, epochs)]:
        for name in stage:
            model.get_submodule(name).requires_grad_(False).eval()


def _frozen(drawn: dict[str, Any], stages: int, epoch: int, epochs: int) -> int:
    """Return how many stages, counted from the input, stand still."""
    match drawn["strategy"]:
        case "linear-probe":
            return stages
        case "last-stage":
            return stages - 1
        case "freeze-fraction":
            return round(drawn["fraction"] * stages)
        case "gradual-unfreeze":
            return stages - min(stages, ceil(stages * epoch / max(1, epochs - 1)))
    return 0


def _only_bias_and_norm(model: nn.Module, head: str) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) or name == head:
            continue
        for key, parameter in module.named_parameters(recurse=False):
            parameter.requires_grad_(key == "bias")


def _train(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: DataLoader[Any], device: str
) -> None:
    for batch, targets in images:
        optimizer.zero_grad()
        outputs = _forward(model, batch, device)
        nn.functional.cross_entropy(outputs, targets.to(device, non_blocking=True)).backward()
        optimizer.step()


def _forward(model: nn.Module, batch: Tensor, device: str) -> Tensor:
    with torch.autocast("cuda", torch.bfloat16, enabled=device != "cpu"):
        outputs: Tensor = model(batch.to(device, non_blocking=True))
    return outputs.float()


@torch.inference_mode()
def evaluate(model: nn.Module, images: DataLoader[Any], device: str) -> float:
    """Return the share of images that the model names rightly."""
    model.eval()
    right = torch.zeros((), device=device)
    for batch, targets in images:
        right += (_forward(model, batch, device).argmax(1) == targets.to(device)).sum()
    return float(right) / len(images.dataset)  # type: ignore[arg-type]
