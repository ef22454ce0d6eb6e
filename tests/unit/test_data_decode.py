"""Tests of decoding: every way in which people store images, broken files, and the cache."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tunesvc.data import Items, Listing, Split, cache, decode, picture
from tunesvc.errors import DataError

SHARED = Path(__file__).parents[2] / "../shared/data"
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def listing(images: Any, targets: list[int] | None = None, classes: int = 1) -> Listing:
    """A listing of one training split; its fingerprint is only as good as one test needs."""
    chosen = np.array(targets if targets is not None else [0] * len(images))
    return Listing(tuple(map(str, range(classes))), {"train": Items(images, chosen)}, "f" * 64)


def run(given: Listing, folder: Path, size: int = 8, on_corrupt: str = "fail") -> Split:
    return decode(given, "train", size, on_corrupt=on_corrupt, cache=folder)


def _sixteen_bit(file: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 256 + 9).save(file)


def _palette_with_transparency(file: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 8, 4))
    image.save(file, transparency=0)


def _rgba(file: Path) -> None:
    image = Image.new("RGBA", (8, 8), (200, 100, 50, 255))
    image.paste((0, 0, 0, 0), (0, 4, 8, 8))
    image.save(file)


def _half_transparent_grey(file: Path) -> None:
    Image.new("LA", (8, 8), (0, 128)).save(file)


def _exif_rotated(file: Path) -> None:
    image = Image.new("RGB", (8, 8), "white")
    image.paste((0, 0, 0), (0, 0, 4, 8))  # black on the left as stored, on top when turned
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, exif=exif, quality=100)


def _cmyk(file: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(file, quality=100)


def _floats(file: Path) -> None:
    Image.fromarray(RAMP.astype(np.float32) / 255).save(file)


TOP, BOTTOM = (slice(None), 1, 1), (slice(None), 6, 1)


@pytest.mark.parametrize(
    ("name", "write", "top", "bottom"),
    [
        ("a.png", _sixteen_bit, [RAMP[1, 1]] * 3, [RAMP[6, 1]] * 3),
        ("a.png", _palette_with_transparency, [200, 100, 50], [255] * 3),
        ("a.png", _rgba, [200, 100, 50], [255] * 3),
        ("a.png", _half_transparent_grey, [127] * 3, [127] * 3),
        ("a.jpg", _exif_rotated, [0] * 3, [255] * 3),
        ("a.jpg", _cmyk, [254, 0, 0], [254, 0, 0]),
        ("a.tif", _floats, [RAMP[1, 1] / 252 * 255] * 3, [RAMP[6, 1] / 252 * 255] * 3),
        ("a.png", lambda file: Image.fromarray(RAMP).save(file), [36] * 3, [196] * 3),
        ("a.png", lambda file: Image.new("1", (8, 8), 1).save(file), [255] * 3, [255] * 3),
    ],
    ids=["16-bit", "palette", "rgba", "grey-alpha", "exif", "cmyk", "float", "grey", "bilevel"],
)
def test_images_as_people_store_them(
    tmp_path: Path, name: str, write: Callable[[Path], None], top: list[float], bottom: list[float]
) -> None:
    """Depth is scaled, transparency becomes white, CMYK becomes RGB, and EXIF turns."""
    write(tmp_path / name)
    image = picture.read(tmp_path / name, 8, "bilinear")
    assert (image.shape, image.dtype) == ((3, 8, 8), np.uint8)
    assert image[TOP].tolist() == pytest.approx(top, abs=2)
    assert image[BOTTOM].tolist() == pytest.approx(bottom, abs=2)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_torchvisions(tmp_path: Path, interpolation: str) -> None:
    """A real photograph comes out as Resize and CenterCrop of torchvision give it."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    for file in sorted((SHARED / "hymenoptera/val/bees").iterdir())[:5]:
        ours = picture.read(file, 96, interpolation).astype(int)
        resize = v2.Resize(96, interpolation=v2.InterpolationMode(interpolation))
        with Image.open(file) as image:
            theirs = np.asarray(v2.CenterCrop(96)(resize(image.convert("RGB"))))
        assert np.abs(ours - theirs.transpose(2, 0, 1)).max() <= 1


def _bad_files(folder: Path) -> list[Path]:
    """A zero-byte file, a truncated JPEG, a text, and a folder's worth of garbage."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "good.jpg")
    whole = (folder / "good.jpg").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("these are not the bytes you are looking for")
    return [folder / f"{name}.jpg" for name in ("empty", "short", "text", "good")]


def test_broken_images_are_named(tmp_path: Path) -> None:
    """All unreadable files are counted and named with their reasons, on every call."""
    given = listing(_bad_files(tmp_path))
    for _ in "made", "from the cache":
        with pytest.raises(DataError) as caught:
            run(given, tmp_path / "cache")
        text = str(caught.value)
        assert "3 of 4 train images cannot be read" in text
        assert "empty.jpg (the file is empty)" in text
        assert "short.jpg (image file is truncated" in text
        assert "text.jpg (cannot identify image file" in text
        assert "data.on_corrupt: skip" in text


@pytest.mark.parametrize("trouble", [OSError(errno.EMFILE, "too many"), MemoryError()])
def test_the_machines_troubles_are_not_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """They are told as such, also under `skip`, and the next call reads the image."""
    given = listing([_bad_files(tmp_path)[-1]])

    def fail(*_: object) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(picture.Image, "open", fail)
        with pytest.raises(DataError, match=r"good\.jpg.*read now"):
            run(given, tmp_path / "cache", on_corrupt="skip")
    assert len(run(given, tmp_path / "cache").images) == 1


def test_broken_images_are_skipped_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others keep their order and their targets; those left out are counted and named."""
    files = _bad_files(tmp_path)
    given = listing([*files, files[-1]], [1, 1, 1, 0, 1], classes=2)
    with caplog.at_level(logging.WARNING, "tunesvc.data"):
        split = run(given, tmp_path / "cache", on_corrupt="skip")
    assert split.images.shape == (2, 3, 8, 8)
    assert split.targets.tolist() == [0, 1]
    assert split.skipped == tuple(map(str, files[:3]))
    assert "3 of 5 train images" in caplog.text


