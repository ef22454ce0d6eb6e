"""The register of this machine's processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesvc import processes
from tunesvc.errors import StorageError

HOLD = """
import time
from tunesvc.interrupt import Stopped, stoppable
from tunesvc.processes import registered
try:
    with stoppable(), registered("worker", ["birds"]):
        print("here", flush=True)
        time.sleep(60)
except Stopped as stop:
    print(stop, flush=True)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def worker() -> subprocess.Popen[str]:
    """A live registered process."""
    started = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "here\n"
    yield started  # type: ignore[misc]
    started.kill()
    started.communicate()


def test_a_live_process_is_listed(worker: subprocess.Popen[str]) -> None:
    """Its id, role and studies."""
    assert processes.running() == [processes.Process(worker.pid, "worker", ("birds",))]


def test_a_killed_process_is_forgotten(worker: subprocess.Popen[str], home: Path) -> None:
    """kill -9 leaves a file behind, which the next look removes."""
    worker.kill()
    worker.wait()
    assert processes.running() == []
    assert not list((home / "run").glob("*.json"))


def test_stop_reaches_only_the_study_named(worker: subprocess.Popen[str]) -> None:
    """Other studies' workers go on; the asked one ends cleanly."""
    assert processes.stop("cats") == []
    assert [p.pid for p in processes.stop("birds")] == [worker.pid]
    out, _ = worker.communicate(timeout=10)
    assert out == "SIGTERM\n"
    assert worker.returncode == 0


def test_files_that_say_nothing_are_passed_over(worker: subprocess.Popen[str], home: Path) -> None:
    """Half a file of a live process; files that name no process."""
    (home / "run" / "what.json").write_text("{}")
    assert [p.pid for p in processes.running()] == [worker.pid]
    (home / "run" / f"{worker.pid}.json").write_text('{"role": ')
    assert processes.stop() == []


def test_what_up_started_is_left_to_it(
    worker: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its leader is asked: a second signal would end a worker in its clean-up."""
    child = processes.Process(worker.pid, "worker", ("birds",), parent=worker.pid)
    leader = processes.running()[0]
    monkeypatch.setattr(processes, "running", lambda: [child, leader])
    assert processes.stop() == [leader]


def test_only_the_asked_are_waited_for(worker: subprocess.Popen[str]) -> None:
    """Another process may go on; an asked one that stays is named."""
    assert processes.left_after([], 10) == []
    asked = processes.running()
    assert processes.left_after(asked, 0.1) == asked


def test_a_home_that_cannot_be_written_to_is_a_storage_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do about it."""
    (home / "file").touch()
    monkeypatch.setenv("TUNESVC_HOME", str(home / "file"))
    with pytest.raises(StorageError, match="TUNESVC_HOME"), processes.registered("worker", []):
        pass


def test_the_second_signal_ends_at_once() -> None:
    """A process that hangs in its clean-up can still be ended."""
    code = (
        "import time\nfrom tunesvc.interrupt import stoppable\n"
        "with stoppable():\n"
        "    try:\n        print('here', flush=True)\n        time.sleep(60)\n"
        "    finally:\n        print('cleaning', flush=True)\n        time.sleep(60)\n"
    )
    hung = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert hung.stdout is not None
    hung.stdout.readline()
    hung.send_signal(signal.SIGINT)
    assert hung.stdout.readline() == "cleaning\n"
    begun = time.monotonic()
    os.kill(hung.pid, signal.SIGINT)
    assert hung.wait(timeout=10) == 130
    assert time.monotonic() - begun < 10
    hung.stdout.close()


def test_no_pulse_no_worker() -> None:
    """A machine on which none is registered has none that is well."""
    assert processes.unwell("worker").startswith("no worker runs here (none is registered in ")


def test_a_pulse_holds_for_as_long_as_it_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks may allow less; the next pulse counts, also if it allows less than the last."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with processes.registered("worker", []):
        pulses = home / "run" / f"{os.getpid()}.pulse"
        assert processes.unwell("worker") == ""  # it starts
        processes.pulse(900)
        now += 60
        assert processes.unwell("worker") == ""
        told = processes.unwell("worker", 59)
        assert told == f"worker {os.getpid()} has shown no life for 60 seconds; 59 are allowed"
        assert processes.unwell("dashboard").startswith("no dashboard runs here")
        processes.pulse(30)
        now += 31
        assert processes.unwell("worker").endswith("for 31 seconds; 30 are allowed")
        pulses.write_text("{")
        assert "shows no life, or" in processes.unwell("worker")
    assert not pulses.exists()
    processes.pulse(30)
    assert not pulses.exists()  # nobody could see it


def test_who_registers_again_shows_life_again(home: Path) -> None:
    """At once, also within a second, and for as many seconds as before."""
    for _ in range(2):
        with processes.registered("worker", []):
            assert processes.unwell("worker") == ""


def test_a_pulse_is_cheap(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written once a second, unless it says something new; trouble with that is no error."""
    now = 2000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with processes.registered("worker", []):
        pulses = home / "run" / f"{os.getpid()}.pulse"
        processes.pulse(60)
        pulses.unlink()
        now += 0.5
        processes.pulse(60)
        assert not pulses.exists()
        processes.pulse(30)
        assert pulses.exists()
        pulses.unlink()
        now += 1.5
        processes.pulse(30)
        assert pulses.exists()
        pulses.unlink()
        pulses.with_name(f"{pulses.name}.tmp").mkdir()
        now += 1.5
        processes.pulse(30)
        assert "cannot be written to" in processes.unwell("worker")
