"""Backbone name → who makes it: a registered builder, or torchvision."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn
from torchvision import models

from tunesvc import plugins
from tunesvc.errors import SpecError, UnknownNameError, suggest
from tunesvc.spec import BackboneSpec

Builder = Callable[..., nn.Module]
"""`(num_outputs, dropout, **kwargs) -> nn.Module`; `told.py` says what the module may tell."""


def names() -> tuple[str, ...]:
    """Return every known backbone: the registered ones and torchvision's classification models."""
    return tuple(sorted({*plugins.paths("backbone"), *_torchvision()}))


def registered(name: str) -> Builder | None:
    """Return the builder registered under a name, or None where torchvision has this model.

    Raises:
        UnknownNameError: nobody has it; the message tells the nearest known name.
    """
    if name in plugins.paths("backbone"):
        found: Builder = plugins.load("backbone", name)
        return found
    if name not in _torchvision():
        raise UnknownNameError(f"unknown backbone {name!r}", suggest(name, names()))
    return None


def call(builder: Builder, spec: BackboneSpec, num_outputs: int, dropout: float) -> nn.Module:
    """Build a registered backbone.

    Raises:
        SpecError: the builder does not take the study file's `kwargs`.
    """
    try:
        return builder(num_outputs, dropout, **spec.kwargs)
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value}" for key, value in spec.kwargs.items())
        raise SpecError(
            f"backbones: {spec.name} cannot be built with kwargs {shown or '(none)'}",
            str(error),
            "correct this backbone's kwargs",
        ) from error


def enum(name: str) -> Any:
    """Return torchvision's enum of the weights of a model."""
    return models.get_model_weights(name)


@cache
def _torchvision() -> tuple[str, ...]:
    return tuple(models.list_models(module=models))
