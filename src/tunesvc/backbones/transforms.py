"""How the images of a backbone are resized and normalised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesvc.backbones import registry, told, weights
from tunesvc.backbones.anatomy import InputTransform
from tunesvc.backbones.torchvision_models import parameters_on_meta
from tunesvc.errors import WeightsError
from tunesvc.spec import BackboneSpec


def input_transform(
    spec: BackboneSpec, *, base: Path, image_size: int | None = None
) -> InputTransform:
    """Return what a backbone's weights expect; nothing is loaded or downloaded.

    The `meta.json` beside a weights file counts first, then what torchvision says of the weights
    (of the model's DEFAULT weights, where a file is given or none), or a registered backbone of
    itself.

    Args:
        spec: the backbone.
        base: folder that the study file's relative paths start from.
        image_size: side in pixels; the weights' own ratio of resize and crop is kept.
    """
    found = _own(spec, base)
    if image_size is None:
        return found
    resize = round(image_size * found.resize / found.crop)
    return replace(found, resize=resize, crop=image_size)


def _own(spec: BackboneSpec, base: Path) -> InputTransform:
    source = weights.locate(spec, base)
    said = weights.meta(source).get("transform")
    if source is not None and said is not None:
        return _from_meta(said, source.path.parent / "meta.json")
    builder = registry.registered(spec.name)
    if builder is not None:
        with parameters_on_meta():
            module = registry.call(builder, spec, num_outputs=1, dropout=0.0)
        return told.transform(module)
    by_name = source is not None and source.url
    preset = (weights.named(spec) if by_name else registry.enum(spec.name).DEFAULT).transforms()
    return InputTransform(
        preset.resize_size[0],
        preset.crop_size[0],
        told.rgb(preset.mean),
        told.rgb(preset.std),
        preset.interpolation.value,
    )


def _from_meta(said: Any, path: Path) -> InputTransform:
    try:
        return told.read(said)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: its `transform` cannot be used",
            f"{type(error).__name__}: {error}",
            "it needs resize, crop, mean and std (three numbers each), and interpolation",
        ) from error
