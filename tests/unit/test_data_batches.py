"""Tests of batches: order, normalisation, augmentation, and that seeds decide everything."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesvc.data import Split, batches

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)


def split(count: int, side: int = 8) -> Split:
    """Images whose every pixel is the image's number."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, side, side)
    return Split(images.contiguous(), torch.arange(count))


def run(
    given: Split,
    size: int = 4,
    *,
    seed: int = 0,
    mean: Sequence[float] = (0, 0, 0),
    std: Sequence[float] = (1 / 255,) * 3,  # pixels come out as they are, 0…255
    crop: int = 8,
    augmentation: str = "none",
    training: bool = True,
    skip: int = 0,
) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    keys: dict[str, Any] = {"augmentation": augmentation, "training": training, "skip": skip}
    return list(
        batches(given, size, crop=crop, mean=mean, std=std, generator=generator, device=CPU, **keys)
    )


def images_of(made: list[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.cat([images for images, _ in made])


def test_evaluation_is_in_order_and_complete() -> None:
    """Without training every image comes once, in order, not augmented, even a last single one."""
    made = run(split(9), training=False, augmentation="trivial-augment")
    assert [len(targets) for _, targets in made] == [4, 4, 1]
    assert torch.cat([targets for _, targets in made]).tolist() == list(range(9))
    assert images_of(made)[:, 0, 0, 0].tolist() == pytest.approx(list(range(9)))


def test_training_order_is_the_seeds_and_pairs_stay_together() -> None:
    """Images keep their targets; the same seed gives the same order, another a different one."""
    made = run(split(32))
    order = torch.cat([targets for _, targets in made])
    assert sorted(order.tolist()) == list(range(32))
    assert torch.allclose(images_of(made)[:, 1, 3, 3], order.float())
    assert torch.equal(order, torch.cat([targets for _, targets in run(split(32))]))
    assert not torch.equal(order, torch.cat([targets for _, targets in run(split(32), seed=1)]))


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (3, 1, [1, 1, 1]), (8, 4, [4, 4])],
)
def test_a_last_single_image_is_left_out_in_training(
    count: int, size: int, sizes: list[int]
) -> None:
    """Batch-norm cannot train on one image; asked for batches of one, it gets them all."""
    assert [len(targets) for _, targets in run(split(count), size)] == sizes


def test_normalisation_and_centre() -> None:
    """(x / 255 - mean) / std per channel, of the central square."""
    given = split(2, side=12)
    given.images[:, :, 2:10, 2:10] = 51
    images, _ = run(given, mean=MEAN, std=STD, training=False)[0]
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 8, 8)
    for channel, expected in enumerate([-0.6, -0.2, 0.2]):  # 51 / 255 = 0.2
        assert torch.allclose(images[:, channel], torch.tensor(expected))


@pytest.mark.parametrize(("side", "crop"), [(32, 32), (36, 32), (96, 80)])
@pytest.mark.parametrize("augmentation", ["flip-crop", "trivial-augment"])
def test_augmentation_is_decided_by_torchs_seeds(side: int, crop: int, augmentation: str) -> None:
    """Equal generators give equal pixels, whatever Python's own random numbers are."""
    noise = torch.randint(0, 256, (6, 3, side, side), dtype=torch.uint8)
    given = Split(noise, torch.arange(6))
    first = images_of(run(given, crop=crop, augmentation=augmentation))
    random.seed(1)
    assert torch.equal(first, images_of(run(given, crop=crop, augmentation=augmentation)))
    other = images_of(run(given, crop=crop, augmentation=augmentation, seed=1))
    assert first.shape == other.shape == (6, 3, crop, crop)
    assert not torch.equal(first, other)


