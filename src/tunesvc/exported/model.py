"""An exported model in memory: from images to outputs, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tunesvc import data
from tunesvc.backbones import Backbone
from tunesvc.data import picture
from tunesvc.errors import DataError, UsageError, WeightsError
from tunesvc.exported.answers import Prediction, answers
from tunesvc.exported.description import Description, rebuild, task_of
from tunesvc.exported.folder import WEIGHTS, Folder, read, tensors
from tunesvc.exported.record import Record
from tunesvc.exported.stream import stream
from tunesvc.tasks import Task
from tunesvc.train import Placement

Picture = str | os.PathLike[str] | Image.Image | NDArray[Any]
"""A file, an image that was opened, or an array: (H, W), (H, W, 3) or (H, W, 4) uint8."""


class Model(nn.Module):
    """A trained model with what its images go through; in evaluation mode, without gradients.

    To train it further, call `requires_grad_()` and `train()`.

    Args:
        folder: that it was read from.
        backbone: with the exported parameters.
        task: what it learned.
        placement: where it computes, and how.
    """

    def __init__(
        self, folder: Folder, backbone: Backbone, task: Task, placement: Placement
    ) -> None:
        super().__init__()
        self.module = backbone.module
        self.folder, self.backbone, self.task, self.placement = folder, backbone, task, placement
        self.eval().requires_grad_(False)

    @property
    def description(self) -> Description:
        """What `config.json` says."""
        return self.folder.description

    @property
    def record(self) -> Record | None:
        """Where the model comes from, as `study.json` says; None where there is none."""
        return self.folder.record

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of the outputs; () where the task learns numbers."""
        return self.description.classes

    @property
    def device(self) -> torch.device:
        """Where the parameters lie now."""
        return next(self.module.parameters()).device

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs, (B, num_outputs) float32.

        Args:
            images: (B, 3, crop, crop) float32, as `transform` or `finish` makes them.
        """
        with self.placement.precision():
            outputs: Tensor = self.module(images)
        return outputs.float()

    def pixels(self, image: Picture) -> NDArray[np.uint8]:
        """Return an image's central square as it was decoded for training, (3, S, S) uint8.

        Raises:
            UnreadableError: it is no image that can be read.
            UsageError: an array of another kind.
            DataError: the system does not let it be read now.
        """
        side, how = self.description.preprocessing.resize, self.backbone.transform.interpolation
        match image:
            case str() | os.PathLike():
                return picture.read(Path(image), side, how)
            case np.ndarray():
                return picture.read(_opened(image), side, how)
        try:
            return picture.read(image, side, how)
        except OSError as error:  # it is decoded only now
            raise picture.UnreadableError(str(error)) from error

    def finish(self, squares: Tensor) -> Tensor:
        """Return what the model takes, (B, 3, crop, crop) float32 on its device.

        Args:
            squares: (B, 3, S, S) uint8, of `pixels`.
        """
        transform = self.backbone.transform
        return data.finished(
            squares, crop=transform.crop, mean=transform.mean, std=transform.std,
            device=self.device, memory_format=self.placement.memory_format,
        )  # fmt: skip

    def transform(self, image: Picture) -> Tensor:
        """Return an image as the model takes it, (3, crop, crop) float32 on its device.

        A file goes through exactly what validation images went through in training. An image that
        was decoded elsewhere may differ from it in the last bits of some pixels, since large JPEG
        files are decoded at a smaller scale.

        Raises:
            DataError: it cannot be read.
            UsageError: an array of another kind.
        """
        try:
            square = self.pixels(image)
        except picture.UnreadableError as error:
            raise DataError(f"{_named(image)}: cannot be read", str(error)) from error
        return self.finish(torch.from_numpy(square[None].copy()))[0]

    def predict(
        self, images: Picture | Iterable[Picture], *, batch_size: int = 32, top: int = 5
    ) -> list[Prediction]:
        """Return what the model says of images, in their order.

        An image that cannot be read has a prediction with an `error`.

        Args:
            images: one, or several.
            batch_size: images that pass through the model at once.
            top: how many classes are named, at most.
        """
        several = _several(images)
        found: list[Prediction] = []
        for batch in stream(self.pixels, self.outputs, several, batch_size=batch_size):
            found += self.answers(batch.errors, batch.outputs, top)
        return found

    @torch.inference_mode()
    def outputs(self, squares: Tensor) -> Tensor:
        """Return the outputs for (B, 3, S, S) uint8 of `pixels`: (B, num_outputs) float32, CPU."""
        outputs: Tensor = self(self.finish(squares))
        return outputs.cpu()

    def answers(self, errors: list[str], outputs: Tensor, top: int) -> list[Prediction]:
        """Return what outputs mean, with an error in the place of each that there is.

        Args:
            errors: one for each image, "" where it could be read.
            outputs: (b, num_outputs) float32, of the images without an error.
        """
        said = iter(answers(self.task, outputs, self.classes, top) if len(outputs) else ())
        return [Prediction(error=error) if error else next(said) for error in errors]


def load(directory: str | os.PathLike[str], *, device: str = "cpu") -> Model:
    """Return an exported model, ready to be used; no code in the folder is run.

    Args:
        device: cpu, cuda, cuda:1, mps. It computes in float32 there.

    Raises:
        UsageError: it is no exported model, or one of a later format.
        WeightsError: the weights are not those that the folder was written with.
        UnknownNameError: its backbone or its task is of a package that is not installed.
    """
    chosen = torch.device(device)
    fits = chosen.type in ("cuda", "cpu")
    placement = Placement(chosen, False, channels_last=fits, threads=torch.get_num_threads())
    return opened(read(Path(directory)), placement)


def opened(folder: Folder, placement: Placement) -> Model:
    """Return a folder's model where, and how, it is to compute.

    Raises:
        WeightsError, UnknownNameError: as `load`.
    """
    task, backbone = task_of(folder.description), rebuild(folder.description)
    state = tensors(folder.path)
    try:
        backbone.module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{folder.path / WEIGHTS}: these weights do not fit {folder.description.backbone.name}",
            str(error).splitlines()[-1].strip(),
            "install the versions of torchvision, or of the backbone's package, that "
            "requirements.txt beside the model names",
        ) from error
    backbone.module.to(placement.device)
    backbone.module.to(memory_format=placement.memory_format)
    return Model(folder, backbone, task, placement)


def _several(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    if isinstance(images, np.ndarray):
        return [images] if images.ndim < 4 else list(images)
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    return images


def _opened(array: NDArray[Any]) -> Image.Image:
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not is_image or array.dtype != np.uint8:
        raise UsageError(
            f"an array of shape {array.shape} and type {array.dtype} is no image",
            "(height, width), or (height, width, 3 or 4), of type uint8 is",
            "turn it around, or scale it to 0…255 and convert it",
        )
    return Image.fromarray(array)


def _named(image: Picture) -> str:
    return str(image) if isinstance(image, str | os.PathLike) else type(image).__name__
