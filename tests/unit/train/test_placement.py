"""Where a run computes, and how."""

from __future__ import annotations

import pytest
import torch

from tunesvc.errors import UsageError
from tunesvc.train import place, placement


def test_bfloat16_on_a_cpu_is_asked_for() -> None:
    """By itself a CPU computes in float32; what is told is what is computed in."""
    assert place("cpu").describe()["precision"] == "float32"
    asked = place("cpu", precision="bfloat16")
    assert asked.describe()["precision"] == "bfloat16"
    with asked.precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("has_it", "wanted", "is_used"),
    [
        (True, "auto", True),
        (False, "auto", False),
        (True, "float32", False),
        (True, "bfloat16", True),
    ],
)
def test_a_cuda_device_takes_bfloat16_unless_told(
    monkeypatch: pytest.MonkeyPatch, has_it: bool, wanted: placement.Precision, is_used: bool
) -> None:
    """Where it computes in that by itself, not by emulation."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_it)
    assert placement._is_bfloat16(torch.device("cuda:0"), wanted) is is_used


@pytest.mark.parametrize("device", ["mps", "cuda:0"])
def test_a_device_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """When it is asked for."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(UsageError, match=f"{device} does not compute in bfloat16"):
        placement._is_bfloat16(torch.device(device), "bfloat16")
