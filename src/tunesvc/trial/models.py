"""Backbones that are built once per worker, and put back to their beginning before each trial.

Why: 2026-11: building MobileNetV2 and giving it its weights takes a tenth of a second, more than
all epochs of a head on features that are known. Only what a run is going to change is kept a
second time while it runs, and written back afterwards.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tunesvc import train
from tunesvc.backbones import Backbone, Cut, build, cut, has_plain_head, renew_head, skeleton
from tunesvc.spec import BackboneSpec, TrialConfig
from tunesvc.train import Steps

_KEPT = 4  # backbones; the one that was used longest ago goes first


@dataclass(eq=False)
class Model:
    """A backbone, and what is known of it."""

    backbone: Backbone
    is_kept: bool = False  # for the trials after this one
    is_warm: bool = False  # it was built for an earlier trial
    steps: Steps = field(default_factory=dict)  # that were compiled
    _cuts: dict[int, Cut | None] = field(default_factory=dict)
    _before: dict[str, Tensor] = field(default_factory=dict)

    def cut(self, stages: int) -> Cut | None:
        """Return it cut after so many stages; None where it cannot be."""
        if stages not in self._cuts:
            self._cuts[stages] = cut(self.backbone, stages)
        return self._cuts[stages]

    def expect(self, changing: frozenset[str]) -> None:
        """Keep the values of what a run is going to change, the head's excepted."""
        if self.is_kept:
            kept = changing.difference(self.backbone.head.parameters)
            now = self.backbone.tensors if kept else {}
            self._before = {n: value.detach().clone() for n, value in now.items() if n in kept}

    def restore(self) -> None:
        """Put back what the last run has changed."""
        for parameter in self.backbone.parameters.values():
            parameter.grad = None
        now = self.backbone.tensors if self._before else {}
        with torch.no_grad():
            for name, value in self._before.items():
                now[name].copy_(value)
        self._before = {}


@dataclass(eq=False)
class Models:
    """The backbones of one study.

    Args:
        outputs: of the head.
        base: folder that relative paths of weights start from.
        image_size: side in pixels; None: as the weights were trained.
    """

    outputs: int
    base: Path
    image_size: int | None
    _kept: OrderedDict[str, Model] = field(init=False, default_factory=OrderedDict)
    _skeletons: dict[str, Backbone] = field(init=False, default_factory=dict)

    def take(self, config: TrialConfig) -> Model:
        """Return a configuration's backbone as it is before training, its head drawn anew.

        The head hangs on the configuration's seed alone, whether or not the body was here before.
        """
        label = config.backbone.model_dump_json() if config.pretrained else ""
        model = self._kept.pop(label, None)
        if model is None:
            train.seed(config.seed)
            model = Model(self._build(config))
        else:
            model.is_warm = True
            model.restore()
        if has_plain_head(model.backbone):
            train.seed(config.seed)
            renew_head(model.backbone, config.knobs.dropout)
            self._keep(label, model)
        return model

    def another(self, spec: BackboneSpec) -> Backbone:
        """Return a backbone with random numbers, for the caller alone."""
        return build(
            spec, self.outputs, base=self.base, pretrained=False, image_size=self.image_size
        )

    def skeleton(self, spec: BackboneSpec) -> Backbone:
        """Return a backbone whose parameters have shapes but no memory; made once."""
        label = spec.model_dump_json()
        if label not in self._skeletons:
            self._skeletons[label] = skeleton(
                spec, self.outputs, base=self.base, image_size=self.image_size
            )
        return self._skeletons[label]

    def clear(self) -> None:
        """Keep none: their memory is wanted."""
        self._kept.clear()

    def _build(self, config: TrialConfig) -> Backbone:
        return build(
            config.backbone,
            self.outputs,
            base=self.base,
            dropout=config.knobs.dropout,
            pretrained=config.pretrained,
            image_size=self.image_size,
        )

    def _keep(self, label: str, model: Model) -> None:
        if model.backbone.weights_sha256:  # else every trial has a random body of its own
            self._kept[label], model.is_kept = model, True
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
