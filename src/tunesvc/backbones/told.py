"""What a registered backbone says of itself, and what is taken where it says nothing.

A module may have three attributes; none is needed where its children run one after another and
the last of them is the head:

    head_name           the child that is the head; else the last child
    stages              (stage name, its child modules) from input to output, the head left out;
                        else each other child; those without parameters belong to the one before
                        them, the first to the one behind it
    default_transform   the fields of an `InputTransform`; else ImageNet's, at 224 pixels

Only plain attributes count: a child module that happens to be called `stages` says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from tunesvc.backbones.anatomy import InputTransform, Layout
from tunesvc.errors import UsageError

# Source: torchvision 0.23, `ImageClassification` in transforms/_presets.py.
_IMAGENET = InputTransform(224, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")


def head(module: nn.Module) -> str:
    """Return the name of the child that is the head.

    Raises:
        UsageError: it is none of the children.
    """
    names = [name for name, _ in module.named_children()]
    said = _said(module, "head_name", names[-1] if names else "")
    if said not in names:
        children = ", ".join(names) or "none"
        raise UsageError(
            f"the head of {type(module).__name__} is not there",
            f"its head_name is {said!r}, and its child modules are: {children}",
            "name one of them; the last one is taken where there is no head_name",
        )
    return str(said)


def stages(module: nn.Module) -> Layout:
    """Return the stages, from input to output."""
    said: Layout | None = _said(module, "stages")
    if said is not None:
        return said
    own, is_whole = head(module), False
    found: list[tuple[str, list[str]]] = []
    for name, child in module.named_children():
        if name == own:
            continue
        has_parameters = next(child.parameters(), None) is not None
        if not found or (is_whole and has_parameters):
            found.append((name, [name]))
            is_whole = has_parameters
        else:
            found[-1][1].append(name)
            is_whole |= has_parameters
    return found


def transform(module: nn.Module) -> InputTransform:
    """Return how its images are resized and normalised.

    Raises:
        UsageError: a field is missing, or not of its kind.
    """
    said = _said(module, "default_transform")
    if said is None:
        return _IMAGENET
    try:
        return read(said)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"the default_transform of {type(module).__name__} cannot be used",
            f"{type(error).__name__}: {error}",
            "it needs resize, crop, mean and std (three numbers each), and interpolation",
        ) from error


def read(fields: Mapping[str, Any]) -> InputTransform:
    """Return a transform by its fields.

    Raises:
        KeyError, TypeError, ValueError: a field is missing, or not of its kind.
    """
    return InputTransform(
        int(fields["resize"]),
        int(fields["crop"]),
        rgb(fields["mean"]),
        rgb(fields["std"]),
        str(fields["interpolation"]),
    )


def rgb(values: Iterable[float]) -> tuple[float, float, float]:
    """Return a number for each channel."""
    red, green, blue = map(float, values)
    return red, green, blue


def _said(module: nn.Module, name: str, otherwise: Any = None) -> Any:
    """Return a plain attribute of a module or of its class."""
    return vars(module).get(name, getattr(type(module), name, otherwise))
