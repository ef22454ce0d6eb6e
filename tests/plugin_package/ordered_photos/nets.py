"""A backbone: a plain function that returns a plain module and says nothing else."""

from __future__ import annotations

from torch import nn


def plain_net(num_outputs: int, dropout: float = 0.0, width: int = 16) -> nn.Module:
    """Return three convolutions and a head: (B, 3, H, W) float → (B, num_outputs)."""
    net = nn.Sequential()
    for stage, channels in enumerate((width, 2 * width, 4 * width)):
        before = 3 if stage == 0 else channels // 2
        net.add_module(
            f"stage{stage}",
            nn.Sequential(
                nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ),
        )
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, num_outputs)))
    return net
