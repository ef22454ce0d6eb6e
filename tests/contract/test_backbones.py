"""What every backbone must be, built-in or registered by an installed package.

Authors of a backbone run this file with their package installed: its entry points are found.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tunesvc import backbones
from tunesvc.backbones import Backbone, build, input_transform, skeleton
from tunesvc.backbones.cut import cut, share
from tunesvc.backbones.registry import registered
from tunesvc.spec import STRATEGIES, BackboneSpec, Knobs
from tunesvc.strategies import plan

OUTPUTS = 5
# The smallest of each of torchvision's families, and the side of images that it can do with.
SMALLEST = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 64,
    "vit_b_32": 64,
}
OWN = [name for name in backbones.names() if registered(name) is not None]


def untrained(name: str) -> BackboneSpec:
    return BackboneSpec(name=name, weights="none")


@pytest.mark.parametrize("name", backbones.names())
def test_stages_and_head_hold_every_parameter_once(name: str) -> None:
    """And a forward pass gives one row of outputs per image."""
    backbone = skeleton(untrained(name), OUTPUTS, base=Path())
    parts = [*backbone.stages, backbone.head]
    placed = Counter(key for stage in parts for key in stage.parameters)
    assert placed == Counter(key for key, _ in backbone.module.named_parameters())
    assert len({stage.name for stage in parts}) == len(parts)
    assert all(stage.parameters and stage.modules for stage in parts)
    assert len(backbone.stages) >= 3
    assert outputs_shape(backbone) == (2, OUTPUTS)


def outputs_shape(backbone: Backbone) -> tuple[int, ...]:
    crop = backbone.transform.crop
    module = backbone.module.to("meta").eval()
    return tuple(module(torch.empty(2, 3, crop, crop, device="meta")).shape)


@pytest.mark.parametrize("name", backbones.names())
def test_norm_parameters_are_those_of_norms(name: str) -> None:
    """They are parameters, of one dimension each, and the modules of the stages hold them all."""
    backbone = skeleton(untrained(name), OUTPUTS, base=Path())
    parameters = dict(backbone.module.named_parameters())
    assert all(parameters[key].ndim == 1 for key in backbone.norm_parameters)
    for stage in backbone.stages:
        for part in stage.modules:
            backbone.module.get_submodule(part).eval()
    live = [m for m in backbone.module.modules() if m.training and isinstance(m, nn.BatchNorm2d)]
    assert not live


@pytest.mark.parametrize("name", [*OWN, *SMALLEST])
def test_a_frozen_body_is_deterministic_and_a_free_one_learns(name: str) -> None:
    """In training mode: with its stages' modules in eval mode nothing random is left."""
    torch.manual_seed(0)
    size = SMALLEST.get(name)
    backbone = build(untrained(name), OUTPUTS, base=Path(), image_size=size)
    crop = backbone.transform.crop
    images, module = torch.randn(2, 3, crop, crop), backbone.module.train()
    module(images).square().mean().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    for stage in backbone.stages:
        for part in stage.modules:
            module.get_submodule(part).eval()
    with torch.no_grad():
        first, second = module(images), module(images)
    assert first.shape == (2, OUTPUTS)
    assert first.isfinite().all()
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", backbones.names())
def test_the_input_transform_is_complete(name: str) -> None:
    """It can be asked for without building, and follows the size of the images."""
    transform = input_transform(untrained(name), base=Path())
    assert transform.resize >= transform.crop > 0
    assert len(transform.mean) == len(transform.std) == 3
    assert all(0 <= value <= 1 for value in transform.mean)
    assert all(value > 0 for value in transform.std)
    assert transform.interpolation in {"bilinear", "bicubic"}
    assert input_transform(untrained(name), base=Path(), image_size=32).crop == 32


@pytest.mark.parametrize("name", OWN)
def test_packaged_weights_load(name: str) -> None:
    """Every name in a builder's `weights` is a folder that fits the builder."""
    for weights in vars(registered(name)).get("weights", {}):
        backbone = build(BackboneSpec(name=name, weights=weights), OUTPUTS, base=Path())
        assert len(backbone.weights_sha256) == 64


