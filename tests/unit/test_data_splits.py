"""Tests of dividing a data set: shares, balance, seeds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunesvc.data.listing import Items
from tunesvc.data.splits import check, cut_down, divide
from tunesvc.errors import DataError
from tunesvc.spec import SplitSpec


def items(*counts: int) -> Items:
    """Items whose image path is their number, with so many of each class."""
    targets = np.repeat(np.arange(len(counts)), counts)
    return Items([Path(str(i)) for i in range(len(targets))], targets)


def members(part: Items) -> set[int]:
    return {int(str(path)) for path in part.images}


def counts(part: Items) -> list[int]:
    return np.bincount(part.targets).tolist()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SplitSpec(), {"train": [60, 30], "val": [20, 10], "test": [20, 10]}),
        (SplitSpec(test=0), {"train": [80, 40], "val": [20, 10]}),
        (SplitSpec(val=0.1, test=0.5), {"train": [40, 20], "val": [10, 5], "test": [50, 25]}),
    ],
)
def test_shares_are_of_the_whole_and_stratified(
    spec: SplitSpec, expected: dict[str, list[int]]
) -> None:
    """Each split has its share of every class, to within one image, and nothing is lost."""
    divided = divide({"train": items(100, 50)}, spec)
    assert set(divided) == set(expected)
    for name, part in divided.items():
        assert counts(part) == pytest.approx(expected[name], abs=1)
        assert len(part) == sum(expected[name])
    everything = [members(part) for part in divided.values()]
    assert sum(map(len, everything)) == len(set().union(*everything)) == 150


def test_splits_that_the_data_brings_are_kept() -> None:
    """An official test split is the test split; with val/ and no test/ there is none."""
    test = items(3, 3)
    divided = divide({"train": items(10, 10), "test": test}, SplitSpec(test=0.4))
    assert divided["test"] is test
    assert len(divided["val"]) == 4
    assert set(divide({"train": items(10, 10), "val": items(1, 1)}, SplitSpec())) == {
        "train",
        "val",
    }


def test_seed_decides_and_test_does_not_depend_on_val() -> None:
    """The same seed divides alike, another differently; a larger val leaves test as it is."""
    first = divide({"train": items(40, 40)}, SplitSpec(seed=3))
    again = divide({"train": items(40, 40)}, SplitSpec(seed=3))
    other = divide({"train": items(40, 40)}, SplitSpec(seed=4))
    wider = divide({"train": items(40, 40)}, SplitSpec(seed=3, val=0.4))
    assert members(first["val"]) == members(again["val"]) != members(other["val"])
    assert members(first["test"]) == members(wider["test"])


def test_rare_classes_stay_in_train() -> None:
    """A class of one or two images is never taken out of train altogether."""
    for seed in range(10):
        divided = divide({"train": items(50, 1, 2, 30)}, SplitSpec(val=0.4, test=0.4, seed=seed))
        assert set(divided["train"].targets) == {0, 1, 2, 3}


def test_every_image_is_as_likely_to_be_taken() -> None:
    """Over many seeds each image of a class is in val about equally often."""
    hits = np.zeros(20)
    for seed in range(400):
        hits[list(members(divide({"train": items(10, 10)}, SplitSpec(seed=seed))["val"]))] += 1
    assert hits.sum() == 400 * 4
    assert hits.min() > 45  # the mean is 80 and the standard deviation 8
    assert hits.max() < 115


@pytest.mark.parametrize(("subset", "fraction", "size"), [(30, None, 30), (None, 0.25, 25)])
def test_cut_down_is_stratified(subset: int | None, fraction: float | None, size: int) -> None:
    """A quick look keeps the mix of classes, seeded."""
    train = items(70, 30)
    part = cut_down(train, subset, fraction, SplitSpec())
    assert len(part) == size
    assert counts(part) == pytest.approx([0.7 * size, 0.3 * size], abs=1.5)
    assert members(part) == members(cut_down(train, subset, fraction, SplitSpec()))
    assert members(part) != members(cut_down(train, subset, fraction, SplitSpec(seed=1)))


def test_cut_down_edges() -> None:
    """More than there is gives all; one per class is the least; fewer is refused."""
    train = items(7, 3, 2)
    assert cut_down(train, 99, None, SplitSpec()) is train
    assert cut_down(train, None, None, SplitSpec()) is train
    assert counts(cut_down(train, 3, None, SplitSpec())) == [1, 1, 1]
    with pytest.raises(DataError, match="2 training images for 3 classes"):
        cut_down(train, 2, None, SplitSpec())


def test_shares_that_leave_nothing_are_refused() -> None:
    """Half for val and half for test is an error that names both keys."""
    with pytest.raises(DataError, match=r"split\.test 0\.5 \+ split\.val 0\.5"):
        divide({"train": items(9, 9)}, SplitSpec(val=0.5, test=0.5))


def test_many_missing_classes_are_not_all_listed() -> None:
    """Of a dozen classes without training images ten are named and two counted."""
    names = tuple(f"c{i:02}" for i in range(13))
    splits = {"train": items(5), "val": items(1)}
    with pytest.raises(DataError, match=r"'c10' and 2 more classes"):
        check(names, splits, "class")
    check((), {"train": Items([Path()] * 2, np.zeros(2, np.float32))}, "number")
