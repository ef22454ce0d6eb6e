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
    ("capability", "wanted", "taken"),
    [
        ((9, 0), "auto", "bfloat16"),
        ((7, 5), "auto", "float16"),  # a T4
        ((7, 0), "auto", "float16"),  # a V100
        ((6, 1), "auto", None),
        ((9, 0), "float32", None),
        ((9, 0), "bfloat16", "bfloat16"),
        ((9, 0), "float16", "float16"),
        ((6, 1), "float16", "float16"),
    ],
)
def test_what_a_cuda_device_computes_in(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    wanted: placement.Precision,
    taken: str | None,
) -> None:
    """bfloat16 where it is no emulation, else float16 where there are tensor cores."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capability >= (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert placement._half(torch.device("cuda:0"), wanted) == taken


@pytest.mark.parametrize("device", ["mps", "cuda:0"])
def test_a_device_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """When it is asked for."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(UsageError, match=f"{device} does not compute in bfloat16"):
        placement._half(torch.device(device), "bfloat16")


@pytest.mark.parametrize("device", ["mps", "cpu"])
def test_a_device_that_only_imitates_float16_says_so(device: str) -> None:
    """When it is asked for."""
    with pytest.raises(UsageError, match=f"{device} does not train in float16"):
        placement._half(torch.device(device), "float16")