@pytest.mark.parametrize("name", [*OWN, *SMALLEST])
def test_every_strategy_suits_every_family(name: str) -> None:
    """What it trains are parameters of the backbone; the head is always among them."""
    backbone = skeleton(untrained(name), OUTPUTS, base=Path(), image_size=SMALLEST.get(name))
    stages = [(stage.name, stage.parameters) for stage in backbone.stages]
    known = {key for key, _ in backbone.module.named_parameters()}
    for strategy in STRATEGIES:
        knobs = Knobs.model_validate({"strategy": strategy})
        made = plan(stages, backbone.head.parameters, backbone.norm_parameters, knobs, 3)
        for phase in made.phases:
            assert set(backbone.head.parameters) <= phase.trainable <= known


@pytest.mark.parametrize("name", [*OWN, *SMALLEST])
def test_the_halves_of_every_cut_do_what_the_whole_does(name: str) -> None:
    """To the last bit, under the names of the whole; a frozen body hands vectors to its head."""
    torch.manual_seed(0)
    backbone = build(untrained(name), OUTPUTS, base=Path(), image_size=SMALLEST.get(name))
    crop, module = backbone.transform.crop, backbone.module.eval()
    images = torch.randn(2, 3, crop, crop)
    with torch.no_grad():
        whole = module(images)
        for frozen in range(1, len(backbone.stages) + 1):
            halves = cut(backbone, frozen)
            assert halves is not None
            features = halves.prefix(images)
            assert torch.equal(halves.rest(features.clone()), whole)
            names = {key for s in backbone.stages[:frozen] for key in s.parameters}
            assert {key for key, _ in halves.prefix.named_parameters()} == names
            for key, parameter in halves.rest.named_parameters():
                assert parameter is module.get_parameter(key)
    assert features.ndim == 2


@pytest.mark.parametrize("name", [*OWN, *SMALLEST])
def test_the_rest_learns_as_the_whole_does(name: str) -> None:
    """In training mode behind frozen stages: the same outputs, the same gradients, to the last bit.

    That takes the same chance for dropout and stochastic depth, and the same batch statistics.
    """
    torch.manual_seed(0)
    backbone = build(
        untrained(name), OUTPUTS, base=Path(), dropout=0.5, image_size=SMALLEST.get(name)
    )
    images = torch.randn(2, 3, backbone.transform.crop, backbone.transform.crop)
    for frozen in range(1, len(backbone.stages) + 1):
        freeze(backbone, frozen)
        halves = cut(backbone, frozen)
        assert halves is not None
        expected = learned(backbone.module, images)
        with torch.no_grad():
            features = halves.prefix(images)
        found = learned(halves.rest, features)
        assert found.keys() == expected.keys() > set(backbone.head.parameters)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def freeze(backbone: Backbone, frozen: int) -> None:
    """As training does it: the leading stages learn nothing and are in evaluation mode."""
    backbone.module.train().requires_grad_(True)
    for stage in backbone.stages[:frozen]:
        for part in stage.modules:
            backbone.module.get_submodule(part).eval()
        for key in stage.parameters:
            backbone.module.get_parameter(key).requires_grad_(False)


def learned(module: nn.Module, given: Tensor) -> dict[str, Tensor]:
    """Gradients by parameter name, and the outputs as `outputs`."""
    module.zero_grad()
    torch.manual_seed(1)
    outputs = module(given)
    outputs.square().sum().backward()
    gradients = {k: p.grad for k, p in module.named_parameters() if p.grad is not None}
    return {"outputs": outputs.detach()} | gradients


@pytest.mark.parametrize("name", [*OWN, "resnet18", "swin_t", "vit_b_32"])
def test_the_share_of_the_rest_falls_with_every_stage(name: str) -> None:
    """From nearly all to nearly nothing; of torchvision's without memory for parameters, too.

    A package's backbone has to be tried before it is cut, which takes numbers.
    """
    made = build if name in OWN else skeleton
    backbone = made(untrained(name), OUTPUTS, base=Path(), image_size=SMALLEST.get(name))
    shares = [share(backbone, frozen) for frozen in range(len(backbone.stages) + 1)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.05
