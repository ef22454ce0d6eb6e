"""Stacked heads against the same heads trained alone with torch's own layers and optimizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesvc import plugins
from tunesvc.spec import Knobs
from tunesvc.strategies import ParamGroup
from tunesvc.tasks import Task
from tunesvc.train.bundle import _drop_out
from tunesvc.train.optimization import optimizer, rate_factor, set_rate
from tunesvc.train.stack import Batches, HeadEpoch, HeadJob, Stack, groups, stackable
from tunesvc.train.stacked_metrics import measure

CLASSES: Task = plugins.load("task", "image-classification")
NUMBERS: Task = plugins.load("task", "image-regression")
CPU = torch.device("cpu")
WIDTH, BATCH, EPOCHS = 20, 16, 7
IMAGES = 7 * BATCH + 5  # the last batch is a small one


def points(count: int, seed: int, task: Task = CLASSES) -> tuple[Tensor, Tensor]:
    """Features (count, WIDTH), and which of three clouds they are from, or a number in them."""
    chance = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    features = torch.randn(count, WIDTH, generator=chance)
    features[:, :3] += 1.5 * nn.functional.one_hot(targets, 3)
    return features, targets if task is CLASSES else features[:, :4].sum(dim=1)


def views(task: Task = CLASSES) -> tuple[Tensor, Tensor]:
    """Two views of the training images, (2, IMAGES, WIDTH), and the targets."""
    features, targets = points(IMAGES, 0, task)
    return torch.stack([features, features.flip(0).roll(1, 1)]), targets


def job(seed: int = 0, task: Task = CLASSES, **knobs: Any) -> HeadJob:
    torch.manual_seed(seed)
    layer = nn.Linear(WIDTH, 3 if task is CLASSES else 1)
    settings = Knobs(**{"strategy": "linear-probe", "lr": 0.01, "batch_size": BATCH} | knobs)
    return HeadJob(settings, seed, EPOCHS, layer.weight.detach(), layer.bias.detach())


def draw(job: HeadJob, epoch: int) -> Batches:
    """Every image once, of a view drawn for each, in an order of the job's own."""
    chance = torch.Generator().manual_seed(1000 * job.seed + epoch)
    order = torch.randperm(IMAGES, generator=chance).split(job.knobs.batch_size)
    return [(index, torch.randint(2, (len(index),), generator=chance)) for index in order]


def stack(jobs: Sequence[HeadJob], task: Task = CLASSES) -> Stack:
    return Stack(*views(task), *points(40, 1, task), jobs=jobs, task=task, draw=draw, device=CPU)


def alone(job: HeadJob, task: Task = CLASSES) -> tuple[nn.Linear, list[float]]:
    """Train as one would without a stack; return the head and the epochs' training losses."""
    features, targets = views(task)
    head = nn.Linear(WIDTH, len(job.bias))
    head.load_state_dict({"weight": job.weight, "bias": job.bias})
    scale, steps = job.knobs.head_lr_multiplier, -(-IMAGES // BATCH)
    parts = [ParamGroup(("weight",), scale, True), ParamGroup(("bias",), scale, False)]
    torchs = optimizer(job.knobs, parts, dict(head.named_parameters()))
    schedule = {"schedule": job.knobs.schedule, "warmup": job.knobs.warmup}
    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for step, (index, view) in enumerate(draw(job, epoch), start=epoch * steps):
            set_rate(torchs, rate_factor(step, EPOCHS * steps, **schedule))
            outputs = head(features[view, index])
            loss = task.loss(outputs, targets[index], label_smoothing=job.knobs.label_smoothing)
            torchs.zero_grad()
            loss.backward()
            torchs.step()
            total += loss.item() * len(index)
        losses.append(total / IMAGES)
    return head, losses


def finish(made: Stack) -> list[list[HeadEpoch]]:
    epochs = []
    while epoch := made.epoch():
        epochs.append(epoch)
    return epochs


MANY = {
    "sgd": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01, "momentum": 0.9},
    "sgd, Nesterov": {"optimizer": "sgd", "lr": 0.05, "nesterov": True, "momentum": 0.5},
    "sgd, no momentum": {"optimizer": "sgd", "lr": 0.2, "momentum": 0.0, "nesterov": True},
    "adam": {"optimizer": "adam", "weight_decay": 0.03, "schedule": "linear", "warmup": 0.2},
    "adam, gentle": {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.3, "warmup": 0.1},
    "adamw, smooth": {"optimizer": "adamw", "label_smoothing": 0.2, "head_lr_multiplier": 3.0},
    "rmsprop": {"optimizer": "rmsprop", "lr": 3e-3, "weight_decay": 0.02, "schedule": "constant"},
}


@pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=lambda task: task.name)
def test_a_stacked_head_goes_the_way_it_would_go_alone(task: Task) -> None:
    """56 steps of eight heads, each with its own knobs: weights, losses and metrics agree."""
    jobs = [job(seed, task, **knobs) for seed, knobs in enumerate(MANY.values())]
    made = stack(jobs, task)
    epochs = finish(made)
    assert [[epoch.job for epoch in told] for told in epochs] == [list(range(8))] * EPOCHS
    assert [told[0].index for told in epochs] == list(range(EPOCHS))
    features, targets = points(40, 1, task)
    for number, (name, it) in enumerate(zip(MANY, jobs, strict=True)):
        head, losses = alone(it, task)
        weight, bias = made.head(number)
        torch.testing.assert_close(weight, head.weight.detach(), rtol=0, atol=1e-5, msg=name)
        torch.testing.assert_close(bias, head.bias.detach(), rtol=0, atol=1e-5, msg=name)
        assert [told[number].train_loss for told in epochs] == pytest.approx(losses, rel=1e-4), name
        with torch.no_grad():
            (metrics,) = measure(task, head(features).T[None], targets)
        assert epochs[-1][number].metrics == pytest.approx(metrics, rel=1e-4, abs=1e-5), name
        assert epochs[-1][number].metrics.keys() == task.metrics.keys()


