"""LogME and H-score against what they are by definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from tunesvc.train import transferability as room
from tunesvc.train.transferability import transferability

SHAPES = pytest.mark.parametrize(("count", "width"), [(40, 60), (90, 20)], ids=["N < D", "N > D"])


def clouds(count: int, width: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (count, width) with a mean of their own, of three classes so far apart."""
    chance = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    features = torch.randn(count, width, generator=chance) + torch.linspace(0, 2, width)
    features[:, :3] += apart * torch.nn.functional.one_hot(targets, 3)
    return features, targets


def evidence(features: np.ndarray, target: np.ndarray) -> float:
    """The largest log p(y | F, α, β) / N: y is normal around 0 with covariance F Fᵀ/α + 1/β."""
    product, unit = features @ features.T, np.eye(len(target))

    def negative(logs: np.ndarray) -> float:
        covariance = product * math.exp(-logs[0]) + unit * math.exp(-logs[1])
        return -multivariate_normal.logpdf(target, cov=covariance)

    starts = [(0.0, 0.0), (4.0, 2.0), (8.0, 1.0)]
    return max(-minimize(negative, start, method="Nelder-Mead").fun for start in starts) / len(
        target
    )


@SHAPES
def test_logme_is_the_largest_evidence(count: int, width: int) -> None:
    """Averaged over the classes; the iteration ends where a search over α and β does."""
    features, targets = clouds(count, width, 1.5)
    wanted = [(targets == label).double().numpy() for label in range(3)]
    expected = np.mean([evidence(features.double().numpy(), each) for each in wanted])
    assert transferability(features, targets).logme == pytest.approx(expected, abs=1e-4)


def test_numbers_have_a_logme_of_standardized_targets_and_no_h_score() -> None:
    """The unit of what is predicted does not matter."""
    features, _ = clouds(90, 20, 0.0)
    noise = torch.randn(90, generator=torch.Generator().manual_seed(0))
    targets = features[:, 0] + 0.5 * features[:, 1] + noise
    standard = (targets - targets.mean()) / targets.std(correction=0)
    expected = evidence(features.double().numpy(), standard.double().numpy())
    found = transferability(features, 20000 + 500 * targets)
    assert found.logme == pytest.approx(expected, abs=1e-4)
    assert found.h_score is None


@SHAPES
def test_the_h_score_is_what_its_definition_says(count: int, width: int) -> None:
    """tr(Σ⁻¹ Σ_B) with the covariance that scikit-learn's Ledoit-Wolf gives."""
    features, targets = clouds(count, width, 1.5)
    rows, labels = features.double().numpy(), targets.numpy()
    covariance, shrinkage = ledoit_wolf(rows)
    means = np.stack([rows[labels == label].mean(axis=0) for label in labels])
    between = np.cov(means, rowvar=False, bias=True)
    expected = (1 - shrinkage) * np.trace(np.linalg.solve(covariance, between))
    assert transferability(features, targets).h_score == pytest.approx(expected, rel=1e-6)


@SHAPES
def test_the_farther_apart_the_classes_the_better(count: int, width: int) -> None:
    """Both scores rise from features that know nothing to those that tell all."""
    scores = [transferability(*clouds(count, width, apart)) for apart in (0.0, 1.0, 3.0, 20.0)]
    for name in ("logme", "h_score"):
        values = [getattr(score, name) for score in scores]
        assert values == sorted(values)
        assert values[-1] > values[0] + 0.1
    assert 0 <= scores[0].h_score <= scores[-1].h_score <= 2  # C - 1


@SHAPES
@pytest.mark.parametrize("scale", [1e-25, 1e30])
def test_the_scale_of_the_features_does_not_matter(count: int, width: int, scale: float) -> None:
    """Backbones differ in it by orders of magnitude."""
    features, targets = clouds(count, width, 1.5)
    found, same = (transferability(f, targets) for f in (features, features * scale))
    assert (same.logme, same.h_score) == pytest.approx((found.logme, found.h_score), rel=1e-5)


@SHAPES
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_no_numbers_have_no_score(count: int, width: int, value: float) -> None:
    """A backbone may overflow in half precision."""
    features, targets = clouds(count, width, 1.5)
    features[3, 2] = value
    found = transferability(features, targets)
    assert found.logme is found.h_score is None


@pytest.mark.parametrize("what", ["one class", "no features", "one image", "separable"])
def test_odd_features_give_a_number_or_none(what: str) -> None:
    """Never NaN, never an error: the study stores it as JSON."""
    features, targets = clouds(30, 50, 1.0)
    match what:
        case "one class":
            targets = torch.zeros_like(targets)
        case "no features":
            features = torch.zeros_like(features)
        case "one image":
            features, targets = features[:1], targets[:1]
        case "separable":
            features = torch.nn.functional.one_hot(targets, 3).float()
    found = transferability(features, targets)
    for score in (found.logme, found.h_score):
        assert score is None or math.isfinite(score)


def test_pieces_and_half_precision_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are read a few rows at a time, in whatever precision they were kept."""
    features, targets = clouds(90, 20, 1.5)
    whole = transferability(features, targets)
    monkeypatch.setattr(room, "_CHUNK_NUMBERS", 20 * 7)
    pieces = transferability(features, targets)
    assert (pieces.logme, pieces.h_score) == pytest.approx((whole.logme, whole.h_score))
    half = transferability(features.half(), targets)
    assert (half.logme, half.h_score) == pytest.approx((whole.logme, whole.h_score), rel=1e-2)


def test_what_tick_raises_ends_it() -> None:
    """A worker that is stopped does not finish the scores first."""

    def raising() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        transferability(*clouds(30, 5, 0.0), tick=raising)
