"""A toy for the training loop: which half of a small picture is bright."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tunesvc import plugins, strategies, train
from tunesvc.backbones.anatomy import Backbone, InputTransform, Stage
from tunesvc.data import Split
from tunesvc.spec import BackboneSpec, Knobs, TrialConfig
from tunesvc.train import Placement, Run

CPU = Placement(torch.device("cpu"), autocast=False, channels_last=True, threads=1)
PIXELS = InputTransform(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear")


def pictures(count: int, seed: int = 0) -> Split:
    """Noise of 8×8 pixels, brighter in the left (class 0) or right (class 1) half."""
    chance = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 120, (count, 3, 8, 8), generator=chance)
    targets = torch.arange(count) % 2
    images[targets == 0, :, :, :4] += 80
    images[targets == 1, :, :, 4:] += 80
    return Split(images.to(torch.uint8), targets, ())


def toy_backbone(outputs: int = 2, dropout: float = 0.0, *, group_norm: bool = False) -> Backbone:
    """Two stages, each with a batch-norm, or a norm of each image alone, and a head."""
    one, two = (nn.GroupNorm(2, n) if group_norm else nn.BatchNorm2d(n) for n in (4, 8))
    module = nn.Sequential()
    module.add_module("one", nn.Sequential(nn.Conv2d(3, 4, 3), one, nn.ReLU()))
    module.add_module("two", nn.Sequential(nn.Conv2d(4, 8, 3), two, nn.Flatten()))
    module.add_module("head", nn.Sequential(nn.Dropout(dropout), nn.Linear(8 * 16, outputs)))
    stages = tuple(stage(module, name) for name in ("one", "two"))
    norms = frozenset(f"{name}.1.{part}" for name in ("one", "two") for part in ("weight", "bias"))
    return Backbone(module, stages, stage(module, "head"), norms, PIXELS, "")


def stage(module: nn.Module, name: str) -> Stage:
    parts = module.get_submodule(name).named_parameters()
    return Stage(name, tuple(f"{name}.{part}" for part, _ in parts), (name,))


def make_run(
    *,
    epochs: int = 3,
    seed: int = 5,
    task: str = "image-classification",
    group_norm: bool = False,
    where: Placement = CPU,
    **knobs: Any,
) -> Run:
    """Return a run over 60 pictures, in batches of 16 unless the knobs say otherwise."""
    settings = Knobs(**{"lr": 0.01, "batch_size": 16} | knobs)
    train.seed(seed)
    outputs = 1 if task == "image-regression" else 2
    body = toy_backbone(outputs, settings.dropout, group_norm=group_norm)
    stages = [(stage.name, stage.parameters) for stage in body.stages]
    plan = strategies.plan(stages, body.head.parameters, body.norm_parameters, settings, epochs)
    config = TrialConfig(BackboneSpec(name="toy"), settings, epochs, seed)
    first, second = pictures(60), pictures(30, seed=1)
    if task == "image-regression":
        first, second = (replace(s, targets=s.targets.float()) for s in (first, second))
    return Run(body, plugins.load("task", task), first, second, config, where, plan)


@pytest.fixture
def toy_run() -> Callable[..., Run]:
    """Build a toy's run: epochs, seed, task, whether without batch-norm, and any knobs."""
    return make_run


@pytest.fixture
def lively() -> dict[str, Any]:
    """Knobs with which every source of chance is used."""
    return {
        "dropout": 0.3,
        "mixup": 0.4,
        "cutmix": 1.0,
        "label_smoothing": 0.1,
        "augmentation": "trivial-augment",
        "warmup": 0.2,
    }