def test_a_head_does_not_notice_who_is_in_its_stack() -> None:
    """Dropout, optimizer, order: the same alone, among others, and after others were dropped."""
    jobs = [
        job(seed, **{"dropout": 0.1 * seed, "label_smoothing": 0.05 * seed} | knobs)
        for seed, knobs in enumerate(MANY.values())
    ]
    (lonely,) = [stack([jobs[4]])]
    crowded = stack(jobs)
    first, *_ = finish(lonely)
    told = crowded.epoch()
    assert told[4].metrics == pytest.approx(first[0].metrics, abs=1e-6)
    for number in (0, 1, 2, 3, 6):
        crowded.drop(number)
    assert crowded.alive == (4, 5, 7)
    assert [[epoch.job for epoch in told] for told in finish(crowded)] == [[4, 5, 7]] * (EPOCHS - 1)
    for left, right in zip(lonely.head(0), crowded.head(4), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    """What is kept is scaled up; every number's fate is its own."""
    ones, chance = torch.ones(101, 333), torch.Generator().manual_seed(0)
    _drop_out(ones, 0.3, chance)
    assert ones.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert ones.mean() == pytest.approx(1, abs=0.01)
    assert ones.mean(dim=0).std() == pytest.approx((0.3 / 0.7 / 101) ** 0.5, rel=0.15)
    assert ones.mean(dim=1).std() == pytest.approx((0.3 / 0.7 / 333) ** 0.5, rel=0.25)
    others = torch.ones(101, 333)
    _drop_out(others, 0.3, chance)
    assert not torch.equal(ones, others)


def test_a_diverged_head_leaves_and_the_others_go_on() -> None:
    """It is told once, with the split whose loss is no number; the others' numbers stay theirs."""
    wild = {"optimizer": "sgd", "lr": 1e30, "schedule": "constant", "momentum": 0.9}
    calm = MANY["sgd"]
    jobs = [job(0, **calm), job(1, **wild), job(2, **calm)]
    made = stack(jobs)
    epochs = finish(made)
    assert [epoch.job for epoch in epochs[0]] == [0, 1, 2]
    assert [epoch.diverged for epoch in epochs[0]] == [None, "train", None]
    assert not math.isfinite(epochs[0][1].train_loss)
    assert [[epoch.job for epoch in told] for told in epochs[1:]] == [[0, 2]] * (EPOCHS - 1)
    for number in (0, 2):
        torch.testing.assert_close(
            made.head(number)[0], alone(jobs[number])[0].weight.detach(), rtol=0, atol=1e-5
        )


def test_a_head_whose_last_step_overflows_diverges_on_the_validation_split() -> None:
    """The training losses were numbers yet."""
    wild = {"optimizer": "sgd", "lr": 3e38, "batch_size": IMAGES, "momentum": 0.0}
    (epoch,) = stack([job(1, weight_decay=0.0, schedule="constant", **wild)]).epoch()
    assert math.isfinite(epoch.train_loss)
    assert epoch.diverged == "validation"


def test_an_interrupted_epoch_goes_on_where_it_stood() -> None:
    """What tick raises passes; with the next call the steps left are done, none twice."""

    class WantedError(Exception):
        pass

    def raising() -> None:
        nonlocal ticks
        ticks += 1
        if ticks in (3, 9):
            raise WantedError

    jobs = [job(seed, dropout=0.2, **knobs) for seed, knobs in enumerate(MANY.values())]
    ticks, whole, cut = 0, stack(jobs), stack(jobs)
    for _ in range(2):
        with pytest.raises(WantedError):
            cut.epoch(raising)
    told, expected = cut.epoch(raising), whole.epoch()
    assert [e.train_loss for e in told] == [e.train_loss for e in expected]
    assert [e.metrics for e in told] == [e.metrics for e in expected]
    assert ticks == 4 * 8  # four bundles, one of each optimizer
    assert all(epoch.seconds.keys() == {"train", "eval"} for epoch in told)


def test_only_jobs_with_the_same_steps_share_a_stack() -> None:
    """Batch size and epochs must agree, optimizers need not; mixed images have no features."""
    jobs = [
        job(0, optimizer="sgd"),
        job(1, batch_size=8),
        job(2, mixup=0.2),
        job(3, optimizer="adam"),
        job(4, cutmix=1.0),
        job(5, batch_size=8, dropout=0.5),
    ]
    assert groups(jobs) == [[0, 3], [1, 5]]
    assert [stackable(it.knobs) for it in jobs] == [True, True, False, True, False, True]
    for refused in (jobs[:2], jobs[2:4], []):
        with pytest.raises(ValueError, match="groups"):
            stack(refused)


@pytest.mark.parametrize("there", [3, 5])
def test_metrics_are_torchmetrics(there: int) -> None:
    """Also where classes are absent, never predicted, or neither; for every head of a stack."""
    chance = torch.Generator().manual_seed(3)
    targets = torch.randint(there, (60,), generator=chance)
    outputs = torch.randn(4, 6, 60, generator=chance)
    outputs[1, 4:] -= 100  # predicts four classes
    outputs[2, 0] += 100  # predicts one
    outputs[3].scatter_(0, targets[None], 100.0)  # is right
    for told, head in zip(measure(CLASSES, outputs, targets), outputs, strict=True):
        collection = CLASSES.metric_collection(6)
        collection.update(CLASSES.predictions(head.T), targets)
        expected = {name: value.item() for name, value in collection.compute().items()}
        expected["loss"] = CLASSES.loss(head.T, targets).item()
        assert told == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert all(type(value) is float for value in told.values())


def test_half_precision_features_are_computed_with_in_single() -> None:
    """A cache of bfloat16 gives float32 heads, trained as from the same numbers in float32."""
    features, targets = views()
    rounded, val = features.bfloat16(), points(40, 1)
    jobs = [job(0, **MANY["adamw"])]
    made, same = (
        Stack(first, targets, *val, jobs=jobs, task=CLASSES, draw=draw, device=CPU)
        for first in (rounded, rounded.float())
    )
    finish(made)
    finish(same)
    assert made.head(0)[0].dtype == torch.float32
    assert torch.equal(made.head(0)[0], same.head(0)[0])
