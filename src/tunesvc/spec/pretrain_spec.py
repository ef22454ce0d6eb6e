"""The file of `tunesvc pretrain` as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from tunesvc.spec.data_spec import BackboneSpec, DataSpec
from tunesvc.spec.knobs import Knobs
from tunesvc.spec.model import Model


def _random_start(value: Any) -> Any:
    named = {"name": value} if isinstance(value, str) else value
    return {"weights": "none", **named} if isinstance(named, Mapping) else named


def _from_scratch(value: Any) -> Any:
    return {"strategy": "from-scratch", **value} if isinstance(value, Mapping) else value


class PretrainSpec(Model):
    """Train one backbone from random weights on images with classes."""

    name: str = Field(pattern=r"^[\w.+-]{1,200}$", description="null: the file's stem")
    description: str = ""
    data: DataSpec
    backbone: Annotated[BackboneSpec, BeforeValidator(_random_start)]
    epochs: int = Field(ge=1)
    knobs: Annotated[Knobs, BeforeValidator(_from_scratch)] = Knobs(strategy="from-scratch")
    seed: int = Field(0, ge=0, lt=2**31)

    @field_validator("backbone")
    @classmethod
    def _no_weights(cls, backbone: BackboneSpec) -> BackboneSpec:
        if backbone.weights != "none":
            raise ValueError("pretraining starts from random weights: leave `weights` out")
        return backbone

    @field_validator("knobs")
    @classmethod
    def _everything_trained(cls, knobs: Knobs) -> Knobs:
        if knobs.strategy != "from-scratch":
            raise ValueError("pretraining trains everything: leave `strategy` out")
        return knobs
