"""Classification's metrics from counts: torchmetrics' numbers, without its import."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tunesvc.tasks.image_classification import TASK
from tunesvc.train.counts import Counts

CPU = torch.device("cpu")


@pytest.mark.parametrize(("there", "said"), [(6, 6), (3, 6), (6, 2), (1, 1)])
def test_they_are_torchmetrics(there: int, said: int) -> None:
    """Over batches of any size; also where classes are absent, never predicted, or neither."""
    chance = torch.Generator().manual_seed(there)
    targets = torch.randint(there, (61,), generator=chance)
    predicted = torch.randint(said, (61,), generator=chance)
    counts, collection = Counts(6, CPU), TASK.metric_collection(6)
    for first, end in ((0, 32), (32, 60), (60, 61)):
        counts.update(predicted[first:end], targets[first:end])
        collection.update(predicted[first:end], targets[first:end])
    expected = {name: value.item() for name, value in collection.compute().items()}
    found = counts.compute()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert list(found) == [name for name in TASK.metrics if name != "loss"]
    counts.reset()
    counts.update(targets, targets)
    assert set(counts.compute().values()) == {1.0}


def test_a_worker_starts_without_what_only_other_tasks_want() -> None:
    """torchmetrics takes longer to import than all of ours; so does what draws, or optimizes."""
    heavy = ("torchmetrics", "scipy", "matplotlib", "plotly", "pandas")
    code = f"import sys, tunesvc.worker.serving; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