def test_skipping_cannot_lose_a_class(tmp_path: Path) -> None:
    """Where every image of a class is broken, or all images are, skipping does not help."""
    files = _bad_files(tmp_path)
    with pytest.raises(DataError, match="no training image of '1'"):
        run(listing(files, [1, 1, 1, 0], classes=2), tmp_path / "one", on_corrupt="skip")
    with pytest.raises(DataError, match="none of the 3 train images"):
        run(listing(files[:3]), tmp_path / "all", on_corrupt="skip")


def test_many_broken_images_are_not_all_listed(tmp_path: Path) -> None:
    """Five are named, the rest counted."""
    for i in range(7):
        (tmp_path / f"{i}.png").touch()
    with pytest.raises(DataError, match="and 2 more"):
        run(listing([tmp_path / f"{i}.png" for i in range(7)]), tmp_path / "cache")


def test_grey_and_colour_arrays(tmp_path: Path) -> None:
    """Arrays are resized alike; grey is spread over three channels."""
    grey = run(listing(np.full((3, 5, 9), 77, np.uint8)), tmp_path / "grey")
    assert grey.images.unique().tolist() == [77]
    colour = np.zeros((2, 8, 8, 3), np.uint8)
    colour[..., 2] = 9
    assert run(listing(colour), tmp_path / "colour").images[0, :, 0, 0].tolist() == [0, 0, 9]


def test_cache_is_used_again_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call decodes nothing, writing into the tensor spoils nothing, a torn file heals."""
    given = listing(np.random.default_rng(0).integers(0, 255, (600, 8, 8), np.uint8))
    first = run(given, tmp_path).images.clone()
    with monkeypatch.context() as patch:
        patch.setattr(picture, "read", lambda *_: pytest.fail("decoded again"))
        again = run(given, tmp_path).images
        assert torch.equal(again, first)
        again.zero_()
        assert torch.equal(run(given, tmp_path).images, first)
    (file,) = tmp_path.glob("*.npy")
    for torn in (file.read_bytes()[:1000], b""):
        file.write_bytes(torn)
        assert torch.equal(run(given, tmp_path).images, first)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_full_disk_is_explained_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills up the error says how much is needed and where; no torn file stays."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left(?s:.*)free 12 MiB"):
        run(listing(np.zeros((64, 8, 8), np.uint8)), tmp_path, size=256)
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".lock"]


def test_a_full_cache_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has room, but the user's limit has not."""
    monkeypatch.setenv("TUNESVC_CACHE_GB", "0.01")
    with pytest.raises(DataError, match=r"TUNESVC_CACHE_GB allows(?s:.*)raise TUNESVC_CACHE_GB"):
        run(listing(np.zeros((64, 8, 8), np.uint8)), tmp_path, size=256)


def test_the_next_images_are_decoded_while_some_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No core waits for the disk."""
    read, is_ahead = picture.read, threading.Event()

    def seeing(source: Any, *how: Any) -> Any:
        if source[0, 0] == 1:
            is_ahead.set()
        return read(source, *how)

    monkeypatch.setattr(picture, "read", seeing)
    given = listing(np.repeat(np.uint8([0, 1]), 256)[:, None, None].repeat(8, 1).repeat(8, 2))
    seen: list[bool] = []
    decode(
        given,
        "train",
        8,
        on_corrupt="fail",
        cache=tmp_path,
        tick=lambda: seen.append(is_ahead.wait(60)),
    )
    assert seen == [True, True]


def test_unusable_cache_folder(tmp_path: Path) -> None:
    """A file where the cache folder should be is explained too."""
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match="cannot be written"):
        run(listing(np.zeros((2, 8, 8), np.uint8)), tmp_path / "cache")


def _decode_and_count(folder: Path, barrier: Any, made: Any) -> None:
    read = picture.read

    def counting(*arguments: Any) -> Any:
        with made.get_lock():
            made.value += 1
        return read(*arguments)

    picture.read = counting
    barrier.wait()
    run(listing(np.zeros((300, 8, 8), np.uint8)), folder)


@pytest.mark.slow
def test_two_processes_decode_once(tmp_path: Path) -> None:
    """Of two workers that start together one decodes, and the other waits and maps its file."""
    context = multiprocessing.get_context("spawn")
    barrier, made = context.Barrier(2), context.Value("i", 0)
    workers = [
        context.Process(target=_decode_and_count, args=(tmp_path, barrier, made)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert made.value == 300
