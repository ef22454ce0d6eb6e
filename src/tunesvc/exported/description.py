"""`config.json`: what is needed to use an exported model, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

from tunesvc import __version__, backbones, plugins
from tunesvc.backbones import Backbone, InputTransform
from tunesvc.errors import UnknownNameError
from tunesvc.spec import BackboneSpec
from tunesvc.spec.knobs import Scalar
from tunesvc.spec.model import Model
from tunesvc.tasks import Task

FORMAT = 1  # raise it when an older reader would misunderstand


class Architecture(Model):
    """How the module is built.

    `transform_input` is torchvision's: GoogLeNet and Inception undo ImageNet's normalisation where
    they started from torchvision's own weights. `dropout` is the head's: using the model needs
    none, but a plugin's function may build other modules with it than without.
    """

    name: str
    kwargs: Mapping[str, Scalar] = {}
    transform_input: bool = False
    dropout: float = 0.0


class Preprocessing(Model):
    """How an image becomes the model's input.

    The shorter side is resized to `resize` pixels, the centre `crop`×`crop` is kept, and values in
    [0, 1] are normalised per RGB channel: (x - mean) / std.
    """

    resize: int
    crop: int
    interpolation: str
    antialias: Literal[True] = True
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def transform(self) -> InputTransform:
        """The same as the training side has it."""
        return InputTransform(self.resize, self.crop, self.mean, self.std, self.interpolation)


class Description(Model):
    """What lies in a folder.

    Args:
        tunesvc: the version that wrote it.
        target: what the task learns: classes or numbers.
        parameters: how many numbers the model has.
        sha256: of `model.safetensors`.
    """

    format: int = FORMAT
    tunesvc: str = __version__
    task: str
    target: Literal["class", "number"]
    num_outputs: int
    classes: tuple[str, ...]
    backbone: Architecture
    preprocessing: Preprocessing
    parameters: int
    sha256: str = ""


def describe(
    backbone: Backbone,
    spec: BackboneSpec,
    task: Task,
    classes: Sequence[str],
    *,
    dropout: float = 0.0,
) -> Description:
    """Return the description of a model; `write` adds the hash of its weights.

    Args:
        spec: what the backbone was built from.
        classes: in the order of the outputs; none for numbers.
        dropout: that the backbone was built with.
    """
    architecture = Architecture(
        name=spec.name,
        kwargs=spec.kwargs,
        transform_input=bool(getattr(backbone.module, "transform_input", False)),
        dropout=dropout,
    )
    return Description(
        task=task.name,
        target=task.target,
        num_outputs=task.num_outputs(classes),
        classes=tuple(classes),
        backbone=architecture,
        preprocessing=Preprocessing(**asdict(backbone.transform)),
        parameters=sum(parameter.numel() for parameter in backbone.module.parameters()),
    )


def rebuild(description: Description) -> Backbone:
    """Build the model without its weights: its parameters have shapes, but no memory.

    Raises:
        UnknownNameError: nobody here has its backbone.
        SpecError: this version of the backbone takes other arguments.
    """
    built = description.backbone
    spec = BackboneSpec(name=built.name, weights="none", kwargs=dict(built.kwargs))
    transform = description.preprocessing.transform
    try:
        return backbones.bare(
            spec, description.num_outputs, transform,
            ported=built.transform_input, dropout=built.dropout,
        )  # fmt: skip
    except UnknownNameError as error:
        raise _not_installed("backbone", built.name, error) from error


def _not_installed(kind: str, name: str, error: UnknownNameError) -> UnknownNameError:
    return UnknownNameError(
        f"the model's {kind} {name!r} is not installed",
        error.why,
        f"install the package that brings it (its entry point is in the group tunesvc.{kind}; "
        "requirements.txt beside the model may name it)",
    )


def task_of(description: Description) -> Task:
    """Return the task.

    Raises:
        UnknownNameError: nobody here has it.
    """
    try:
        found: Task = plugins.load("task", description.task)
    except UnknownNameError as error:
        raise _not_installed("task", description.task, error) from error
    return found
