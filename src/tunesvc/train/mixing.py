"""Mixup and cutmix on the device: each image with its neighbour in the (shuffled) batch.

Notation: λ ~ Beta(α, α) is the share that an image keeps of itself and of its target.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesvc.spec import Knobs


@dataclass(frozen=True)
class Mixture:
    """A mixed batch: images (B, 3, H, W) float, and λ for its targets."""

    images: Tensor
    share: float

    def targets(self, soft: Tensor) -> Tensor:
        """Return λ·own + (1 - λ)·neighbour's of soft targets, (B, C) float."""
        return torch.lerp(soft.roll(1, 0), soft, self.share)


def mix(images: Tensor, knobs: Knobs, rng: random.Random) -> Mixture | None:
    """Mix a batch as the knobs say: one of the two at random where both are on, None where none is.

    Args:
        images: (B, 3, H, W) float; left as it is.
    """
    alphas = {mixup: knobs.mixup, cutmix: knobs.cutmix}
    kinds = [kind for kind, alpha in alphas.items() if alpha > 0]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    return kind(images, rng.betavariate(alphas[kind], alphas[kind]), rng)


def mixup(images: Tensor, share: float, _rng: random.Random) -> Mixture:
    """Blend every image with its neighbour.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", equation 1.
    """
    return Mixture(torch.lerp(images.roll(1, 0), images, share), share)


def cutmix(images: Tensor, share: float, rng: random.Random) -> Mixture:
    """Paste one box of its neighbour, (1 - λ) of the area, into every image.

    The box is cut off at the image's border; λ is then what is really kept.

    Source: Yun et al. 2019, "CutMix", equations 1 and 2.
    """
    height, width = images.shape[-2:]
    half = (1 - share) ** 0.5 / 2
    y, x = rng.randrange(height), rng.randrange(width)
    top, bottom = _clipped(y, half * height, height)
    left, right = _clipped(x, half * width, width)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
    return Mixture(mixed, 1 - (bottom - top) * (right - left) / (height * width))


def _clipped(centre: int, half: float, size: int) -> tuple[int, int]:
    return max(0, round(centre - half)), min(size, round(centre + half))
