"""`--device free`: real processes and real locks; only the list of devices is made up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from tunesvc.errors import StorageError
from tunesvc.train import free_device, held
from tunesvc.train.free_device import FREE, Accelerator

TWO = [Accelerator("cuda:0", "GPU-a"), Accelerator("cuda:1", "GPU-b")]

WORKER = """
import logging, sys, time
from pathlib import Path
from tunesvc.interrupt import Stopped, stoppable
from tunesvc.train.free_device import Accelerator, held

logging.basicConfig(format="%(message)s", stream=sys.stdout)
sys.stdout.reconfigure(line_buffering=True)
devices = [Accelerator(*each.split("=")) for each in sys.argv[2:]]
try:
    with stoppable(), held("free", Path(sys.argv[1]), lambda: devices) as device:
        print(device)
        sys.stdin.read()
except Stopped:
    print("stopped")
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that takes a free device, says which, and keeps it until its input ends."""
    started = []

    def process(devices: list[Accelerator] = TWO) -> subprocess.Popen[str]:
        told = [f"{each.name}={each.identity}" for each in devices]
        command = [sys.executable, "-c", WORKER, str(tmp_path / "devices"), *told]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield process
    for each in started:
        each.kill()
        each.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_no_two_workers_hold_one_device(start: Start) -> None:
    """Two that start together get different devices; a third says that it waits, and gets the one
    that a killed worker leaves."""
    workers = {said(process): process for process in (start(), start())}
    assert set(workers) == {"cuda:0", "cuda:1"}
    third = start()
    assert said(third) == (
        "every device (cuda:0, cuda:1) is held by another worker; waiting for one"
    )
    workers["cuda:1"].kill()  # SIGKILL: nothing of it can tidy up
    assert said(third) == "cuda:1"


def test_other_names_for_the_same_devices(start: Start) -> None:
    """Devices are told apart by their ids: another order of them hands out none twice."""
    assert said(start()) == "cuda:0"
    turned = [Accelerator("cuda:0", "GPU-b"), Accelerator("cuda:1", "GPU-a")]
    assert said(start(turned)) == "cuda:0"
    assert "waiting" in said(start(turned))


def test_a_signal_ends_the_waiting(start: Start) -> None:
    """A worker that waits for a device stops as one that trains does."""
    assert said(start(TWO[:1])) == "cuda:0"
    second = start(TWO[:1])
    assert "waiting" in said(second)
    second.terminate()
    assert said(second) == "stopped"


def test_a_worker_that_ends_frees_its_device(tmp_path: Path) -> None:
    """Also within one process."""
    for _ in range(2):
        with held(FREE, tmp_path, lambda: TWO) as device:
            assert device == "cuda:0"


def test_a_worker_that_waits_shows_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a device is told again and again, and can say that it is well."""
    monkeypatch.setattr(free_device, "LOOK_SECONDS", 0.01)
    first, waits = ExitStack(), []

    def shown() -> None:
        waits.append(1)
        if len(waits) == 3:
            first.close()

    first.enter_context(held(FREE, tmp_path, lambda: TWO[:1]))
    with held(FREE, tmp_path, lambda: TWO[:1], on_wait=shown) as device:
        assert device == "cuda:0"
    assert len(waits) == 3


def test_the_cpu_is_shared(tmp_path: Path) -> None:
    """Where there is no accelerator at all, any number of workers compute on the CPU."""
    with held(FREE, tmp_path, list) as one, held(FREE, tmp_path, list) as other:
        assert (one, other) == ("cpu", "cpu")


def test_a_named_device_is_not_held(tmp_path: Path) -> None:
    """Who names a device, or none, means it; nothing is even looked for."""
    for name in ("cuda:1", None):
        with held(name, tmp_path / "devices") as device:
            assert device == name
    assert not (tmp_path / "devices").exists()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """The error says which folder, and what it is for."""
    (tmp_path / "devices").touch()
    with (
        pytest.raises(StorageError, match="cannot be written to") as caught,
        held(FREE, tmp_path / "devices", lambda: TWO),
    ):
        pass
    assert "which device they hold" in caught.value.fix


def test_the_accelerators_of_this_machine() -> None:
    """Every accelerator has the name that torch knows it by, and an id of its own."""
    found = free_device.accelerators()
    assert len({each.identity for each in found}) == len(found) >= torch.cuda.device_count()
    for each in found:
        torch.empty(1, device=each.name)
