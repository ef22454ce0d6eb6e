"""What chance decides about images, for many of them at once.

Legend: N images, S side of the decoded square, C (`crop`) side of what the model sees.

Equal in distribution to torchvision's RandomResizedCrop, RandomHorizontalFlip and
TrivialAugmentWide at their defaults.

Source: He et al. 2016, section 4.2 (shift and flip); Szegedy et al. 2015, section 6 (random
resized crop); Müller and Hutter 2021 (TrivialAugment), its "wide" space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALL = 64  # up to here images are shifted, above they are zoomed
_SHIFT = 4  # pixels
_AREAS = (0.08, 1.0)  # of a random crop, as a share of the square's
_RATIOS = (3 / 4, 4 / 3)  # of its width to its height
_TRIES = 10  # to find one that fits

_BINS = 31
_SIGNED = {
    "ShearX": torch.linspace(0.0, 0.99, _BINS),
    "ShearY": torch.linspace(0.0, 0.99, _BINS),
    "TranslateX": torch.linspace(0.0, 32.0, _BINS),  # pixels
    "TranslateY": torch.linspace(0.0, 32.0, _BINS),
    "Rotate": torch.linspace(0.0, 135.0, _BINS),  # degrees
    "Brightness": torch.linspace(0.0, 0.99, _BINS),
    "Color": torch.linspace(0.0, 0.99, _BINS),
    "Contrast": torch.linspace(0.0, 0.99, _BINS),
    "Sharpness": torch.linspace(0.0, 0.99, _BINS),
}
_UNSIGNED = {
    "Posterize": (8 - torch.arange(_BINS) / ((_BINS - 1) / 6)).round(),  # bits that are kept
    "Solarize": torch.linspace(1.0, 0.0, _BINS),  # threshold; 1 is white
    "AutoContrast": torch.zeros(_BINS),
    "Equalize": torch.zeros(_BINS),
}

OPERATIONS = ("Identity", *_SIGNED, *_UNSIGNED)
_MAGNITUDES = torch.stack([torch.zeros(_BINS), *_SIGNED.values(), *_UNSIGNED.values()])


@dataclass(frozen=True)
class Draw:
    """What is done to each of N images; tensors on the CPU.

    Args:
        size: S, side of the images given.
        crop: C, side of the images made.
        boxes: (N, 4) int64: top, left, height and width of the part that is kept. What of it lies
            outside of the image is black; one of C × C pixels is taken as it is.
        flips: (N,) bool: left and right are exchanged.
        operations: (N,) int64, places in `OPERATIONS`: what is done to the crop.
        magnitudes: (N,) float32: how much of it, as torchvision's TrivialAugmentWide counts.
    """

    size: int
    crop: int
    boxes: Tensor
    flips: Tensor
    operations: Tensor
    magnitudes: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice) -> Draw:
        """Return what is done to some of the images."""
        return Draw(
            self.size,
            self.crop,
            self.boxes[index],
            self.flips[index],
            self.operations[index],
            self.magnitudes[index],
        )


def draw(name: str, count: int, *, size: int, crop: int, generator: torch.Generator) -> Draw:
    """Draw an augmentation for `count` images.

    Args:
        name: "none", the centre; "flip-crop", a random shift by up to 4 pixels over a black margin
            (C ≤ 64) or a random resized crop (above), and a horizontal flip of every other image;
            "trivial-augment", which adds one random operation per image.
        size: S.
        crop: C.
        generator: on the CPU; all chance comes from it.
    """
    if name == "none":
        return _centre(count, size, crop)
    boxes = (_shifts if crop <= _SMALL else _zooms)(count, size, crop, generator)
    flips = torch.rand(count, generator=generator) < 0.5
    operations = torch.zeros(count, dtype=torch.long)
    magnitudes = torch.zeros(count)
    if name == "trivial-augment":
        operations = torch.randint(len(OPERATIONS), (count,), generator=generator)
        bins = torch.randint(_BINS, (count,), generator=generator)
        turned = torch.rand(count, generator=generator) < 0.5
        magnitudes = _MAGNITUDES[operations, bins]
        magnitudes[turned & (operations <= len(_SIGNED))] *= -1
    return Draw(size, crop, boxes, flips, operations, magnitudes)


def views(name: str, count: int, *, size: int, crop: int, number: int = 4) -> tuple[Draw, ...]:
    """Return the fixed views of `count` images under an augmentation, the same on every host.

    The first is the centre, the second its mirror image, the others are drawn from a seed that is
    the view's place. "none" has the first only.
    """
    centre = _centre(count, size, crop)
    if name == "none":
        return (centre,)
    mirrored = Draw(size, crop, centre.boxes, ~centre.flips, centre.operations, centre.magnitudes)
    generators = [torch.Generator().manual_seed(place) for place in range(2, number)]
    drawn = [draw(name, count, size=size, crop=crop, generator=g) for g in generators]
    return (centre, mirrored, *drawn)[:number]


def joined(draws: Sequence[Draw]) -> Draw:
    """Return draws of equal sides as one, one after the other."""

    def all_of(field: str) -> Tensor:
        return torch.cat([getattr(draw, field) for draw in draws])

    names = ("boxes", "flips", "operations", "magnitudes")
    return Draw(draws[0].size, draws[0].crop, *map(all_of, names))


def _centre(count: int, size: int, crop: int) -> Draw:
    first = round((size - crop) / 2)
    boxes = torch.tensor([first, first, crop, crop]).repeat(count, 1)
    nothing = torch.zeros(count, dtype=torch.long)
    return Draw(size, crop, boxes, nothing.bool(), nothing, nothing.float())


def _shifts(count: int, size: int, crop: int, generator: torch.Generator) -> Tensor:
    places = size + 2 * _SHIFT - crop + 1
    corners = torch.randint(places, (count, 2), generator=generator) - _SHIFT
    return torch.cat([corners, torch.full((count, 2), crop)], dim=1)


def _zooms(count: int, size: int, crop: int, generator: torch.Generator) -> Tensor:
    """Draw boxes of random area and shape; after ten that do not fit, the whole square."""
    del crop  # any box is scaled to it
    low, high = (math.log(ratio) for ratio in _RATIOS)
    sides = torch.full((count, 2), size)
    missing = torch.arange(count)
    for _ in range(_TRIES):
        shape = (len(missing), 2)
        chance = torch.rand(shape, generator=generator, dtype=torch.float64)
        area = size**2 * (_AREAS[0] + (_AREAS[1] - _AREAS[0]) * chance[:, 0])
        ratio = torch.exp(low + (high - low) * chance[:, 1])
        tried = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=1).round().long()
        fits = ((tried > 0) & (tried <= size)).all(1)
        sides[missing[fits]] = tried[fits]
        missing = missing[~fits]
    chance = torch.rand((count, 2), generator=generator, dtype=torch.float64)
    corners = (chance * (size - sides + 1)).long()
    return torch.cat([corners, sides], dim=1)
