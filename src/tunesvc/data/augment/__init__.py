"""Augmentation in two steps: chance is drawn for all images at once, then batches are changed.

draw(name, count, …, generator) ─▶ Draw ─ draw[index] ─▶ apply(draw, images) on the images' device

Why: 2026-11: so no randomness is left when an epoch begins, the draws of an epoch can be kept
(`views`), and a device is given whole batches and never waited for: which image gets which
operation is known on the host.
"""

from __future__ import annotations

from torch import Tensor

from tunesvc.data.augment.crops import cropped
from tunesvc.data.augment.draws import OPERATIONS, Draw, draw, joined, views
from tunesvc.data.augment.operations import operated

__all__ = ["OPERATIONS", "Draw", "apply", "draw", "joined", "views"]


def apply(draw: Draw, images: Tensor) -> Tensor:
    """Do to each image what was drawn for it.

    Args:
        draw: of these images, B of them.
        images: (B, 3, S, S) uint8, on any device; S is `draw.size`.

    Returns:
        (B, 3, C, C) uint8 on the same device; C is `draw.crop`.
    """
    return operated(draw.operations, draw.magnitudes, cropped(draw, images))
