"""How `up` shares a machine among workers, and what it does when one dies."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesvc import dashboard, up
from tunesvc.errors import TuneError, UsageError

BURIED: list[str] = []


def test_two_workers_share_a_machine_without_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two on a CPU of two cores or more, one on a single core."""
    monkeypatch.setattr(up, "devices", list)
    monkeypatch.setattr(up, "cores", lambda: 8)
    assert up.placements(None, None) == ["cpu", "cpu"]
    monkeypatch.setattr(up, "cores", lambda: 1)
    assert up.placements(None, None) == ["cpu"]


def test_one_worker_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """More workers than GPUs go round."""
    monkeypatch.setattr(up, "devices", lambda: ["cuda:0", "cuda:1"])
    assert up.placements(None, None) == ["cuda:0", "cuda:1"]
    assert up.placements(3, None) == ["cuda:0", "cuda:1", "cuda:0"]
    assert up.placements(None, "cpu") == ["cpu", "cpu"] or up.cores() == 1


def test_no_workers_is_a_mistake() -> None:
    """`--workers 0` says so."""
    with pytest.raises(UsageError, match="at least one"):
        up.placements(0, "cpu")


def test_the_next_free_port_is_taken() -> None:
    """A port that somebody listens on is passed over."""
    with socket.socket() as taken:
        taken.bind((dashboard.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert dashboard.free_port(port) != port


def wait_for_end(fleet: up.Fleet) -> None:
    """Tend until the workers have ended."""
    deadline = time.monotonic() + 60
    while fleet.tend():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_worker_s_error_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code and last words reach whoever started it; nothing is left running."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    monkeypatch.setenv("TUNESVC_STORAGE", "postgresql://nobody@127.0.0.1:9/none")
    with (
        pytest.raises(TuneError) as raised,
        up.Fleet("none", None, ["cpu"], None, BURIED.append) as fleet,
    ):
        wait_for_end(fleet)
    assert raised.value.exit_code == 3
    assert "127.0.0.1" in str(raised.value)
    assert all(each.ended() is not None for each in fleet.processes)


def test_an_unknown_device_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what there is; `cuda` is the first GPU."""
    monkeypatch.setattr(up, "devices", list)
    with pytest.raises(UsageError, match="there is cpu"):
        up.placements(None, "cuda")
    monkeypatch.setattr(up, "devices", lambda: ["cuda:0"])
    assert up.placements(None, "cuda") == ["cuda:0"]


def test_a_port_that_cannot_be_had_is_a_mistake() -> None:
    """No such port, or a busy one."""
    for port in (0, 65536):
        with pytest.raises(UsageError, match="no such port"):
            dashboard.checked_port(port)
    with socket.socket() as taken:
        taken.bind((dashboard.HOST, 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot be had"):
            dashboard.checked_port(taken.getsockname()[1])


def test_last_words_are_of_this_run(tmp_path: Path) -> None:
    """What an earlier run left in the log is passed over; an error is shown from its beginning."""
    log = tmp_path / "w.log"
    log.write_text("error: an old one\n")
    process = up._Process("worker-0", ["nonsense"], {}, log)
    process.start()
    assert process.process is not None
    process.process.wait()
    assert "an old one" not in process.last_words()
    with log.open("a") as out:
        out.write("error: what\n  why: because\n")
    assert process.last_words() == "error: what\n  why: because"


def test_a_killed_worker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said why."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    notes: list[str] = []
    with up.Fleet("none", None, ["cpu"], None, BURIED.append) as fleet:
        first = fleet.processes[0].process
        assert first is not None
        first.kill()
        first.wait()
        assert fleet.tend(notes.append)
        assert fleet.processes[0].process is not first
    assert f":{first.pid}:" in BURIED[-1]
    assert notes == ["worker-0 died (signal 9); replaced"]


def test_a_fleet_that_cannot_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker is stopped when the second cannot be started."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    (tmp_path / "logs" / "none-worker-1.log").mkdir(parents=True)
    fleet = up.Fleet("none", None, ["cpu", "cpu"], None, BURIED.append)
    with pytest.raises(IsADirectoryError), fleet:
        pass
    assert fleet.processes[0].ended() is not None


def test_what_up_started_ends_with_it(tmp_path: Path) -> None:
    """It is asked to stop, as by SIGTERM, when the process that started it is gone."""
    told = tmp_path / "told"
    child = (
        "import pathlib, signal, sys, time\n"
        "from tunesvc import processes\n"
        "def stop(*_):\n"
        f"    pathlib.Path({str(told)!r}).touch()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "processes.end_with_parent()\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        "env = os.environ | {'TUNESVC_PARENT': str(os.getpid())}\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], env=env)\n"
        "time.sleep(3)\n"
    )
    subprocess.run([sys.executable, "-c", parent], check=True, timeout=30)
    deadline = time.monotonic() + 30
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
