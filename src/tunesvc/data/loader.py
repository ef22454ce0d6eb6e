"""Decoded splits → augmented, normalised batches on the device.

Legend: B batch size, S side of the decoded square, C (`crop`) side of what the model sees.

Why: random crops are taken from the decoded square, which has already lost the ends of long
photographs. Decoding once per host is worth more than those ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import v2

from tunesvc.data.listing import Split

_SMALL = 64  # up to here images are shifted, above they are zoomed
_PADDING = 4

_Augment = Callable[[Tensor], Tensor]  # (B, 3, S, S) uint8 → (B, 3, C, C) uint8


def batches(
    split: Split,
    batch_size: int,
    *,
    crop: int,
    mean: Sequence[float],
    std: Sequence[float],
    augmentation: str,
    training: bool,
    generator: torch.Generator,
    device: torch.device,
    skip: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return one epoch: images (B, 3, C, C) float32, normalised, and targets (B,), on the device.

    In training the order is random and images are augmented: "none"; "flip-crop", which is a
    random shift by up to 4 pixels (C ≤ 64) or a random resized crop (above), and a horizontal
    flip; or "trivial-augment", which adds one random operation per image. A last batch of a
    single image is left out, since batch-norm cannot learn from it. Otherwise the images come in
    order, and their centres are taken.

    All randomness comes from `generator` (CPU) and torch's global CPU generator: the order at
    once, the rest when a batch is asked for. The first `skip` batches are left out, unread; to get
    the others as they would have been after them, set the generators now to where they stood then.

    Source: He et al. 2016, section 4.2 (shift and flip); Szegedy et al. 2015, section 6 (random
    resized crop); Müller and Hutter 2021 (TrivialAugment).
    """
    count = len(split.targets)
    order = torch.randperm(count, generator=generator) if training else torch.arange(count)
    chosen = augmentation if training else "none"
    images, augment = split.images, _augmentation(chosen, crop, generator)
    if chosen == "none":
        images = _centre(images, crop)
    indices = torch.split(order, batch_size)[skip:]
    if training and indices and len(indices[-1]) == 1 < batch_size:
        indices = indices[:-1]
    scale = (1 / (255 * torch.tensor(std, device=device))).view(3, 1, 1)
    shift = -(torch.tensor(mean, device=device) / torch.tensor(std, device=device)).view(3, 1, 1)

    def made(index: Tensor) -> tuple[Tensor, Tensor]:
        batch = _to(augment(images[index]), device)
        return batch.float().mul_(scale).add_(shift), _to(split.targets[index], device)

    return map(made, indices)


def _centre(images: Tensor, crop: int) -> Tensor:
    first = round((images.shape[-1] - crop) / 2)
    return images[..., first : first + crop, first : first + crop]


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # copied while the device computes


def _augmentation(name: str, crop: int, generator: torch.Generator) -> _Augment:
    if name == "none":
        return lambda images: images
    place = _zoom(crop) if crop > _SMALL else partial(_shift, crop=crop, generator=generator)
    if name == "flip-crop":
        return place
    trivial = _each(v2.TrivialAugmentWide())
    return lambda images: trivial(place(images))


def _each(transform: Callable[[Tensor], Tensor]) -> _Augment:
    """Draw anew for every image: given a batch, torchvision would draw once for all of it."""
    return lambda images: torch.stack([transform(image) for image in images])


def _zoom(crop: int) -> _Augment:
    return _each(v2.Compose([v2.RandomResizedCrop(crop), v2.RandomHorizontalFlip()]))


def _shift(images: Tensor, crop: int, generator: torch.Generator) -> Tensor:
    """Crop each image at its own random place after padding with black; flip every other one."""
    count = len(images)
    padded = torch.nn.functional.pad(images, [_PADDING] * 4)
    places = padded.shape[-1] - crop + 1
    top, left = torch.randint(places, (2, count), generator=generator)
    windows = padded.unfold(2, crop, 1).unfold(3, crop, 1)  # (B, 3, places, places, C, C), a view
    cropped = windows[torch.arange(count), :, top, left]
    flip = torch.rand(count, generator=generator) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), cropped.flip(-1), cropped)
