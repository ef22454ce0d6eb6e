"""The project's own small backbones: under a million parameters, 32×32 input, quick on one core.

What a backbone registered as a plugin of the kind "backbone" looks like: a function
`(num_outputs, dropout, **kwargs) -> nn.Module`. What the module may say of itself (`stages`,
`head_name`, `default_transform`), and what is taken where it says nothing, stands in `told.py`.
A head of `Dropout` and one `Linear` is trained fastest: many at once, on outputs that are kept.

The function's attribute `weights`, where it has one, maps weights names to folders that hold
`weights.safetensors` and `meta.json`; the first of them is the DEFAULT.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Builder = Callable[[int, float], nn.Module]

CIFAR10_PIXELS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
FASHION_PIXELS = {"mean": (0.2860,) * 3, "std": (0.3530,) * 3}
MNIST_PIXELS = {"mean": (0.1307,) * 3, "std": (0.3081,) * 3}


def _ships(**folders: str) -> Callable[[Builder], Builder]:
    """Give a builder its `weights`: name → folder under `weights/` beside this file."""

    def mark(build: Builder) -> Builder:
        root = Path(__file__).parent / "weights"
        vars(build)["weights"] = {name: str(root / folder) for name, folder in folders.items()}
        return build

    return mark


@_ships(CIFAR10_10K="tiny_resnet")
def tiny_resnet(num_outputs: int, dropout: float = 0.0) -> nn.Module:
    """Return a ResNet of four stages with one basic block each.

    Source: He et al. 2016, "Deep Residual Learning", figure 2 and section 4.2 (CIFAR form).
    """
    stem = _conv(3, 24, stride=2)
    return SmallBackbone(
        {
            "stage1": nn.Sequential(stem, ResidualBlock(24, 24)),
            "stage2": ResidualBlock(24, 48, stride=2),
            "stage3": ResidualBlock(48, 96, stride=2),
            "stage4": nn.Sequential(ResidualBlock(96, 128, stride=2), _pool()),
        },
        _head(128, num_outputs, dropout),
        CIFAR10_PIXELS,
        size=32,
    )


@_ships(FASHION_MNIST="tiny_mobilenet")
def tiny_mobilenet(num_outputs: int, dropout: float = 0.0) -> nn.Module:
    """Return a MobileNet of four stages of inverted residuals.

    Source: Sandler et al. 2018, "MobileNetV2", table 1.
    """
    stem = _conv(3, 16, stride=2)
    return SmallBackbone(
        {
            "stage1": nn.Sequential(stem, InvertedResidual(16, 16)),
            "stage2": InvertedResidual(16, 24, stride=2),
            "stage3": nn.Sequential(InvertedResidual(24, 40), InvertedResidual(40, 40)),
            "stage4": nn.Sequential(
                InvertedResidual(40, 64, stride=2), _conv(64, 192, kernel=1), _pool()
            ),
        },
        _head(192, num_outputs, dropout),
        FASHION_PIXELS,
        size=32,
    )


def two_conv_cnn(num_outputs: int, dropout: float = 0.0) -> nn.Module:
    """Return the two-convolution network of MNIST tutorials; it has no pretrained weights.

    Source: LeCun et al. 1998 (LeNet-5), in the form of the PyTorch MNIST example: two
    convolutions, max-pooling, one hidden layer of 128.
    """
    return SmallBackbone(
        {
            "conv1": nn.Sequential(nn.Conv2d(3, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
            # At 28 pixels this pool is MaxPool2d(2); it lets other sizes through as well.
            "conv2": nn.Sequential(nn.Conv2d(32, 64, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(4)),
            "hidden": nn.Sequential(nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU()),
        },
        _head(128, num_outputs, dropout),
        MNIST_PIXELS,
        size=28,
    )


class SmallBackbone(nn.Sequential):
    """Named stages and a head, in a row: (B, 3, H, W) float → (B, num_outputs)."""

    head_name = "head"

    def __init__(
        self,
        stages: dict[str, nn.Module],
        head: nn.Module,
        pixels: Mapping[str, tuple[float, ...]],
        *,
        size: int,
    ) -> None:
        super().__init__(OrderedDict(stages | {self.head_name: head}))
        self.stages = tuple((name, (name,)) for name in stages)
        self.default_transform: dict[str, Any] = {
            "resize": size,
            "crop": size,
            "interpolation": "bilinear",
            **pixels,
        }


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: (B, C, H, W) → (B, C', H/stride, W/stride)."""

    def __init__(self, channels: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv(channels, out, stride=stride), _conv(out, out, activation=False)
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != out or stride != 1:
            self.shortcut = _conv(channels, out, kernel=1, stride=stride, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(residual(x) + shortcut(x))."""
        return torch.relu(self.residual(x) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """Widen threefold, filter each channel, narrow: (B, C, H, W) → (B, C', H/stride, W/stride)."""

    def __init__(self, channels: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        wide = 3 * channels
        self.residual = nn.Sequential(
            _conv(channels, wide, kernel=1),
            _conv(wide, wide, stride=stride, groups=wide),
            _conv(wide, out, kernel=1, activation=False),
        )
        self.has_shortcut = channels == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return residual(x), with x added where the shape stays."""
        residual: Tensor = self.residual(x)
        return x + residual if self.has_shortcut else residual


def _conv(
    channels: int,
    out: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = [conv, nn.BatchNorm2d(out), *([nn.ReLU(inplace=True)] if activation else [])]
    return nn.Sequential(*layers)


def _pool() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _head(channels: int, num_outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_outputs))
