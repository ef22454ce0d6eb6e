"""What every task must be, built-in or registered by an installed package.

Authors of a task run this file with their package installed: its entry points are found.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from tunesvc import plugins
from tunesvc.analysis.feasible import COSTS
from tunesvc.exported.answers import probabilities
from tunesvc.tasks import Task
from tunesvc.train.stacked_losses import loss_of
from tunesvc.train.stacked_metrics import measure

CLASSES = ["a", "b", "c", "d"]
IMAGES = 12
NAMES = sorted(plugins.paths("task"))


def loaded(name: str) -> Task:
    """Return a task as it is found by its name."""
    task: Task = plugins.load("task", name)
    return task


def batch(task: Task, seed: int = 0) -> tuple[Tensor, Tensor, int]:
    """Return outputs, targets of every class, and the width of the head."""
    generator = torch.Generator().manual_seed(seed)
    width = task.num_outputs(CLASSES if task.target == "class" else [])
    targets = torch.arange(IMAGES) % len(CLASSES)
    if task.target == "number":
        targets = torch.randn(IMAGES, generator=generator)
    return torch.randn(IMAGES, width, generator=generator), targets, width


@pytest.mark.parametrize("name", NAMES)
def test_naming_it_loads_no_torch(name: str) -> None:
    """Its plain data is read by `tunesvc status` and the dashboard, which are quick."""
    code = (
        "import sys; from tunesvc import plugins;"
        f"task = plugins.load('task', {name!r});"
        "task.name, task.target, task.default_metric, dict(task.metrics);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_of_itself(name: str) -> None:
    """Its name, its targets, and metrics that `best --where` can tell from costs."""
    task = loaded(name)
    assert task.name == name
    assert task.target in ("class", "number")
    assert set(task.metrics.values()) <= {"maximize", "minimize"}
    assert task.metrics["loss"] == "minimize"
    assert task.default_metric in task.metrics
    assert not set(task.metrics) & set(COSTS)
    assert all(metric.isidentifier() for metric in task.metrics)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_computed(name: str) -> None:
    """All that it names but the loss, finite, the same in one batch as in several."""
    task = loaded(name)
    outputs, targets, width = batch(task)
    whole, parts = task.metric_collection(width), task.metric_collection(width)
    predictions = task.predictions(outputs)
    assert predictions.shape == targets.shape
    assert predictions.dtype == targets.dtype
    if task.target == "class":
        assert set(predictions.tolist()) <= set(range(len(CLASSES)))
    whole.update(predictions, targets)
    for part in (slice(0, 5), slice(5, None)):
        parts.update(task.predictions(outputs[part]), targets[part])
    found = {key: float(value) for key, value in whole.compute().items()}
    assert found.keys() | {"loss"} == set(task.metrics)
    assert torch.tensor(list(found.values())).isfinite().all()
    again = {key: float(value) for key, value in parts.compute().items()}
    assert again == pytest.approx(found, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if loaded(name).target == "class"])
def test_every_class_has_a_probability(name: str) -> None:
    """A softmax of the outputs, or what the task says where there are more or fewer of them."""
    task = loaded(name)
    outputs, _, _ = batch(task)
    shares = probabilities(task, outputs)
    assert shares.shape == (IMAGES, len(CLASSES))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(IMAGES))
    assert (shares >= 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_leads_to_the_targets(name: str, smoothing: float) -> None:
    """One number, finite; outputs that go down its gradient end in predicting what was asked."""
    task = loaded(name)
    outputs, targets, _ = batch(task)
    for _ in range(300):
        outputs.requires_grad_()
        loss = task.loss(outputs, targets, label_smoothing=smoothing)
        assert loss.shape == ()
        assert loss.isfinite()
        (gradient,) = torch.autograd.grad(loss, outputs)
        outputs = (outputs - 5 * gradient).detach()
    torch.testing.assert_close(task.predictions(outputs), targets, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_can_be_mixed(name: str, smoothing: float) -> None:
    """Unmixed soft targets cost what the targets cost; mixed ones are taken by the loss."""
    task = loaded(name)
    outputs, targets, width = batch(task)
    soft = task.soft_targets(targets, width)
    assert soft.shape == outputs.shape
    assert soft.dtype == torch.float32
    hard = task.loss(outputs, targets, label_smoothing=smoothing)
    torch.testing.assert_close(task.loss(outputs, soft, label_smoothing=smoothing), hard)
    mixed = 0.7 * soft + 0.3 * soft.roll(1, dims=0)
    assert task.loss(outputs, mixed, label_smoothing=smoothing).isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_many_heads_at_once_are_as_each_alone(name: str) -> None:
    """The losses, gradients and metrics of head-only trials that are trained as one batch."""
    task = loaded(name)
    heads = [batch(task, seed) for seed in (0, 1)]
    outputs = torch.stack([head[0].T for head in heads])
    smoothing = torch.tensor([0.0, 0.1])
    _, targets, _ = heads[0]
    losses, gradients = loss_of(task)(outputs, targets.expand(2, -1), smoothing)
    measured = measure(task, outputs, targets)
    for head, (own, _, width) in enumerate(heads):
        leaf = own.clone().requires_grad_()
        loss = task.loss(leaf, targets, label_smoothing=float(smoothing[head]))
        (gradient,) = torch.autograd.grad(loss, leaf)
        torch.testing.assert_close(losses[head], loss.detach())
        torch.testing.assert_close(gradients[head].T, gradient)
        metrics = task.metric_collection(width)
        metrics.update(task.predictions(own), targets)
        values = {key: float(value) for key, value in metrics.compute().items()}
        values["loss"] = float(task.loss(own, targets))
        assert measured[head] == pytest.approx(values, abs=1e-5)
