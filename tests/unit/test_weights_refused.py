"""Weights that do not fit, cannot be read, or would run code."""

from __future__ import annotations

import hashlib
import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from tunesvc.backbones import build, check_weights
from tunesvc.errors import WeightsError
from tunesvc.spec import BackboneSpec

SMALL = "shufflenet_v2_x0_5"
State = dict[str, Tensor]


def spec(weights: str | Path, name: str = SMALL, **kwargs: Any) -> BackboneSpec:
    return BackboneSpec(name=name, weights=str(weights), kwargs=kwargs)


@pytest.fixture(scope="module")
def trained() -> State:
    """Stand in for pretrained weights: a 1000-class model whose every number is known."""
    torch.manual_seed(7)
    state: State = get_model(SMALL).state_dict()
    return {key: value + 0.5 if value.ndim == 1 else value for key, value in state.items()}


def test_weights_of_another_width_are_refused(trained: State, tmp_path: Path) -> None:
    """The message names file, parameter, both shapes, and what to do."""
    torch.save(trained, tmp_path / "a.pth")
    with pytest.raises(WeightsError) as caught:
        build(spec("a.pth", "shufflenet_v2_x1_0"), 3, base=tmp_path)
    assert "a.pth" in caught.value.what
    assert "branch1.2.weight is (24, 24, 1, 1), and (58, 24, 1, 1) is expected" in caught.value.why
    assert "more" in caught.value.why
    assert "kwargs" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s.pop("conv5.0.weight"), "conv5.0.weight .* is missing"),
        (lambda s: s.update({"stage9.weight": torch.ones(1)}), "stage9.weight is not in the model"),
    ],
)
def test_a_missing_or_unknown_parameter_is_named(
    change: Callable[[State], object], why: str, trained: State, tmp_path: Path
) -> None:
    """Half a body is no pretrained body."""
    state = dict(trained)
    change(state)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=why):
        build(spec("a.pth"), 3, base=tmp_path)


class Trap:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o, 2))])
def test_code_in_a_weights_file_is_never_run(
    write: Callable[[object, Path], object], tmp_path: Path
) -> None:
    """The trap would go off: `pickle` proves it. The error names the code and the way out."""
    write({"conv1.0.weight": Trap(tmp_path / "sprung")}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"holds code \(.*mkdir\)") as caught:
        build(spec("a.pth"), 3, base=tmp_path)
    assert "safetensors" in caught.value.fix
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


def half(path: Path) -> None:
    torch.save({"w": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "cut off": half,
    "noise": lambda p: p.write_bytes(b"hello" * 100),
    "a web page": lambda p: p.write_text("<!DOCTYPE html><html>404</html>"),
    "a Git LFS pointer": lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "a whole model": lambda p: torch.save(nn.Linear(1, 1), p),
    "a training run": lambda p: torch.save({"model": {}, "args": Namespace(a=1)}, p),
    "a list": lambda p: torch.save([torch.zeros(1)], p),
    "nothing": lambda p: torch.save({}, p),
    "numbers": lambda p: torch.save({"conv1.0.weight": 3}, p),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_weights_file_is_told(kind: str, suffix: str, tmp_path: Path) -> None:
    """A WeightsError that names the file and a way out, whatever the loader stumbled over."""
    path = tmp_path / f"a{suffix}"
    DAMAGED[kind](path)
    with pytest.raises(WeightsError) as caught:
        build(spec(path), 3, base=tmp_path)
    assert str(path) in caught.value.what
    assert caught.value.why
    assert caught.value.fix


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """By `check_weights` and by `build`, with the folder where it was looked for."""
    with pytest.raises(WeightsError, match=r"gone\.pth: no such weights file") as caught:
        check_weights(spec("gone.pth"), base=tmp_path)
    assert str(tmp_path) in caught.value.what
    with pytest.raises(WeightsError, match="no such weights file"):
        build(spec("gone.pth"), 3, base=tmp_path)


def test_a_hash_in_the_name_is_checked(trained: State, tmp_path: Path) -> None:
    """As torchvision names its files; a date in the name is not taken for one."""
    torch.save(trained, tmp_path / "x.pth")
    digest = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()[:8]
    for name in (f"net-{digest}.pth", "net-20261105.pth", "net-deadbeef.pth"):
        (tmp_path / name).write_bytes((tmp_path / "x.pth").read_bytes())
    build(spec(f"net-{digest}.pth"), 3, base=tmp_path)
    build(spec("net-20261105.pth"), 3, base=tmp_path)
    with pytest.raises(WeightsError, match="not the file that its name says"):
        build(spec("net-deadbeef.pth"), 3, base=tmp_path)
