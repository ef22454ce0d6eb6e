"""The linear probe: its optima are scikit-learn's, and it chooses among them by validation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn

from tunesvc import plugins
from tunesvc.tasks import Task
from tunesvc.train import probe as room
from tunesvc.train.probe import L2, Probe, probe

CLASSES: Task = plugins.load("task", "image-classification")
NUMBERS: Task = plugins.load("task", "image-regression")


def clouds(count: int, width: int, seed: int, noise: float = 2.0) -> tuple[Tensor, Tensor]:
    """Features (count, width) of three clouds, on very different scales, one of them constant."""
    chance = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    features = torch.randn(count, width, generator=chance)
    features[:, :3] += 3 / noise * nn.functional.one_hot(targets, 3)
    features = features * torch.logspace(-2, 2, width) + torch.linspace(-5, 5, width)
    features[:, -1] = 7.3
    return features, targets


def weighed(width: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features, and a noisy number in them, about 20000."""
    features, _ = clouds(count, width, seed)
    chance = torch.Generator().manual_seed(seed)
    standard = (features[:, :4] - features[:, :4].mean(dim=0)) / features[:, :4].std(dim=0)
    return features, 20000 + standard.sum(dim=1) + torch.randn(count, generator=chance)


def standard(features: Tensor, of: Tensor) -> np.ndarray:
    deviation = of.double().std(dim=0, correction=0)
    deviation[deviation < 1e-4] = 1
    return ((features.double() - of.double().mean(dim=0)) / deviation).numpy()


def outputs(found: Probe, features: Tensor) -> np.ndarray:
    return (features.double() @ found.weight.double().T + found.bias.double()).numpy()


@pytest.mark.parametrize(("count", "width"), [(60, 90), (300, 40)], ids=["N < D", "N > D"])
def test_the_optimum_is_scikit_learns(count: int, width: int) -> None:
    """LogisticRegression with C = 1/l2 on standardized features has the same probabilities."""
    train, val = clouds(count, width, 0), clouds(200, width, 1)
    found = probe(*train, *val, CLASSES, 3)
    peer = LogisticRegression(C=1 / found.l2, tol=1e-10, max_iter=10_000)
    peer.fit(standard(train[0], train[0]), train[1].numpy())
    expected = peer.predict_proba(standard(val[0], train[0]))
    told = torch.from_numpy(outputs(found, val[0])).softmax(dim=1).numpy()
    np.testing.assert_allclose(told, expected, atol=1e-4)
    accuracy = float((told.argmax(axis=1) == val[1].numpy()).mean())
    assert found.metrics["accuracy"] == pytest.approx(accuracy)
    assert found.metrics.keys() == CLASSES.metrics.keys()


@pytest.mark.parametrize(("count", "width"), [(60, 90), (300, 40)], ids=["N < D", "N > D"])
def test_numbers_have_the_optimum_of_ridge(count: int, width: int) -> None:
    """Ridge with alpha = l2/2, for targets far from zero."""
    train, val = weighed(width, count, 0), weighed(width, 200, 1)
    found = probe(*train, *val, NUMBERS, 1)
    peer = Ridge(alpha=found.l2 / 2).fit(standard(train[0], train[0]), train[1].double().numpy())
    expected = peer.predict(standard(val[0], train[0]))
    np.testing.assert_allclose(outputs(found, val[0]).ravel(), expected, atol=0.02)
    assert found.metrics["r2"] > 0.2
    assert found.metrics.keys() == NUMBERS.metrics.keys()


def test_a_task_of_which_only_the_protocol_is_known_has_the_same_optimum() -> None:
    """It is differentiated instead of written out."""

    @dataclasses.dataclass(frozen=True)
    class Like:
        task: Task

        def __getattr__(self, name: str) -> object:
            return getattr(self.task, name)

    train, val = clouds(60, 20, 0), clouds(60, 20, 1)
    found, same = (probe(*train, *val, task, 3) for task in (CLASSES, Like(CLASSES)))
    assert same.l2 == found.l2
    assert same.metrics == pytest.approx(found.metrics, rel=1e-4)
    torch.testing.assert_close(same.weight, found.weight, rtol=1e-3, atol=1e-3)


def test_the_best_of_the_path_is_taken_and_ties_go_to_the_stronger() -> None:
    """By the task's default metric or the one that is asked for, each in its direction."""
    train, val = clouds(90, 60, 0), clouds(60, 60, 1)
    for metric, best in (("accuracy", max), ("loss", min)):
        found = probe(*train, *val, CLASSES, 3, metric=metric)
        score = best(point.score for point in found.path)
        assert found.l2 == max(point.l2 for point in found.path if point.score == score)
        assert found.metrics[metric] == pytest.approx(score, abs=0.02)
    assert (
        probe(*train, *val, CLASSES, 3).l2 == probe(*train, *val, CLASSES, 3, metric="accuracy").l2
    )


def test_the_path_goes_from_strong_to_weak_and_ends_once_it_has_turned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """45 values from 1e5 to 1e-6; the whole of it would have chosen the same."""
    assert len(L2) == 45
    assert (L2[0], L2[-1]) == (pytest.approx(1e5), pytest.approx(1e-6))
    train, val = clouds(90, 60, 0), clouds(200, 60, 1)
    found = probe(*train, *val, CLASSES, 3)
    assert 9 <= len(found.path) < 45
    assert [point.l2 for point in found.path] == list(L2[: len(found.path)])
    objectives = [point.objective for point in found.path]
    assert objectives == sorted(objectives, reverse=True)
    monkeypatch.setattr(room, "_PATIENCE", 99)
    whole = probe(*train, *val, CLASSES, 3)
    assert len(whole.path) == 45
    assert whole.l2 == found.l2
    assert torch.equal(whole.weight, found.weight)


def test_single_precision_and_pieces_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done for large splits, on a small one."""
    train, val = clouds(300, 40, 0), clouds(100, 40, 1)
    found = probe(*train, *val, CLASSES, 3, metric="loss")
    monkeypatch.setattr(room, "_EXACT_NUMBERS", 0)
    monkeypatch.setattr(room, "_CHUNK_NUMBERS", 40 * 7)
    large = probe(*train, *val, CLASSES, 3, metric="loss")
    assert large.l2 == found.l2
    np.testing.assert_allclose(outputs(large, val[0]), outputs(found, val[0]), atol=0.02)


def test_what_tick_raises_ends_it() -> None:
    """It is called before every evaluation."""

    def raising() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        probe(*clouds(30, 5, 0), *clouds(30, 5, 1), CLASSES, 3, tick=raising)
