"""What a registered backbone says of itself, and what is taken where it says nothing."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from tunesvc.backbones import told
from tunesvc.errors import UsageError


def net(**said: Any) -> nn.Module:
    """A plain row of modules, with the attributes that are given."""
    made = nn.Sequential()
    for name, child in {
        "flat": nn.Flatten(),
        "stem": nn.Linear(12, 8),
        "pool": nn.ReLU(),
        "body": nn.Linear(8, 8),
        "stages": nn.Linear(8, 8),
        "top": nn.Linear(8, 3),
    }.items():
        made.add_module(name, child)
    vars(made).update(said)
    return made


def test_a_plain_module_needs_to_say_nothing() -> None:
    """The last child is the head, the others are stages, those without parameters with another."""
    made = net()
    assert told.head(made) == "top"
    assert told.stages(made) == [
        ("flat", ["flat", "stem", "pool"]),
        ("body", ["body"]),
        ("stages", ["stages"]),  # a child of this name is no attribute
    ]
    transform = told.transform(made)
    assert (transform.resize, transform.crop, transform.interpolation) == (224, 224, "bilinear")
    assert transform.mean == (0.485, 0.456, 0.406)


def test_what_it_says_counts() -> None:
    """On the module, or on its class."""
    stages = (("all", ("stem", "body", "stages")),)
    said = {"resize": 36, "crop": 32, "mean": [0, 0, 0], "std": [1] * 3, "interpolation": "bicubic"}
    own = net(head_name="body", stages=stages, default_transform=said)
    assert told.head(own) == "body"
    assert told.stages(own) == stages
    assert told.transform(own).resize == 36

    class Net(nn.Module):
        head_name = "first"

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    assert told.head(Net()) == "first"
    assert told.stages(Net()) == [("second", ["second"])]


def test_what_it_says_wrongly_is_told() -> None:
    """In words, with what would be right."""
    with pytest.raises(UsageError, match="the head of Sequential is not there") as caught:
        told.head(net(head_name="heda"))
    assert "flat, stem, pool, body, stages, top" in caught.value.why
    with pytest.raises(UsageError, match="its child modules are: none"):
        told.head(nn.Flatten())
    with pytest.raises(UsageError, match="default_transform of Sequential cannot be used"):
        told.transform(net(default_transform={"resize": 32}))
