"""Cost: what has to be run to be known, on models whose time is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tunesvc import cost, train
from tunesvc.backbones import Backbone, InputTransform, Stage, build
from tunesvc.cost import Timing, energy, kept
from tunesvc.spec import BackboneSpec

CPU = train.place("cpu")
SECONDS = 0.1
TIMING = Timing(3.0, 4.0, 5)


class Sleeper(nn.Module):
    """A model that takes a tenth of a second, whatever it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(SECONDS)
        return images.flatten(1)


def test_the_latency_of_a_sleeping_model_is_its_sleep() -> None:
    """Within 5 %; where this machine was too busy to wake it in time, once more."""
    for _ in range(5):
        found = cost.inference(Sleeper(), 8, CPU, seconds=0.8)
        if found.median_ms == pytest.approx(SECONDS * 1e3, rel=0.05):
            break
    assert found.median_ms == pytest.approx(SECONDS * 1e3, rel=0.05)
    assert found.p95_ms >= found.median_ms
    assert 3 <= found.runs <= 9


def test_what_goes_before_does_not_count() -> None:
    """The first run is slow, as a first run is; median and percentile do not know it."""
    sleeps = iter([0.3, *[0.02] * 200])
    found = cost.timed(lambda: time.sleep(next(sleeps)), seconds=0.1)
    assert found.p95_ms < 300


def test_a_slow_model_is_run_four_times() -> None:
    """Once to warm up, three times to be timed, however few seconds there are."""
    runs: list[int] = []
    assert cost.timed(lambda: runs.append(1), seconds=0.0).runs == 3
    assert len(runs) == 4


def test_a_quick_model_is_run_a_hundred_times() -> None:
    """More would tell no more."""
    assert cost.timed(lambda: None, seconds=60.0).runs == 100


def test_measuring_inference_changes_nothing() -> None:
    """Statistics, modes, gradients and the random state are as before."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    module.train()
    module[1].eval()
    kept_state = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.random.get_rng_state()
    cost.inference(module, 8, CPU, seconds=0.01)
    assert torch.equal(random, torch.random.get_rng_state())
    assert [part.training for part in module] == [True, False, True, True]
    assert all(torch.equal(kept_state[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("outputs", [1, 10])
def test_a_training_step_trains(outputs: int) -> None:
    """What has a gradient changes, with one output as with ten; the rest does not."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, outputs))
    module[1].requires_grad_(False)
    before = [parameter.clone() for parameter in module.parameters()]
    cost.training_step(module, 8, CPU, batch_size=4, seconds=0.01)
    changed = [not torch.equal(b, p) for b, p in zip(before, module.parameters(), strict=True)]
    assert changed == [False, False, True, True]


def test_everything_about_one_backbone() -> None:
    """Each number is there and fits the others; it is plain data."""
    spec = BackboneSpec(name="tiny_resnet", weights="none")
    backbone = build(spec, 10, base=Path(), image_size=16)
    found = cost.measure(backbone, CPU, num_outputs=10, batch_size=8, epoch_images=20)
    told = json.loads(json.dumps(found.as_dict()))
    assert [name for name, value in told.items() if value is None] == ["energy_j"]
    assert told["params_m"] == pytest.approx(cost.parameters(backbone.module) / 1e6)
    assert told["images_per_second"] == pytest.approx(8e3 / told["batch_latency_ms"], rel=1e-4)
    assert told["epoch_seconds"] == pytest.approx(3 * told["train_step_ms"] / 1e3, rel=1e-4)
    assert told["latency_ms"] <= told["latency_p95_ms"]
    assert told["size_int8_mb"] < told["size_mb"]
    assert told["size_bf16_mb"] == pytest.approx(told["size_mb"] / 2, rel=0.05)
    assert (told["train_memory_kind"], told["threads"]) == ("estimated", CPU.threads)


