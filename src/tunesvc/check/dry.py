"""Seconds of an epoch, by a few real batches of each backbone under each strategy on a device.

Why: 2026-11: what an epoch costs hangs on the backbone and on which of its stages are trained; a
strategy is a sequence of such phases, and many share them. So each phase is run once to warm up and
once for the clock, by the code that trials are run by, on as many images as take a fraction of a
second. Of a study with more phases than there is time for, the commonest are measured, and the
others take what the measured ones of their backbone take on average.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch
from torch.nn import functional

from tunesvc import data, places, plugins, strategies, train
from tunesvc.backbones import Backbone, build, cut, input_transform
from tunesvc.data import Listing, Split
from tunesvc.spec import Knobs, StudySpec, TrialConfig
from tunesvc.train import Placement, Run, Shared, precision
from tunesvc.train.inputs import VIEWS
from tunesvc.train.precision import Net

SECONDS = 8.0  # that all measurements may take, beside building
_EPOCH_SECONDS = 0.2  # that one epoch of a measurement is to take
_LEAST, _BATCH = 8, 64  # images

Key = tuple[frozenset[str], int, bool]  # trained parameters, frozen stages, mixed images


@dataclass(frozen=True)
class Phase:
    """Seconds of some epochs of a trial, for each image: trained on, evaluated.

    `prefix`: what the outputs of its `frozen` stages take, for each view of an image, once per
    host; 0 where they are not kept.
    """

    train: float
    evaluation: float
    prefix: float = 0.0
    frozen: int = 0


@dataclass(frozen=True)
class Stay:
    """A phase of one configuration: its epochs, counted from 0, and whose views it wants."""

    key: Key
    epochs: range
    views: tuple[str, ...]


@dataclass
class Dry:
    """One backbone of a study on a device.

    Raises:
        TuneError: the backbone cannot be built here.
    """

    spec: StudySpec
    label: str
    base: Path
    listing: Listing
    placement: Placement
    built_seconds: float = field(init=False)
    forward_seconds: float = field(init=False)  # of one image
    body: Backbone = field(init=False)
    phases: dict[Key, Phase] = field(init=False, default_factory=dict)
    _splits: dict[str, Split] = field(init=False, default_factory=dict)
    _measured: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        start, spec = time.perf_counter(), self.spec
        self.body = self._another()
        self.built_seconds = time.perf_counter() - start
        net = Net(spec.backbone(self.label), self.body.transform.crop, self._another)
        images = spec.budget.epochs * len(self.listing.splits["train"])
        self.placement = precision.settled(self.placement, net, images, places.cache())
        self.forward_seconds = self._forward_seconds()

    def _another(self) -> Backbone:
        """Return the backbone, built anew."""
        spec = self.spec
        task = plugins.load("task", spec.task)
        return build(
            spec.backbone(self.label), task.num_outputs(self.listing.classes),
            base=self.base, image_size=spec.data.image_size,
        )  # fmt: skip

    def stays(self, knobs: Knobs) -> list[Stay]:
        """Return the phases of a configuration."""
        phases, epochs = self._plan(knobs).phases, self.spec.budget.epochs
        ends = [phase.first_epoch for phase in phases[1:]] + [epochs]
        is_mixed = bool(knobs.mixup or knobs.cutmix)
        views = 1 if knobs.augmentation == "none" else VIEWS
        names = tuple(f"{knobs.augmentation if view else 'itself'} {view}" for view in range(views))
        stays, trained = [], frozenset[str]()
        for phase, end in zip(phases, ends, strict=True):
            trained |= phase.trainable
            is_kept = self.spec.augment == "cached" and not is_mixed
            frozen = self._frozen(trained) if is_kept else 0
            key = (phase.trainable, frozen, is_mixed)
            stays.append(Stay(key, range(phase.first_epoch, end), names if frozen else ()))
        return stays

    def _frozen(self, trained: frozenset[str]) -> int:
        """Count the leading stages of which nothing has been trained."""
        touched = (
            place
            for place, stage in enumerate(self.body.stages)
            if not trained.isdisjoint(stage.parameters)
        )
        return next(touched, len(self.body.stages))

    def _plan(self, knobs: Knobs) -> strategies.Plan:
        body = self.body
        stages = [(stage.name, stage.parameters) for stage in body.stages]
        return strategies.plan(
            stages, body.head.parameters, body.norm_parameters, knobs, self.spec.budget.epochs
        )

    def measure(self, wanted: Iterable[tuple[Knobs, Stay]], seconds: float) -> None:
        """Measure phases in this order, at least one, for about so long."""
        end = time.perf_counter() + seconds
        for knobs, stay in wanted:
            if not self.phases or time.perf_counter() < end:
                self.phases[stay.key] = self._measure(knobs, stay)

    def phase(self, key: Key) -> Phase:
        """Return what a phase takes, or what those that were measured take on average."""
        if key in self.phases:
            return self.phases[key]
        known = self.phases.values()
        return Phase(fmean(p.train for p in known), fmean(p.evaluation for p in known))

    def _measure(self, knobs: Knobs, stay: Stay) -> Phase:
        first = self._split("train", self._fitting(3.0))
        second = self._split("val", self._fitting(1.0))
        quiet = {"lr": 1e-6, "batch_size": max(2, min(knobs.batch_size, len(first.targets) // 2))}
        with TemporaryDirectory() as scratch:
            run = self._run(knobs.model_copy(update=quiet), first, second, Path(scratch))
            for _ in range(2):  # the first warms up
                run.next_epoch = stay.epochs.start
                epoch = next(train.fit(run))
        told, views = run.inputs.used, max(1, run.inputs.views)
        images = views * len(first.targets) + len(second.targets)
        is_kept = bool(told) and bool(told[-1]["outputs_known"])
        return Phase(
            epoch.seconds["train"] / len(first.targets),
            epoch.seconds["eval"] / len(second.targets),
            told[-1]["computing"] / images if is_kept else 0.0,
            stay.key[1] if is_kept else 0,
        )

    def _run(self, knobs: Knobs, first: Split, second: Split, scratch: Path) -> Run:
        spec, body = self.spec, self.body
        config = TrialConfig(
            spec.backbone(self.label), knobs, spec.budget.epochs, 0,
            is_cached=spec.augment == "cached",
        )  # fmt: skip
        self._measured += 1  # no two measurements share what they keep
        freezer = Shared(f"dry {self._measured}", scratch).freezer(lambda n: cut(body, n))
        task = plugins.load("task", spec.task)
        plan = self._plan(knobs)
        return Run(body, task, first, second, config, self.placement, plan, freezer)

    # ---- images

    def _fitting(self, passes: float) -> int:
        """Return how many images take a fraction of a second, passing so often."""
        return max(_LEAST, int(_EPOCH_SECONDS / (passes * self.forward_seconds)))

    def _forward_seconds(self) -> float:
        """Return what one image takes to pass through the model, in a batch."""
        module, place = self.body.module, self.placement
        module.to(place.device)
        module.to(memory_format=place.memory_format)
        module.eval()
        spent, images = 0.0, 1
        while spent < _EPOCH_SECONDS / 10 and images < _BATCH:
            images *= 4
            side = self.body.transform.crop
            given = place.laid_out(torch.rand(images, 3, side, side, device=place.device))
            for _ in range(2):  # the first warms up
                start = time.perf_counter()
                with torch.inference_mode(), place.precision():
                    module(given).sum().item()
                spent = time.perf_counter() - start
        return spent / images

    def _split(self, name: str, images: int) -> Split:
        """Return the first images of a split, at the size that this backbone wants."""
        whole = self._whole(name)
        count, side = min(images, len(whole.targets)), self.body.transform.resize
        given = whole.images[:count]
        if given.shape[-1] != side:
            resized = functional.interpolate(given.float(), (side, side), mode="bilinear")
            given = resized.round().to(torch.uint8)
        return Split(given, whole.targets[:count], ())

    def _whole(self, name: str) -> Split:
        """Return a split as `check` has decoded it, for the study's first backbone."""
        if name not in self._splits:
            first, size = self.spec.backbones[0], self.spec.data.image_size
            transform = input_transform(first, base=self.base, image_size=size)
            self._splits[name] = data.decode(
                self.listing, name, transform.resize, on_corrupt=self.spec.data.on_corrupt,
                cache=places.cache(), interpolation=transform.interpolation,
            )  # fmt: skip
        return self._splits[name]
