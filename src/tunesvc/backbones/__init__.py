"""Pretrained bodies, their weights and input transforms, named stages, a new head."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tunesvc.backbones import registry, told, torchvision_models, weights
from tunesvc.backbones.anatomy import (
    Backbone,
    InputTransform,
    Layout,
    Stage,
    dissect,
    norm_parameters,
)
from tunesvc.backbones.cut import Cut, cut
from tunesvc.backbones.layouts import layout
from tunesvc.backbones.registry import names
from tunesvc.backbones.transforms import input_transform
from tunesvc.spec import BackboneSpec

__all__ = [
    "Backbone",
    "Cut",
    "InputTransform",
    "Stage",
    "bare",
    "build",
    "check_weights",
    "cut",
    "has_plain_head",
    "input_transform",
    "names",
    "renew_head",
    "skeleton",
]


def build(
    spec: BackboneSpec,
    num_outputs: int,
    *,
    base: Path,
    dropout: float = 0.0,
    pretrained: bool = True,
    image_size: int | None = None,
) -> Backbone:
    """Build a backbone with a new head; its random start is drawn from torch's global RNG.

    Args:
        spec: name, weights, constructor arguments.
        num_outputs: of the head.
        base: folder that the study file's relative paths start from.
        dropout: probability, before the head's only layer.
        pretrained: load the weights; otherwise the body starts at random, and no file is read.
        image_size: side of the images in pixels; null: as the weights were trained.

    Raises:
        UnknownNameError: no such backbone, or no weights of that name.
        SpecError: the backbone does not take these arguments, or no images of this size.
        WeightsError: the file is absent, unreadable, unsafe, or another model's.
    """
    transform = input_transform(spec, base=base, image_size=image_size)
    source = weights.locate(spec, base) if pretrained else None
    loaded = weights.read(source, spec) if source else None
    ported = loaded is not None and not weights.meta(loaded.source)
    empty = loaded is not None
    module, stages, head = _module(
        spec, num_outputs, dropout, transform.crop, ported=ported, empty=empty
    )
    if loaded:
        weights.assign(module, loaded, head)
    return Backbone(
        module,
        *dissect(module, stages, head),
        norm_parameters(module),
        transform,
        loaded.sha256 if loaded else "",
    )


def bare(
    spec: BackboneSpec,
    num_outputs: int,
    transform: InputTransform,
    *,
    ported: bool,
    dropout: float = 0.0,
) -> Backbone:
    """Build a backbone whose parameters have no memory, for all of them to be assigned.

    Args:
        spec: name and constructor arguments; no weights are looked for.
        num_outputs: of the head.
        transform: what the images go through.
        ported: whether the weights that it once started from were torchvision's own.
        dropout: as in `build`: a function may build other modules with it than without.

    Raises:
        UnknownNameError: no such backbone.
        SpecError: it does not take these arguments.
    """
    with torchvision_models.parameters_on_meta():
        module, stages, head = _module(
            spec, num_outputs, dropout, transform.crop, ported=ported, empty=False
        )
    return Backbone(module, *dissect(module, stages, head), norm_parameters(module), transform, "")


def _module(
    spec: BackboneSpec, num_outputs: int, dropout: float, crop: int, *, ported: bool, empty: bool
) -> tuple[nn.Module, Layout, str]:
    """Return the module with its new head, its layout, and the head's name."""
    builder = registry.registered(spec.name)
    if builder is not None:
        module = registry.call(builder, spec, num_outputs, dropout)
        return module, told.stages(module), told.head(module)
    module = torchvision_models.body(spec.name, spec.kwargs, crop=crop, ported=ported, empty=empty)
    stages = layout(module)
    return module, stages, torchvision_models.replace_head(module, num_outputs, dropout)


def has_plain_head(backbone: Backbone) -> bool:
    """Whether the head is `Dropout` and one `Linear`, so that drawing it anew is no secret."""
    layers = [type(layer) for layer in _head(backbone).children()]
    return layers == [nn.Dropout, nn.Linear]


def renew_head(backbone: Backbone, dropout: float) -> None:
    """Draw a plain head's parameters from torch's global RNG, and set its dropout."""
    first, last = _head(backbone).children()
    assert isinstance(first, nn.Dropout)
    assert isinstance(last, nn.Linear)
    first.p = dropout
    last.reset_parameters()


def _head(backbone: Backbone) -> nn.Module:
    (name,) = backbone.head.modules
    return backbone.module.get_submodule(name)


def skeleton(
    spec: BackboneSpec, num_outputs: int, *, base: Path, image_size: int | None = None
) -> Backbone:
    """Build a backbone whose parameters have shapes but no memory: to count and to estimate.

    Raises:
        UnknownNameError, SpecError: as `build`; no weights file is needed.
    """
    with torchvision_models.parameters_on_meta():
        return build(spec, num_outputs, base=base, pretrained=False, image_size=image_size)


def check_weights(spec: BackboneSpec, *, base: Path) -> None:
    """See that the weights are here, or can be downloaded; nothing is loaded.

    Raises:
        UnknownNameError: no such backbone, or no weights of that name.
        WeightsError: there is no such file, and none can be downloaded.
    """
    source = weights.locate(spec, base)
    if source is not None:
        weights.check(source, spec)