def test_small_images_are_shifted_and_flipped_uniformly() -> None:
    """Each of the 9 × 9 shifts and both directions are equally likely, drawn per image."""
    count = 8100
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(count, 3, 8, 8)
    made = (
        images_of(run(Split(image, torch.zeros(count)), count, augmentation="flip-crop"))
        .round()
        .int()
    )
    padded = torch.nn.functional.pad(image[0, 0].int(), [4] * 4)
    seen = [0, 0]
    for top in range(9):
        for left in range(9):
            window = padded[top : top + 8, left : left + 8]
            for flipped, version in enumerate((window, window.flip(-1))):
                hits = int((made[:, 1] == version).flatten(1).all(1).sum())
                assert 20 <= hits <= 85  # the mean is 50 and the standard deviation 7
                seen[flipped] += hits
    assert sum(seen) == count
    assert seen[1] == pytest.approx(4050, abs=200)  # the standard deviation is 45
    assert torch.equal(made[:, 0], made[:, 2])


def test_large_images_are_zoomed_and_flipped_one_by_one() -> None:
    """Random resized crops differ between the images of one batch; half of them are flipped."""
    ramp = torch.linspace(0, 255, 96).to(torch.uint8).expand(200, 3, 96, 96).contiguous()
    made = images_of(run(Split(ramp, torch.zeros(200)), 200, crop=80, augmentation="flip-crop"))
    slope = made[:, 0, 40, -1] - made[:, 0, 40, 0]
    assert 70 <= int((slope < 0).sum()) <= 130  # the mean is 100 and the standard deviation 7
    assert len(slope.abs().unique()) > 50
    assert float(slope.abs().max()) > 180
    assert float(slope.abs().min()) < 110


def test_trivial_augment_draws_for_each_image() -> None:
    """One batch holds many different operations, not one for all."""
    noise = torch.randint(0, 256, (1, 3, 80, 80), dtype=torch.uint8).expand(60, -1, -1, -1)
    made = images_of(
        run(Split(noise, torch.zeros(60)), 60, crop=80, augmentation="trivial-augment")
    )
    assert len(made.mean(dim=(1, 2, 3)).unique()) > 50


@pytest.mark.parametrize("augmentation", ["none", "flip-crop", "trivial-augment"])
@pytest.mark.parametrize(("side", "crop"), [(12, 8), (96, 80)])
@pytest.mark.parametrize("skip", [0, 1, 3, 4, 5, 9])
def test_skipping_goes_on_where_the_batches_before_ended(
    augmentation: str, side: int, crop: int, skip: int
) -> None:
    """With the generators where they stood, the rest is pixel for pixel that of the whole epoch."""
    noise = torch.randint(0, 256, (18, 3, side, side), dtype=torch.uint8)
    generator = torch.Generator()

    def epoch(skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        torch.manual_seed(0)
        return batches(
            Split(noise, torch.arange(18)),
            4,
            crop=crop,
            mean=MEAN,
            std=STD,
            augmentation=augmentation,
            training=True,
            generator=generator.manual_seed(0),
            device=CPU,
            skip=skip,
        )

    whole = epoch(0)
    list(islice(whole, skip))
    states = torch.get_rng_state(), generator.get_state()
    expected = list(whole)
    rest = epoch(skip)
    torch.set_rng_state(states[0])
    generator.set_state(states[1])
    made = list(rest)
    assert len(made) == len(expected) == max(0, 5 - skip)
    for (images, targets), (others, numbers) in zip(made, expected, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, numbers)


class Noted(Tensor):
    """A tensor that notes which of its rows are read."""

    rows: list[int]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return rows by their numbers."""
        self.rows.extend(index.tolist())
        return super().__getitem__(index).as_subclass(Tensor)


def test_skipped_images_are_not_read() -> None:
    """Only the images of the batches that are left are taken from the split."""
    images = split(20).images.as_subclass(Noted)
    images.rows = []
    made = run(Split(images, torch.arange(20)), augmentation="flip-crop", skip=3)
    assert len(images.rows) == 8
    assert images.rows == torch.cat([targets for _, targets in made]).tolist()
