"""Dividing items into train, val and test: seeded, and the same mix of targets in each.

Why: a share is taken at even steps through the items sorted by target (in random order among
equals). That gives exact totals, each class its share to within one image, and serves numbers as
well as classes. One random image of every class always stays in train, so that rare classes
cannot vanish from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesvc.data.listing import Items
from tunesvc.errors import DataError
from tunesvc.spec import SplitSpec
from tunesvc.tasks import TargetKind

DEFAULT_TEST_SHARE = 0.2

_STREAM = {"test": 0, "val": 1, "subset": 2}  # one random stream for each, whatever else is cut

_Positions = NDArray[np.int64]


def divide(parts: Mapping[str, Items], spec: SplitSpec) -> dict[str, Items]:
    """Return train, val and perhaps test; what the source does not bring is cut from train.

    Raises:
        DataError: val and test together leave nothing for training.
    """
    divided = dict(parts)
    shares = {"test": _test_share(parts, spec), "val": spec.val}
    shares = {name: share for name, share in shares.items() if share and name not in parts}
    if sum(shares.values()) >= 1:
        raise DataError(
            "nothing is left to train on",
            " + ".join(f"split.{name} {share}" for name, share in shares.items()) + " is all of it",
            "make split.val and split.test smaller",
        )
    total = len(parts["train"])
    for name, share in shares.items():
        rng = np.random.default_rng([spec.seed, _STREAM[name]])
        taken = _take(divided["train"].targets, max(1, round(share * total)), rng)
        divided[name] = divided["train"].pick(taken)
        kept = np.setdiff1d(np.arange(len(divided["train"])), taken)
        divided["train"] = divided["train"].pick(kept)
    return {name: divided[name] for name in ("train", "val", "test") if name in divided}


def cut_down(train: Items, subset: int | None, fraction: float | None, spec: SplitSpec) -> Items:
    """Return `subset` training images, or the share `fraction`; every class stays.

    Raises:
        DataError: fewer images are asked for than there are classes.
    """
    if subset is None and fraction is None:
        return train
    count = subset or max(2, round((fraction or 1.0) * len(train)))
    if count >= len(train):
        return train
    rng = np.random.default_rng([spec.seed, _STREAM["subset"]])
    order = _by_target(train.targets, rng)
    kept = _one_per_class(train.targets, order)
    if count < len(kept):
        raise DataError(
            f"{count} training images for {len(kept)} classes",
            "data.subset or data.fraction asks for fewer images than there are classes",
            f"ask for at least {len(kept)}",
        )
    rest = order[~np.isin(order, kept)]
    return train.pick(np.sort(np.concatenate([kept, _at_even_steps(rest, count - len(kept), rng)])))


def check(classes: tuple[str, ...], splits: Mapping[str, Items], target: TargetKind) -> None:
    """Make sure that something can be learned, and be measured.

    Raises:
        DataError: too few images, one class only, a label of no class, or a class without a
            training image.
    """
    for name, items in splits.items():
        # One number has no spread, and R² none without it.
        least = 2 if name == "train" or target == "number" else 1
        if len(items) < least:
            raise DataError(
                f"the {name} split has {len(items)} images, and needs at least {least}",
                "; ".join(f"{other}: {len(theirs)}" for other, theirs in splits.items()),
                "add images, or change data.split",
            )
    if target == "number":
        return
    for name, items in splits.items():
        if items.targets.min() < 0 or items.targets.max() >= len(classes):
            raise DataError(
                f"a label of the {name} split lies outside 0…{len(classes) - 1}",
                f"labels go from {items.targets.min()} to {items.targets.max()}, "
                f"and there are {len(classes)} classes",
                "correct the labels, or the list of classes",
            )
    if len(classes) < 2:
        raise DataError(
            f"only one class: {classes[0]!r}",
            "a classifier needs at least two",
            "give each class its own label or folder",
        )
    check_covered(classes, splits["train"].targets)


def check_covered(classes: tuple[str, ...], targets: NDArray[Any]) -> None:
    """Make sure that every class has a training image.

    Raises:
        DataError: one has none; all of them are named.
    """
    present = set(targets.tolist())
    missing = [name for index, name in enumerate(classes) if index not in present]
    if missing:
        raise DataError(
            f"no training image of {', '.join(map(repr, missing[:10]))}"
            + (f" and {len(missing) - 10} more classes" if len(missing) > 10 else ""),
            "every class of the data set must be in the train split",
            "add images of it to train, or remove the class everywhere",
        )


def _test_share(parts: Mapping[str, Items], spec: SplitSpec) -> float:
    if spec.test is not None:
        return spec.test
    return 0.0 if "val" in parts else DEFAULT_TEST_SHARE


def _by_target(targets: NDArray[Any], rng: np.random.Generator) -> _Positions:
    shuffled = rng.permutation(len(targets))
    order: _Positions = shuffled[np.argsort(targets[shuffled], kind="stable")]
    return order


def _one_per_class(targets: NDArray[Any], order: _Positions) -> _Positions:
    if targets.dtype.kind == "f":
        return order[:0]
    return order[np.unique(targets[order], return_index=True)[1]]


def _at_even_steps(order: _Positions, count: int, rng: np.random.Generator) -> _Positions:
    """Return `count` of the positions, at equal distances from a random start."""
    if count == 0:
        return order[:0]
    steps: _Positions = np.arange(count) * len(order) + int(rng.integers(len(order)))
    return order[steps // count]


def _take(targets: NDArray[Any], count: int, rng: np.random.Generator) -> _Positions:
    order = _by_target(targets, rng)
    free = order[~np.isin(order, _one_per_class(targets, order))]
    return np.sort(_at_even_steps(free, min(count, len(free)), rng))
