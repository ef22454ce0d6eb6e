"""What is stored of a backbone's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesvc.spec import BackboneSpec
from tunesvc.trial import facts


def test_torchvision_s_weights_tell_their_imagenet_accuracy() -> None:
    """In percent, by name; nothing is downloaded for it."""
    for weights in ("DEFAULT", "IMAGENET1K_V1"):
        spec = BackboneSpec(name="resnet18", weights=weights)
        assert facts.of_weights(spec, Path()) == {"imagenet_top1": pytest.approx(69.758)}


@pytest.mark.parametrize(
    ("meta", "known"),
    [
        (
            {
                "name": "mine",
                "epochs": [{"epoch": 1, "accuracy": 0.5}, {"epoch": 2, "accuracy": 0.7}],
            },
            {"name": "mine", "epoch": 2, "metric": "accuracy", "value": 0.7},
        ),
        ({"name": "mine", "epochs": []}, None),
        ({"name": "mine", "epochs": [{"epoch": 1, "accuracy": float("nan")}]}, None),
        ({"author": "somebody else"}, None),
    ],
)
def test_our_own_weights_tell_how_far_pretraining_had_come(
    tmp_path: Path, meta: dict[str, Any], known: dict[str, Any] | None
) -> None:
    """The last epoch of the `meta.json` beside them; a foreign one tells nothing."""
    (tmp_path / "epoch-002").mkdir()
    (tmp_path / "epoch-002" / "meta.json").write_text(json.dumps(meta))
    spec = BackboneSpec(name="tiny_resnet", weights="./epoch-002")
    assert facts.of_weights(spec, tmp_path) == {"pretraining": known}


def test_weights_without_a_story_tell_nothing() -> None:
    """A bare file, or a random start."""
    bare = BackboneSpec(name="resnet18", weights="./some.pth")
    assert facts.of_weights(bare, Path("/nowhere")) == {"pretraining": None}
    none = BackboneSpec(name="resnet18", weights="none")
    assert facts.of_weights(none, Path()) == {"pretraining": None}


def test_an_architecture_is_told_with_its_arguments() -> None:
    """Whatever its weights and its label."""
    spec = BackboneSpec(name="mobilenet_v2", kwargs={"width_mult": 0.35}, label="small")
    assert facts.architecture(spec) == "mobilenet_v2(width_mult=0.35)"
    assert facts.architecture(BackboneSpec(name="resnet18")) == "resnet18"
