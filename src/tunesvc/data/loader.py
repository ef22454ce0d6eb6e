"""Decoded splits → augmented, normalised batches on the device.

Legend: N images, B batch size, S side of the decoded square, C (`crop`) side of what the model
sees, K views.

Why: random crops are taken from the decoded square, which has already lost the ends of long
photographs. Decoding once per host is worth more than those ends.

Why: 2026-11: no thread makes batches ahead where the images lie where they are used. On the CPU
the batches of MobileNetV2 at 96 pixels take 1.3 % (flip-crop) and 2 to 4 % (trivial-augment) of its
training's time on one thread, which is all that a thread could save, and only beside idle cores.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from tunesvc.data import augment
from tunesvc.data.augment import Draw
from tunesvc.data.listing import Split
from tunesvc.data.resident import streamed
from tunesvc.data.sending import sent

_Parts = list[tuple[Tensor, Tensor]]  # what `plan` returns
_Finish = Callable[[Tensor], Tensor]  # (B, 3, C, C) uint8 → float32

_CHUNK = 4  # images that the CPU normalises at a time: they stay in its cache


def plan(
    count: int,
    batch_size: int,
    *,
    training: bool,
    generator: torch.Generator,
    views: int = 1,
    skip: int = 0,
) -> _Parts:
    """Return which images, in which of their views, make up each batch of one epoch.

    In training the order is random, and each image's view too where there are several; a last
    batch of a single image is left out, since batch-norm cannot learn from it. Otherwise the
    images come in order, in their first view.

    Args:
        generator: on the CPU; the order is drawn from it, then the views, both whole.
        skip: batches at the beginning that are left out.

    Returns:
        index (B,) int64 and view (B,) int64 of each batch, on the CPU.
    """
    order = torch.randperm(count, generator=generator) if training else torch.arange(count)
    view = torch.zeros(count, dtype=torch.long)
    if training and views > 1:
        view = torch.randint(views, (count,), generator=generator)
    parts = list(zip(torch.split(order, batch_size), torch.split(view, batch_size), strict=True))
    if training and parts and len(parts[-1][0]) == 1 < batch_size:
        parts.pop()
    return parts[skip:]


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
    views: int = 0,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Return one epoch: images (B, 3, C, C) float32, normalised, and targets (B,), on the device.

    In training the order is random and images are augmented, as `augment.draw` says; otherwise
    they come in order, and their centres are taken (see `plan`). Images that are on the device
    are taken there; others are sent by a thread that is two batches ahead, and which ends with the
    iterator.

    Args:
        generator: on the CPU. All chance comes from it, and now: the batches after the first
            `skip` are the same whatever is done with it, or with those before them, later.
        skip: batches at the beginning that are left out, unread.
        views: how many fixed views of each image stand for its augmentation, one of which is
            drawn for each image; 0 for an augmentation that is drawn anew.
        memory_format: layout of the images.
    """
    count, size = len(split.targets), split.images.shape[-1]
    name = augmentation if training else "none"
    fixed = augment.views(name, count, size=size, crop=crop, number=views) if views else ()
    number = max(1, len(fixed))
    parts = plan(count, batch_size, training=training, generator=generator, views=number, skip=skip)
    finish = _normalisation(mean, std, device, memory_format)
    if name == "none":
        centred = Split(_centre(split.images, crop), split.targets)
        return _made(centred, parts, None, finish, device)
    if not fixed:
        fixed = (augment.draw(name, count, size=size, crop=crop, generator=generator),)
    return _made(split, parts, augment.joined(fixed), finish, device)


def of_view(
    split: Split,
    view: Draw,
    batch_size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[Tensor]:
    """Return one view of a whole split in order: (B, 3, C, C) float32, normalised, on the device.

    Args:
        view: one of `augment.views`, of as many images as the split has.
        memory_format: layout of the images.
    """
    indices = torch.split(torch.arange(len(split.targets)), batch_size)
    finish = _normalisation(mean, std, device, memory_format)
    parts = [(index, torch.zeros_like(index)) for index in indices]
    return (images for images, _ in _made(split, parts, view, finish, device))


def finished(
    images: Tensor,
    *,
    crop: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Return decoded squares as the batches of an evaluated split have them.

    Args:
        images: (B, 3, S, S) uint8, on any device.

    Returns:
        (B, 3, C, C) float32, normalised, on `device`.
    """
    centred = _centre(images, crop).to(device)
    return _normalisation(mean, std, device, memory_format)(centred)


def _made(
    split: Split, parts: _Parts, draw: Draw | None, finish: _Finish, device: torch.device
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the batches of a plan.

    Args:
        draw: of N images for each view, one view after the other; None to take them as they are.
    """
    count = len(split.targets)
    ready = (_taken(split, index) for index, _ in parts)
    with closing(ready if _is_on(split, device) else streamed(ready, device)) as batches:
        for (images, targets), (index, view) in zip(batches, parts, strict=True):
            rows = view * count + index
            yield finish(augment.apply(draw[rows], images) if draw else images), targets


def _taken(split: Split, index: Tensor) -> tuple[Tensor, Tensor]:
    there = sent(index, split.images.device)
    return split.images.index_select(0, there), split.targets[there]  # copies whole images


def _is_on(split: Split, device: torch.device) -> bool:
    return split.images.device.type == device.type


def _centre(images: Tensor, crop: int) -> Tensor:
    first = round((images.shape[-1] - crop) / 2)
    return images[..., first : first + crop, first : first + crop]


def _normalisation(
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    memory_format: torch.memory_format,
) -> _Finish:
    """Return what makes (x / 255 - mean) / std of uint8 images, in a layout.

    Why: 2026-11: on the CPU a few images at a time, which then are copied into their layout from
    the processor's cache: 11.9 ms for (64, 3, 224, 224) into channels_last on one thread and 6.1
    on two, against 14.9 and 6.5 in whole passes (Intel Xeon, torch 2.15).
    """
    spread = torch.tensor(std).view(3, 1, 1)
    scale = sent(1 / (255 * spread), device)
    shift = sent(-torch.tensor(mean).view(3, 1, 1) / spread, device)
    fill = at_once if device.type == "cuda" else by_chunks

    def finish(images: Tensor) -> Tensor:
        made = torch.empty(
            images.shape, dtype=torch.float32, device=device, memory_format=memory_format
        )
        fill(images, scale, shift, made)
        return made

    return finish


def at_once(images: Tensor, scale: Tensor, shift: Tensor, made: Tensor) -> None:
    """Fill `made` with images · scale + shift, in one pass where this is done on CUDA."""
    torch.addcmul(shift, images, scale, out=made)


def by_chunks(images: Tensor, scale: Tensor, shift: Tensor, made: Tensor) -> None:
    """Fill `made` with images · scale + shift, a few images at a time."""
    for some, place in zip(torch.split(images, _CHUNK), torch.split(made, _CHUNK), strict=True):
        place.copy_(some.float().mul_(scale).add_(shift))
