"""Tests of the tasks: losses, metrics, and that naming one loads no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from tunesvc import plugins
from tunesvc.tasks import Task

CLASSIFICATION: Task = plugins.load("task", "image-classification")
REGRESSION: Task = plugins.load("task", "image-regression")
GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("task", [CLASSIFICATION, REGRESSION], ids=lambda task: task.name)
def test_metrics_and_collection_agree(task: Task) -> None:
    """Every metric that a task names is computed, save the loss, which the loop adds."""
    assert set(task.metric_collection(3).keys()) | {"loss"} == set(task.metrics)
    assert task.default_metric in task.metrics
    assert isinstance(task.metrics, Mapping)
    assert plugins.load("task", task.name) is task


@pytest.mark.parametrize("name", ["image-classification", "image-regression"])
def test_naming_a_task_loads_no_torch(name: str) -> None:
    """A study file can be checked without the seconds that importing torch takes."""
    code = (
        "import sys; from tunesvc import plugins;"
        f"plugins.load('task', {name!r}).metrics; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_classification_metrics_match_scikit_learn() -> None:
    """Over several unbalanced batches the metrics are those of scikit-learn."""
    outputs = torch.randn(90, 4, generator=GENERATOR)
    targets = torch.multinomial(
        torch.tensor([0.6, 0.2, 0.1, 0.1]), 90, replacement=True, generator=GENERATOR
    )
    collection = CLASSIFICATION.metric_collection(4)
    for part in range(0, 90, 32):
        predictions = CLASSIFICATION.predictions(outputs[part : part + 32])
        collection.update(predictions, targets[part : part + 32])
    found = {name: float(value) for name, value in collection.compute().items()}
    true, predicted = targets.numpy(), outputs.argmax(1).numpy()
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, average="macro"
    )
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(true, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_regression_metrics_match_scikit_learn() -> None:
    """MSE, MAE and R² over several batches are those of scikit-learn."""
    outputs = torch.randn(50, 1, generator=GENERATOR)
    targets = torch.randn(50, generator=GENERATOR)
    collection = REGRESSION.metric_collection(1)
    for part in range(0, 50, 20):
        predictions = REGRESSION.predictions(outputs[part : part + 20])
        collection.update(predictions, targets[part : part + 20])
    found = {name: float(value) for name, value in collection.compute().items()}
    true, predicted = targets.numpy(), outputs.flatten().numpy()
    expected = {
        "mse": sklearn_metrics.mean_squared_error(true, predicted),
        "mae": sklearn_metrics.mean_absolute_error(true, predicted),
        "r2": sklearn_metrics.r2_score(true, predicted),
    }
    assert found == pytest.approx(expected, rel=1e-4)


def test_r2_of_numbers_far_from_zero() -> None:
    """What float32 leaves of 20000 ± 1 suffices; equal targets are met or missed."""
    noise = torch.randn(100, 2, generator=GENERATOR)
    targets, predictions = (20000 + noise[:, 0]), 20000 + noise[:, 0] + 0.3 * noise[:, 1]
    r2 = REGRESSION.metric_collection(1)["r2"]
    for part in range(0, 100, 30):
        r2.update(predictions[part : part + 30], targets[part : part + 30])
    expected = sklearn_metrics.r2_score(targets.double().numpy(), predictions.double().numpy())
    assert float(r2.compute()) == pytest.approx(expected, abs=1e-3)
    r2.reset()
    r2.update(torch.ones(1), torch.zeros(1))
    assert float(r2.compute()) == 0.0


def test_soft_targets_give_the_same_loss_as_hard_ones() -> None:
    """A soft target that was not mixed costs what the hard one costs, smoothed or not."""
    logits, targets = torch.randn(8, 3, generator=GENERATOR), torch.arange(8) % 3
    soft = CLASSIFICATION.soft_targets(targets, 3)
    assert soft.shape == (8, 3)
    for smoothing in (0.0, 0.1):
        hard_loss = CLASSIFICATION.loss(logits, targets, label_smoothing=smoothing)
        soft_loss = CLASSIFICATION.loss(logits, soft, label_smoothing=smoothing)
        torch.testing.assert_close(hard_loss, soft_loss)
    numbers = torch.tensor([0.5, 2.0])
    column = REGRESSION.soft_targets(numbers, 1)
    assert column.shape == (2, 1)
    outputs = torch.tensor([[1.0], [1.0]])
    for given in (numbers, column):  # ((0.5)² + (1)²) / 2
        assert REGRESSION.loss(outputs, given, label_smoothing=0.3).item() == pytest.approx(0.625)


def test_head_width() -> None:
    """One output per class, and one for a number."""
    assert CLASSIFICATION.num_outputs(["a", "b", "c"]) == 3
    assert REGRESSION.num_outputs([]) == 1
    assert CLASSIFICATION.target == "class"
    assert REGRESSION.target == "number"
    assert np.dtype("int64") == CLASSIFICATION.predictions(torch.zeros(2, 3)).numpy().dtype
