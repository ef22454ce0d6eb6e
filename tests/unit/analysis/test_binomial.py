"""The error that the number of images makes."""

from __future__ import annotations

from math import sqrt

import pytest

from tunesvc.analysis.binomial import standard_error
from tunesvc.analysis.table import Unsupported


def test_the_error_of_an_accuracy() -> None:
    """0.9 on 100 images is sure to three points; 1.0 is not sure at all of a hundredth."""
    assert standard_error("accuracy", 0.9, 100) == pytest.approx(0.03)
    assert standard_error("accuracy", 1.0, 100) == pytest.approx(sqrt(0.995 * 0.005 / 100))
    assert standard_error("accuracy", 0.0, 100) == pytest.approx(sqrt(0.995 * 0.005 / 100))


def test_where_there_is_none() -> None:
    """Other metrics are no share of images; and somebody must have counted these."""
    assert standard_error("f1", 0.9, 100) == Unsupported("f1 is no share of images")
    for images in (None, 0):
        assert not standard_error("accuracy", 0.9, images)
