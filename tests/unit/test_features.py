"""Outputs of frozen stages: computed once, found again, taken in batches."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesvc import features
from tunesvc.features import Key

KEY = Key("resnet18", "a" * 64, 4, "224", "f" * 64, "train", "centre")
COUNT, VIEWS, BATCH = 10, 3, 4


class Body:
    """Counts how often it is asked; image n in view k gives a (2, 3) of k + n/100."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, slice]] = []

    def __call__(self, view: int, images: slice) -> Tensor:
        self.asked.append((view, images))
        numbers = torch.arange(images.start, images.stop) / 100 + view
        return numbers.view(-1, 1, 1).expand(-1, 2, 3)


def fetched(body: Any, cache: Path, key: Key = KEY, **more: Any) -> Tensor | None:
    return features.fetch(key, COUNT, VIEWS, body, cache=cache, batch_size=BATCH, **more)


def test_computed_once_in_order(tmp_path: Path) -> None:
    """View after view, slice after slice; a second call finds all of it."""
    body = Body()
    first = fetched(body, tmp_path)
    assert first is not None
    slices = [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert body.asked == [(view, part) for view in range(VIEWS) for part in slices]
    assert (first.shape, first.dtype) == ((VIEWS, COUNT, 2, 3), torch.float32)
    expected = torch.arange(VIEWS).view(-1, 1) + torch.arange(COUNT) / 100
    assert torch.equal(first, expected[..., None, None].expand(-1, -1, 2, 3))
    again = fetched(lambda *_: pytest.fail("computed again"), tmp_path)
    assert again is not None
    assert torch.equal(again, first)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_16_bits_are_kept_as_they_are(half: torch.dtype, tmp_path: Path) -> None:
    """Every bit of it, and in half the room."""
    key = replace(KEY, dtype=str(half).removeprefix("torch."))
    values = torch.randn(COUNT * VIEWS, 2, 3).to(half).view(VIEWS, COUNT, 2, 3)
    found = fetched(lambda view, part: values[view, part], tmp_path, key)
    assert found is not None
    assert found.dtype == half
    assert torch.equal(found, values)
    index, view = torch.tensor([3, 9]), torch.tensor([0, 2])
    assert torch.equal(features.take(found, index, view), values[view, index])


def test_other_float_types_are_converted(tmp_path: Path) -> None:
    """A half-precision output is stored as the key says."""
    found = fetched(lambda _, part: torch.full((part.stop - part.start,), 0.5).half(), tmp_path)
    assert found is not None
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.5] * COUNT] * VIEWS


@pytest.mark.parametrize("name", [field.name for field in fields(Key)])
def test_whatever_differs_makes_another_entry(name: str, tmp_path: Path) -> None:
    """Each field of the key counts."""
    given = getattr(KEY, name)
    other = {"dtype": "bfloat16"}.get(name, f"{given}!" if isinstance(given, str) else given + 1)
    body = Body()
    fetched(body, tmp_path)
    fetched(body, tmp_path, replace(KEY, **{name: other}))
    assert len(body.asked) == 2 * VIEWS * 3
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_random_body_is_not_kept(tmp_path: Path) -> None:
    """Nothing in the key would tell one random start from another."""
    body = Body()
    assert fetched(body, tmp_path, replace(KEY, weights_sha256="")) is None
    assert not body.asked


def test_too_much_is_told_after_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first batch tells the size, before all others are computed; nothing is left."""
    monkeypatch.setenv("TUNESVC_CACHE_GB", "0.00001")
    body = Body()
    with caplog.at_level(logging.WARNING, "tunesvc.features"):
        assert fetched(body, tmp_path) is None
    assert len(body.asked) == 1
    assert "TUNESVC_CACHE_GB" in caplog.text
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_a_full_disk_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they are not kept, and the caller computes on the spot."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert fetched(Body(), tmp_path) is None


def test_progress_and_an_end_before_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A tick after every batch; what it raises passes, and the next one begins anew."""
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetched(Body(), tmp_path, tick=tick)
    assert ticks == 5
    with caplog.at_level(logging.INFO, "tunesvc.features"):
        assert fetched(Body(), tmp_path, tick=tick) is not None
    assert ticks == 5 + 9
    assert "4 stages of resnet18 (train, centre): batch 1 of 9" in caplog.text


def test_a_body_that_forgets_images_is_caught(tmp_path: Path) -> None:
    """Features must not move to other images."""
    with pytest.raises(ValueError, match="3 outputs for 4 images"):
        fetched(lambda *_: torch.zeros(3, 2), tmp_path)


def test_batches_are_copies_of_rows(tmp_path: Path) -> None:
    """Of any views, in any order, also twice; writing into a batch changes nothing."""
    kept = fetched(Body(), tmp_path)
    assert kept is not None
    index, view = torch.tensor([7, 0, 7]), torch.tensor([2, 0, 1])
    batch = features.take(kept, index, view)
    assert batch[:, 0, 0].tolist() == pytest.approx([2.07, 0.0, 1.07])
    batch.zero_()
    assert features.take(kept, index)[:, 1, 2].tolist() == pytest.approx([0.07, 0.0, 0.07])
