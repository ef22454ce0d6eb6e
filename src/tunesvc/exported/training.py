"""A run as its record tells it, at its beginning: without a study, without a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesvc import data, places, strategies, train
from tunesvc.backbones import (
    Backbone,
    InputTransform,
    build,
    cut,
    has_plain_head,
    input_transform,
    renew_head,
)
from tunesvc.data import Listing, Split
from tunesvc.exported.folder import Start
from tunesvc.exported.record import TrainingRun
from tunesvc.spec import DataSpec, TrialConfig
from tunesvc.tasks import Task
from tunesvc.train import Placement, Run, Shared, statistics
from tunesvc.train.heads import job_of, stack_of


def prepare(
    run: TrainingRun,
    data_spec: DataSpec,
    base: Path,
    placement: Placement,
    *,
    listing: Listing,
    task: Task,
    trained_on: Sequence[str] = ("train",),
    start: Start | None = None,
    cache: Path | None = None,
) -> Run:
    """Return a run at its beginning: with the head, the images and the features of a trial's.

    Args:
        run: what is trained, how.
        data_spec: of the study.
        base: folder that relative paths of weights start from.
        listing: what `data.scan` found.
        trained_on: splits; their images are trained on as one.
        start: what the head begins from; None: it is drawn.
        cache: of decoded images and features; None: this machine's.

    Raises:
        DataError, WeightsError, SpecError, UnknownNameError: it cannot be built here.
    """
    config, cache = run.config(), cache or places.cache()
    transform = input_transform(config.backbone, base=base, image_size=data_spec.image_size)
    first, second = (
        data.resident(each, placement.device, placement.room())
        for each in (
            joined(split(listing, name, data_spec, transform, cache) for name in trained_on),
            split(listing, "val", data_spec, transform, cache),
        )
    )
    backbone = _backbone(config, task.num_outputs(listing.classes), base, data_spec.image_size)
    if start is not None:
        _begin(backbone, start)
    known = listing.fingerprint
    if tuple(trained_on) != ("train",):
        known = sha256(f"{known} {'+'.join(trained_on)}".encode()).hexdigest()
    shared = Shared(known, cache / "features")
    stages = [(stage.name, stage.parameters) for stage in backbone.stages]
    made = Run(
        backbone, task, first, second, config, placement,
        strategies.plan(
            stages, backbone.head.parameters, backbone.norm_parameters, config.knobs, config.epochs
        ),
        shared.freezer(lru_cache(lambda number: cut(backbone, number))),
    )  # fmt: skip
    made.micro_batch = min(made.micro_batch, run.micro_batch or made.micro_batch)
    return made


def split(
    listing: Listing, name: str, data_spec: DataSpec, transform: InputTransform, cache: Path
) -> Split:
    """Return a split decoded for a backbone."""
    return data.decode(
        listing, name, transform.resize, on_corrupt=data_spec.on_corrupt, cache=cache,
        interpolation=transform.interpolation,
    )  # fmt: skip


def joined(splits: Iterator[Split]) -> Split:
    """Return the images of several splits as one split; of one alone, nothing is copied."""
    first, *others = splits
    if not others:
        return first
    every = (first, *others)
    return Split(
        torch.cat([each.images for each in every]),
        torch.cat([each.targets for each in every]),
        tuple(name for each in every for name in each.skipped),
    )


def _backbone(config: TrialConfig, outputs: int, base: Path, image_size: int | None) -> Backbone:
    """Return a backbone with the head that the configuration's seed draws."""
    train.seed(config.seed)
    backbone = build(
        config.backbone, outputs, base=base, dropout=config.knobs.dropout,
        pretrained=config.pretrained, image_size=image_size,
    )  # fmt: skip
    if has_plain_head(backbone):
        train.seed(config.seed)
        renew_head(backbone, config.knobs.dropout)
    return backbone


def _begin(backbone: Backbone, start: Start) -> None:
    with torch.no_grad():
        for name, value in zip(backbone.head.parameters, start, strict=True):
            backbone.module.get_parameter(name).copy_(value)


def epochs(run: Run, *, stacked: bool) -> Iterator[dict[str, Any]]:
    """Train to the end, yielding what each epoch brings: `epoch` from 1 on, and the metrics.

    Args:
        stacked: as a head in a stack, where that is possible.

    Raises:
        Diverged: as `train.fit`.
    """
    stack = None
    if stacked:
        run.freeze(lambda: None)
        stack = stack_of(run, [job_of(run)])
    if stack is None:
        for each in train.fit(run):
            yield told(each.index, each.train_loss, each.metrics)
        return
    while done := stack.epoch():
        (epoch,) = done
        if epoch.diverged:
            loss = epoch.train_loss if epoch.diverged == "train" else epoch.metrics["loss"]
            raise train.Diverged(epoch.index, loss, epoch.diverged)
        yield told(epoch.index, epoch.train_loss, epoch.metrics)
    _begin(run.backbone, stack.head(0))
    run.next_epoch = run.config.epochs


def told(index: int, train_loss: float, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return an epoch as a record has it."""
    return {"epoch": index + 1, "train_loss": train_loss, **metrics}


def average(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of state dicts of one backbone; of integers, the first's.

    Source: Wortsman et al. 2022, "Model soups", the uniform soup.
    """
    first = states[0]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def blend(run: Run, states: Sequence[Mapping[str, Tensor]]) -> None:
    """Have the model of a run be the mean of several, with batch-norm statistics of its own.

    Why: 2026-11: what a run keeps of its frozen stages' outputs is of its own model's, and would be
    taken for the mean's.
    """
    run.module.load_state_dict(average(states))
    run.inputs.frozen, run.inputs.outputs = 0, None
    statistics.refresh(run, statistics.differing(states))
