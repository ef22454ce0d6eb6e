"""Tests of batches: order, normalisation, augmentation, and that seeds decide everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesvc.data import Split, batches, loader, of_view, plan, resident
from tunesvc.data import views as fixed_views
from tunesvc.data.resident import ahead

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
    **keys: Any,
) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    keys |= {"augmentation": augmentation, "training": training}
    return list(
        batches(given, size, crop=crop, mean=mean, std=std, generator=generator, device=CPU, **keys)
    )


def noise(count: int, side: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(count))


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(x, y) for a, b in pairs for x, y in zip(a, b, strict=True))


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
def test_augmentation_is_decided_by_the_generator(side: int, crop: int, augmentation: str) -> None:
    """Equal generators give equal pixels, wherever torch's own generator stands."""
    given = noise(6, side)
    first = images_of(run(given, crop=crop, augmentation=augmentation))
    torch.rand(1)
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
    image = noise(1, 80).images.expand(60, -1, -1, -1)
    made = images_of(
        run(Split(image, torch.zeros(60)), 60, crop=80, augmentation="trivial-augment")
    )
    assert len(made.mean(dim=(1, 2, 3)).unique()) > 50


@pytest.mark.parametrize("augmentation", ["none", "flip-crop", "trivial-augment"])
@pytest.mark.parametrize(("side", "crop"), [(12, 8), (96, 80)])
@pytest.mark.parametrize("views", [0, 4])
@pytest.mark.parametrize("skip", [0, 1, 3, 4, 5, 9])
def test_skipping_goes_on_where_the_batches_before_ended(
    augmentation: str, side: int, crop: int, views: int, skip: int
) -> None:
    """From an equal generator the rest is pixel for pixel that of the whole epoch."""
    given, keys = noise(18, side), {"crop": crop, "augmentation": augmentation, "views": views}
    whole, rest = run(given, **keys), run(given, skip=skip, **keys)
    assert len(rest) == max(0, 5 - skip)
    assert same(rest, whole[skip:])


def test_all_chance_is_drawn_when_batches_are_asked_for() -> None:
    """What the generator does afterwards changes nothing."""
    generator = torch.Generator().manual_seed(0)
    keys: dict[str, Any] = {"mean": (0,) * 3, "std": (1 / 255,) * 3, "device": CPU, "crop": 80}
    keys |= {"augmentation": "trivial-augment", "training": True, "generator": generator}
    made = batches(noise(12, 96), 4, **keys)
    generator.manual_seed(1)
    assert same(list(made), run(noise(12, 96), crop=80, augmentation="trivial-augment"))


@pytest.mark.parametrize("augmentation", ["flip-crop", "trivial-augment"])
@pytest.mark.parametrize(("side", "crop"), [(12, 8), (96, 80)])
def test_batches_of_views_are_taken_by_the_plan(augmentation: str, side: int, crop: int) -> None:
    """What `plan` says of an equal generator, taken from the views of the whole split.

    So features of the views, taken by the same plan, are those of the same images.
    """
    given = noise(18, side)
    views = fixed_views(augmentation, 18, size=side, crop=crop)
    keys: dict[str, Any] = {"mean": MEAN, "std": STD, "device": CPU}
    shown = torch.stack([torch.cat(list(of_view(given, view, 5, **keys))) for view in views])
    made = run(given, crop=crop, augmentation=augmentation, views=4, mean=MEAN, std=STD)
    parts = plan(18, 4, training=True, generator=torch.Generator().manual_seed(0), views=4)
    for (images, targets), (index, view) in zip(made, parts, strict=True):
        assert torch.equal(targets, given.targets[index])
        assert torch.equal(images, shown[view, index])
    assert torch.equal(shown[0], shown[1].flip(-1))


def test_views_are_drawn_alike_and_anew_for_each_epoch() -> None:
    """Every image meets each of its views about equally often."""
    generator = torch.Generator().manual_seed(0)
    seen = torch.zeros(4, 10)
    for _ in range(400):
        for index, view in plan(10, 3, training=True, generator=generator, views=4):
            seen[view, index] += 1
    assert 330 <= int(seen.sum(0).min()) <= int(seen.sum(0).max()) < 390  # one in ten is left out
    assert 60 <= int(seen.min()) <= int(seen.max()) <= 120  # the mean is 90, its deviation 8


