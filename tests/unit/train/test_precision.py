"""Which precision a net is trained in on a CPU that has bfloat16."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tunesvc.backbones.anatomy import Backbone, InputTransform, Stage
from tunesvc.spec import BackboneSpec
from tunesvc.train import Placement, Run, place, placement, precision
from tunesvc.train.precision import LEAST_IMAGES, Net

CPU = Placement(torch.device("cpu"), autocast=False, channels_last=True, threads=1)
OPEN = replace(CPU, is_open=True)
Clock = Callable[[float, float], list[bool]]


def plain() -> Backbone:
    """Return what only a clock that is set can try."""
    none = Stage("", (), ())
    return Backbone(nn.Linear(3, 3), (), none, frozenset(), InputTransform(8, 8, (), (), ""), "")


def net(name: str = "tiny_resnet", build: Callable[[], Backbone] = plain) -> Net:
    return Net(BackboneSpec(name=name), 8, build)


def chosen(where: Placement, home: Path, of: Net | None = None, images: int = LEAST_IMAGES) -> bool:
    found = precision.settled(where, of or net(), images, home)
    assert not found.is_open
    return found.autocast


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set what a step takes in float32 and in bfloat16; get a list of those that are tried."""

    def put(whole: float, half: float) -> list[bool]:
        tried: list[bool] = []

        def step(_module: nn.Module, _images: Tensor, where: Placement) -> float:
            tried.append(where.autocast)
            return half if where.autocast else whole

        monkeypatch.setattr(precision, "_step", step)
        return tried

    return put


@pytest.mark.parametrize(
    ("whole", "half", "is_half"), [(10.0, 8.0, True), (10.0, 8.1, False), (10.0, 12.0, False)]
)
def test_bfloat16_is_taken_where_it_brings_a_quarter(
    clock: Clock, tmp_path: Path, whole: float, half: float, is_half: bool
) -> None:
    """And what is slower is not tried for long."""
    tried = clock(whole, half)
    assert chosen(OPEN, tmp_path) is is_half
    assert tried == [False, True] * (2 if half > whole else 6)


@pytest.mark.parametrize(("half", "is_half"), [(5.0, True), (20.0, False)])
def test_what_was_measured_once_stays(
    clock: Clock, tmp_path: Path, half: float, is_half: bool
) -> None:
    """Whatever the clock says later; other nets, sizes and numbers of threads are others."""
    clock(10.0, half)
    assert chosen(OPEN, tmp_path) is is_half
    tried = clock(10.0, 15.0 - half)
    assert chosen(OPEN, tmp_path) is is_half
    assert not tried
    other = (net("tiny_mobilenet"), OPEN), (replace(net(), crop=16), OPEN)
    for of, where in (*other, (net(), replace(OPEN, threads=2))):
        assert chosen(where, tmp_path, of) is not is_half


def test_a_spoiled_answer_is_measured_anew(clock: Clock, tmp_path: Path) -> None:
    """A file that was cut off, or says something else."""
    clock(10.0, 5.0)
    assert chosen(OPEN, tmp_path)
    (file,) = (tmp_path / "precision").glob("*.json")
    assert json.loads(file.read_text())["bfloat16_ms"] == 5.0
    for spoiled in ("", "[]", '{"is_quicker": 1}'):
        file.write_text(spoiled)
        tried = clock(10.0, 20.0)
        assert not chosen(OPEN, tmp_path)
        assert tried


def test_nothing_is_measured_where_it_would_not_pay(clock: Clock, tmp_path: Path) -> None:
    """Or where somebody has said what to compute in."""
    tried = clock(10.0, 1.0)
    assert not chosen(OPEN, tmp_path, images=LEAST_IMAGES - 1)
    assert not chosen(CPU, tmp_path)
    assert chosen(CPU.settled(autocast=True), tmp_path)
    assert not tried


def test_a_host_that_keeps_nothing_measures(clock: Clock, tmp_path: Path) -> None:
    """A full disk, a folder that is a file."""
    (tmp_path / "precision").touch()
    clock(10.0, 5.0)
    assert chosen(OPEN, tmp_path)


def test_a_net_that_cannot_be_tried_stays_in_float32(tmp_path: Path) -> None:
    """A plugin's can end in any error; its trial will tell."""
    assert not chosen(OPEN, tmp_path)
    assert not list((tmp_path / "precision").glob("*.json"))


def test_measuring_changes_nothing_of_what_follows(
    toy_run: Callable[..., Run], tmp_path: Path
) -> None:
    """A real net on the real clock: torch draws what it would have drawn."""
    body = toy_run(dropout=0.5).backbone
    torch.manual_seed(3)
    chosen(OPEN, tmp_path, net(build=lambda: body))
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))
    (file,) = (tmp_path / "precision").glob("*.json")
    told = json.loads(file.read_text())
    assert 0 < told["float32_ms"] < 1000
    assert 0 < told["bfloat16_ms"] < 1000


@pytest.mark.parametrize("has_it", [True, False])
def test_it_is_open_on_cpus_that_have_bfloat16(
    monkeypatch: pytest.MonkeyPatch, has_it: bool
) -> None:
    """Unless somebody says which."""
    monkeypatch.setattr(placement, "_has_bfloat16", lambda: has_it)
    assert place("cpu").is_open is has_it
    assert not place("cpu").autocast
    assert not place("cpu", precision="float32").is_open
    assert not place("cpu", precision="bfloat16").is_open


@pytest.mark.parametrize(
    ("flags", "has_it"),
    [({"avx512_bf16": True}, True), ({"bf16": True, "sve": True}, True), ({"avx2": True}, False)],
)
def test_what_a_cpu_says_of_itself(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], has_it: bool
) -> None:
    """By torch; versions that do not ask it leave it in float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert placement._has_bfloat16() is has_it
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not placement._has_bfloat16()
