"""Backbones: names, heads, input transforms, arguments. (Their weights: test_weights.py.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tunesvc.backbones import build, input_transform, names, skeleton
from tunesvc.backbones.anatomy import dissect
from tunesvc.errors import SpecError, UnknownNameError, UsageError, WeightsError
from tunesvc.spec import BackboneSpec

SMALL = "shufflenet_v2_x0_5"


def spec(name: str = SMALL, weights: str = "none", **kwargs: Any) -> BackboneSpec:
    return BackboneSpec(name=name, weights=weights, kwargs=kwargs)


def test_names_are_our_own_and_torchvisions_classification_models() -> None:
    """Nothing that detects, segments, or is quantized."""
    assert {"tiny_resnet", "resnet50", "vit_b_16", "maxvit_t"} <= set(names())
    assert not [n for n in names() if any(word in n for word in ("rcnn", "fcn", "quantized"))]


def test_a_misspelt_backbone_is_told_the_right_name() -> None:
    """UnknownNameError suggests the nearest."""
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'") as caught:
        build(spec("resnet81"), 2, base=Path())
    assert "unknown backbone 'resnet81'" in caught.value.what


# --- the head


def test_the_head_is_dropout_and_one_linear() -> None:
    """The knob `dropout` is the only dropout: torchvision's own in the classifier are off."""
    module = skeleton(spec("vgg11"), 7, base=Path()).module
    head = module.get_submodule("classifier.6")
    assert [type(layer) for layer in head.children()] == [nn.Dropout, nn.Linear]
    assert all(layer.p == 0 for layer in module.modules() if isinstance(layer, nn.Dropout))
    trained = build(spec(), 7, base=Path(), dropout=0.3).module
    assert [m.p for m in trained.modules() if isinstance(m, nn.Dropout)] == [0.3]


def test_the_same_seed_draws_the_same_head() -> None:
    """Whoever builds seeds torch; another seed gives another head."""

    def head(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        backbone = build(spec(), 3, base=Path())
        return backbone.module.get_parameter("fc.1.weight").detach()

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_squeezenet_can_give_negative_outputs() -> None:
    """Its own ReLU after the last convolution is gone: numbers to predict may be negative."""
    torch.manual_seed(0)
    module = build(spec("squeezenet1_1"), 20, base=Path()).module.eval()
    with torch.no_grad():
        outputs = module(torch.randn(2, 3, 64, 64))
    assert outputs.shape == (2, 20)
    assert outputs.min() < 0


# --- stages


def test_stages_run_from_input_to_output() -> None:
    """ResNet's, and ViT's with one stage per encoder layer."""
    resnet = skeleton(spec("resnet18"), 2, base=Path())
    assert [s.name for s in resnet.stages] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    vit = skeleton(spec("vit_b_32"), 2, base=Path())
    assert [s.name for s in vit.stages] == ["stem", *(f"layer{i}" for i in range(1, 13))]
    assert {"class_token", "encoder.pos_embedding"} <= set(vit.stages[0].parameters)
    assert "encoder.ln.weight" in vit.stages[-1].parameters


def test_a_layout_that_forgets_a_parameter_is_refused() -> None:
    """A registered backbone must place every child; the message names the lost parameter."""
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(UsageError, match=r"1\.bias is in no stage"):
        dissect(module, [("first", ["0"])], "2")
    with pytest.raises(UsageError, match="two stages"):
        dissect(module, [("first", ["0", "1"]), ("second", ["1"])], "2")


def test_norm_parameters_are_found() -> None:
    """Batch norms' weights and biases, and no other's."""
    backbone = skeleton(spec("resnet18"), 2, base=Path())
    assert "bn1.weight" in backbone.norm_parameters
    assert "layer2.0.downsample.1.bias" in backbone.norm_parameters
    assert "conv1.weight" not in backbone.norm_parameters


# --- constructor arguments and image sizes


def test_kwargs_reach_the_constructor() -> None:
    """width_mult 0.35 gives the narrow MobileNetV2."""
    backbone = skeleton(spec("mobilenet_v2", width_mult=0.35), 2, base=Path())
    assert backbone.module.get_parameter("features.0.0.weight").shape[0] == 16


@pytest.mark.parametrize("name", ["resnet18", "tiny_resnet"])
def test_a_wrong_kwarg_is_named(name: str) -> None:
    """SpecError, whoever builds the backbone."""
    with pytest.raises(SpecError, match="'width_molt'"):
        build(spec(name, width_molt=0.35), 2, base=Path())


def test_arguments_that_follow_from_the_study_are_refused() -> None:
    """The number of classes and the size of images are not the backbone's to say."""
    with pytest.raises(SpecError, match="num_classes cannot be set here"):
        build(spec(num_classes=3), 2, base=Path())


@pytest.mark.parametrize(("name", "size"), [("vit_b_32", 100), ("maxvit_t", 256)])
def test_an_image_size_that_a_transformer_cannot_take_is_refused(name: str, size: int) -> None:
    """ViT needs a multiple of its patch, MaxVit of 224."""
    with pytest.raises(SpecError, match="multiple of the patch"):
        skeleton(spec(name), 2, base=Path(), image_size=size)


def test_a_vit_is_built_for_the_size_of_the_images() -> None:
    """64 pixels in patches of 32: four positions and the class token."""
    vit = skeleton(spec("vit_b_32"), 2, base=Path(), image_size=64)
    assert vit.module.get_parameter("encoder.pos_embedding").shape == (1, 5, 768)


# --- input transforms


def test_torchvisions_weights_bring_their_transform() -> None:
    """Each name its own; ViT's SWAG weights were trained at 384 pixels, bicubic."""
    first = input_transform(spec("resnet50", "IMAGENET1K_V1"), base=Path())
    second = input_transform(spec("resnet50", "DEFAULT"), base=Path())
    assert (first.resize, first.crop, second.resize) == (256, 224, 232)
    swag = input_transform(spec("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"), base=Path())
    assert (swag.resize, swag.crop, swag.interpolation) == (384, 384, "bicubic")


def test_an_image_size_keeps_the_ratio_of_resize_and_crop() -> None:
    """160 of 224 pixels: 256 becomes 183."""
    transform = input_transform(spec("resnet50", "IMAGENET1K_V1"), base=Path(), image_size=160)
    assert (transform.resize, transform.crop) == (183, 160)


def test_meta_json_beside_a_file_wins(tmp_path: Path) -> None:
    """What `tunesvc pretrain` writes; the weights themselves need not be there."""
    said = {"resize": 40, "crop": 32, "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}
    meta = {"transform": {**said, "interpolation": "bicubic"}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    transform = input_transform(spec(weights="mine.safetensors"), base=tmp_path)
    assert (transform.resize, transform.crop, transform.mean) == (40, 32, (0.1, 0.2, 0.3))
    elsewhere = input_transform(spec(weights="elsewhere/mine.pth"), base=tmp_path)
    assert elsewhere == input_transform(spec(weights="DEFAULT"), base=tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"transform": {"resize": 40}}'])
def test_a_meta_json_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    """WeightsError, not a traceback and not a silent default."""
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(WeightsError, match=r"meta\.json"):
        input_transform(spec(weights="mine.pth"), base=tmp_path)


def test_our_own_backbones_tell_their_transform() -> None:
    """Without weights there is no meta.json: the module's own counts."""
    assert input_transform(spec("tiny_resnet"), base=Path()).crop == 32
    assert input_transform(spec("two_conv_cnn"), base=Path()).crop == 28