def test_what_is_not_run_takes_no_memory() -> None:
    """A model that is too large for this machine still has a size."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10**7, device="meta"))
    transform = InputTransform(64, 64, (0.0,) * 3, (1.0,) * 3, "bilinear")
    backbone = Backbone(body, (), Stage("head", (), ()), frozenset(), transform, "")
    assert cost.gflops(backbone) == pytest.approx(2 * 12288 * 1e7 / 1e9)
    assert cost.inference_memory_mb(backbone) > 12288 * 1e7 * 4 / 2**20


# ---- kept on the host


def test_a_timing_is_measured_once_per_host(tmp_path: Path) -> None:
    """Of one kind; another kind, or a spoiled file, is measured."""
    made: list[str] = []

    def measure(name: str) -> Timing:
        made.append(name)
        return TIMING

    for _ in range(2):
        assert kept.fetch(tmp_path / "new", {"threads": 1}, lambda: measure("one")) == TIMING
    kept.fetch(tmp_path / "new", {"threads": 2}, lambda: measure("two"))
    assert made == ["one", "two"]
    (file,) = (tmp_path / "new").glob(f"{kept.name({'threads': 1})}.json")
    assert json.loads(file.read_text()) == {"kind": {"threads": 1}, "timing": asdict(TIMING)}
    file.write_text(file.read_text()[:40])
    assert kept.fetch(tmp_path / "new", {"threads": 1}, lambda: measure("three")) == TIMING
    assert made == ["one", "two", "three"]


def test_one_measures_at_a_time(tmp_path: Path) -> None:
    """Who comes while another measures waits, and takes what that one found; not if it is known."""
    kept.fetch(tmp_path, {"known": 1}, lambda: TIMING)
    begun, made = threading.Event(), list[int]()

    def measure() -> Timing:
        begun.set()
        time.sleep(1.0)
        made.append(1)
        return TIMING

    first = threading.Thread(target=kept.fetch, args=(tmp_path, {"a": 1}, measure))
    first.start()
    assert begun.wait(10)
    assert kept.fetch(tmp_path, {"known": 1}, lambda: TIMING) == TIMING
    assert not made
    assert kept.fetch(tmp_path, {"a": 1}, measure) == TIMING
    first.join()
    assert made == [1]


def test_a_folder_that_cannot_be_written_to_is_done_without(tmp_path: Path) -> None:
    """It is measured all the same."""
    (tmp_path / "file").write_text("")
    assert kept.fetch(tmp_path / "file" / "latency", {"a": 1}, lambda: TIMING) == TIMING


def test_a_disturbed_timing_is_measured_again(tmp_path: Path) -> None:
    """By the next process, until a quiet one is found; the lower one is kept meanwhile."""
    found = [
        kept.fetch(tmp_path, {"a": 1}, lambda timing=timing: timing)
        for timing in (
            Timing(9.0, 9.0, 3, waited=0.5),
            Timing(10.0, 10.0, 3, waited=0.5),
            Timing(4.0, 4.0, 3, waited=0.01),
            Timing(1.0, 1.0, 3, waited=0.0),
        )
    ]
    assert [timing.median_ms for timing in found] == [9.0, 9.0, 4.0, 4.0]


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="Linux tells it alone")
def test_who_has_to_share_a_core_is_disturbed() -> None:
    """Another process on the same core takes half of it; a sleeper needs none."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
            time.sleep(0.3)
            busy = cost.timed(lambda: sum(range(10**5)), seconds=1.0)
            sleeping = cost.timed(lambda: time.sleep(0.3), seconds=1.0)
            other.kill()
    finally:
        os.sched_setaffinity(0, cores)
    assert busy.waited > 0.2 > sleeping.waited
    assert not busy.is_quiet


# ---- energy


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A card of 250 joules for each run, as NVML would tell it."""
    card = SimpleNamespace(millijoules=10**9)

    def consumption(handle: str) -> int:
        assert handle == "GPU-abc"
        return int(card.millijoules)

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=consumption,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties: Any = SimpleNamespace(uuid="abc")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    return card


def test_the_cpu_counts_no_energy(card: SimpleNamespace) -> None:
    """Nothing is made up, although NVML would count a card's."""
    assert energy.meter(torch.device("cpu")) is None


def test_the_energy_of_a_run_is_the_counter_s_rise(card: SimpleNamespace) -> None:
    """In joules, by the runs that were made; the first one warms up."""
    read = energy.meter(torch.device("cuda:0"))
    assert read is not None

    def run() -> None:
        card.millijoules += 250_000

    assert energy.joules(run, read, lambda: None, seconds=0.05) == pytest.approx(250.0)


def test_a_card_without_a_counter_has_no_energy(
    card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a machine without NVML's package."""
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetTotalEnergyConsumption", None)
    assert energy.meter(torch.device("cuda:0")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.meter(torch.device("cuda:0")) is None
