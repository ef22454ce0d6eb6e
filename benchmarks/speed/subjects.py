"""What is worked on: real photographs and real ImageNet weights from `../shared`.

A subject is a data set, a size and backbones; a search over it is a `peers.job.Job`, from which
tunesvc's study file and both peers are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from peers.job import Backbone, Job
from PIL import Image

from tunesvc.spec import STRATEGIES, BackboneSpec

SHARED = Path(__file__).resolve().parents[2] / "../shared"
PHOTOS = SHARED / "data" / "hymenoptera"
FLOWERS = SHARED / "data" / "flowers128"
CIFAR = SHARED / "data" / "cifar10-jpeg-subset" / "cifar10_10k_2k.npz"
WEIGHTS = SHARED / "weights"


def missing() -> list[Path]:
    """Return what the benchmark needs and this machine has not got."""
    files = [WEIGHTS / name for name, *_ in _FILES.values()]
    return [path for path in (PHOTOS, CIFAR, *files) if not path.exists()]


# label → file, torchvision's model, its arguments, name of its last layer
_FILES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "mobilenet_v2": ("mobilenet_v2-tf2ptq-82f7e551.pth", "mobilenet_v2", {}, "classifier.1"),
    "mobilenet_v2_w035": (
        "mobilenet_v2_w035-keras-features-96ed9f53.pth",
        "mobilenet_v2",
        {"width_mult": 0.35},
        "classifier.1",
    ),
    "squeezenet1_1": (
        "squeezenet1_1-caffe-features-49c38fe8.pth",
        "squeezenet1_1",
        {},
        "classifier.1",
    ),
}


@dataclass(frozen=True)
class Subject:
    """Data at a size, with backbones.

    Args:
        epochs: of a trial, in the rows of one trial after the other.
    """

    name: str
    words: str
    data: Path
    image_size: int
    backbones: tuple[Backbone, ...]
    epochs: int = 2

    def job(
        self, study: str, strategies: Sequence[str], trials: int, epochs: int, **changed: Any
    ) -> Job:
        """Return a search over it; one strategy and augmentation unless more are given."""
        transform = _transform(self.backbones[0], self.image_size)
        made = Job(
            study=study,
            data=str(self.data),
            image_size=transform.crop,
            resize=transform.resize,
            mean=transform.mean,
            std=transform.std,
            backbones=list(self.backbones),
            strategies=list(strategies),
            augmentations=["flip-crop"],
            trials=trials,
            epochs=epochs,
            prune=False,
        )
        return replace(made, **changed)


def photos(image_size: int = 128) -> Subject:
    """Ants and bees, MobileNetV2."""
    words = f"ants/bees (244 + 153 photographs), MobileNetV2, {image_size} px"
    return Subject("photos", words, PHOTOS.resolve(), image_size, (backbone("mobilenet_v2"),))


def small(folder: Path, image_size: int = 64) -> Subject:
    """A part of CIFAR-10 as JPEG files, enlarged, MobileNetV2 of a third of the width."""
    words = f"CIFAR-10 JPEG (500 + 250 images), MobileNetV2 ×0.35, {image_size} px"
    data = unpacked(folder / "cifar", train=500, val=250)
    return Subject("cifar", words, data, image_size, (backbone("mobilenet_v2_w035"),), epochs=4)


def many(folder: Path, image_size: int, *, every: int) -> Subject:
    """Every so-manieth photograph of ants and bees, three backbones."""
    nets = "MobileNetV2, MobileNetV2 ×0.35, SqueezeNet 1.1"
    data = thinned(PHOTOS.resolve(), folder / "thinned", every=every)
    train, val = (len(list(data.glob(f"{split}/*/*"))) for split in ("train", "val"))
    words = f"ants/bees ({train} + {val} photographs), {nets}, {image_size} px"
    return Subject("mixed", words, data, image_size, tuple(map(backbone, _FILES)))


ALL_STRATEGIES = STRATEGIES


def backbone(label: str) -> Backbone:
    """Return a backbone whose weights lie in `../shared`."""
    file, model, kwargs, head = _FILES[label]
    return anatomy(label, model, kwargs, str((WEIGHTS / file).resolve()), head)


def anatomy(label: str, model: str, kwargs: dict[str, Any], weights: str, head: str) -> Backbone:
    """Return a backbone with the names of the modules of its stages."""
    import torch
    from torchvision import models

    from tunesvc.backbones.layouts import layout

    with torch.device("meta"):
        module = models.get_model(model, weights=None, **kwargs)
    known = dict(module.named_modules())
    stages = [[part for part in parts if part in known] for _, parts in layout(module)]
    return Backbone(label, model, kwargs, weights, stages, head)


def _transform(chosen: Backbone, image_size: int) -> Any:
    from tunesvc.backbones import input_transform

    spec = BackboneSpec(name=chosen.model, weights="none")
    return input_transform(spec, base=Path(), image_size=image_size)


def unpacked(folder: Path, *, train: int, val: int) -> Path:
    """Write class folders of CIFAR-10's images as JPEG; return the folder."""
    arrays = np.load(CIFAR)
    for split, key, count in (("train", "train", train), ("val", "test", val)):
        images, labels = arrays[f"x_{key}"], arrays[f"y_{key}"]
        classes = arrays["classes"]
        for number, label in enumerate(classes):
            place = folder / split / str(label)
            place.mkdir(parents=True)
            for index in np.flatnonzero(labels == number)[: count // len(classes)]:
                Image.fromarray(images[index]).save(place / f"{index}.jpg", quality=95)
    return folder


def thinned(data: Path, folder: Path, *, every: int) -> Path:
    """Link every so-manieth image of each class into a folder of its own; return it."""
    for split in ("train", "val"):
        for label in sorted((data / split).iterdir()):
            place = folder / split / label.name
            place.mkdir(parents=True)
            for image in sorted(label.iterdir())[::every]:
                (place / image.name).symlink_to(image)
    return folder