def test_evaluation_has_one_view() -> None:
    """Without training, or without augmentation, there is only the centre."""
    given = noise(9, 12)
    centre = run(given, training=False)
    assert same(centre, run(given, training=False, views=4, augmentation="flip-crop"))
    assert same(run(given), run(given, views=4))
    parts = plan(9, 4, training=False, generator=torch.Generator(), views=4)
    assert [view.sum().item() for _, view in parts] == [0, 0, 0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fill", [loader.at_once, loader.by_chunks])
def test_both_ways_to_normalise(layout: torch.memory_format, fill: Any) -> None:
    """In one pass, as on CUDA, or by a few images at a time: the same numbers in either layout."""
    images = noise(10, 12).images
    scale, shift = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.ones(3, 1, 1)
    made = torch.empty(images.shape, memory_format=layout)
    fill(images, scale, shift, made)
    assert torch.allclose(made, images * scale + shift, atol=1e-5)
    assert made.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batches_come_in_the_layout_asked_for(layout: torch.memory_format) -> None:
    """The pixels are the same in either."""
    given = noise(8, 96)
    made = run(given, crop=80, augmentation="flip-crop", memory_format=layout)
    assert all(images.is_contiguous(memory_format=layout) for images, _ in made)
    assert same(made, run(given, crop=80, augmentation="flip-crop"))


@pytest.mark.parametrize("augmentation", ["none", "flip-crop"])
@pytest.mark.parametrize("skip", [0, 2])
def test_streamed_batches_are_the_same(
    augmentation: str, skip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that takes the images ahead changes neither their order nor their pixels."""
    given, keys = noise(18, 96), {"crop": 80, "augmentation": augmentation, "skip": skip}
    direct = run(given, **keys)
    monkeypatch.setattr(loader, "_is_on", lambda split, device: False)
    assert same(run(given, **keys), direct)
    assert not streaming()


def streaming() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("tunesvc-batches")]


def test_the_thread_is_two_items_ahead() -> None:
    """It takes no more than it was told to, and does not run in the caller's thread."""
    taken: list[int] = []
    threads = set()

    def items() -> Iterator[int]:
        for item in range(9):
            taken.append(item)
            threads.add(threading.current_thread())
            yield item

    made = ahead(items(), 2)
    for got in range(9):
        assert next(made) == got
        for _ in range(10_000):  # it comes that far while nobody asks
            if len(taken) < min(got + 3, 9):
                time.sleep(0.001)
        time.sleep(0.02)  # and no farther
        assert taken == list(range(min(got + 3, 9)))
    assert list(made) == []
    assert threading.current_thread() not in threads
    assert not streaming()


class BrokenError(Exception):
    """Raised in the thread."""


def test_what_the_thread_raises_is_raised_in_its_place() -> None:
    """The items before it come first; the thread is gone then."""

    def items() -> Iterator[int]:
        yield from range(3)
        raise BrokenError

    got = []
    with pytest.raises(BrokenError):
        got.extend(ahead(items(), 2))
    made = ahead(items(), 2)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BrokenError):
        next(made)
    assert not streaming()


@pytest.mark.parametrize("end", ["close", "drop", "raise"])
def test_an_interrupted_epoch_leaves_no_thread(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed, dropped, or left by an exception: the thread has ended when the caller goes on."""
    monkeypatch.setattr(loader, "_is_on", lambda split, device: False)
    generator, keys = torch.Generator(), {"mean": (0,) * 3, "std": (1,) * 3, "device": CPU}
    keys |= {"augmentation": "flip-crop", "training": True, "generator": generator, "crop": 8}

    def learn() -> None:
        for _ in batches(split(400), 4, **keys):
            assert streaming()
            raise BrokenError

    made = batches(split(400), 4, **keys)
    if end == "raise":
        with pytest.raises(BrokenError):
            learn()
    else:
        next(made)
        assert streaming()
        made.close() if end == "close" else None
        del made
    assert not streaming()


def test_a_split_is_resident_where_it_fits() -> None:
    """Images and targets move to the device within the budget; on the CPU they stay mapped."""
    given, meta = noise(5, 8), torch.device("meta")
    needed = 5 * (3 * 8 * 8 + 8)
    assert resident(given, CPU, 10**9) is given
    assert resident(given, meta, needed - 1) is given
    moved = resident(Split(given.images, given.targets, ("bad.jpg",)), meta, needed)
    assert (moved.images.device, moved.targets.device) == (meta, meta)
    assert moved.skipped == ("bad.jpg",)


class Noted(Tensor):
    """A tensor that notes which of its rows are read."""

    rows: list[int]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return rows by their numbers."""
        self.rows.extend(index.tolist())
        return super().__getitem__(index).as_subclass(Tensor)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return rows by their numbers."""
        assert dim == 0
        self.rows.extend(index.tolist())
        return super().index_select(0, index).as_subclass(Tensor)


def test_skipped_images_are_not_read() -> None:
    """Only the images of the batches that are left are taken from the split."""
    images = split(20).images.as_subclass(Noted)
    images.rows = []
    made = run(Split(images, torch.arange(20)), augmentation="flip-crop", skip=3)
    assert len(images.rows) == 8
    assert images.rows == torch.cat([targets for _, targets in made]).tolist()
