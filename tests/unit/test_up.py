"""How `up` shares a machine among workers, and what it does when one dies."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tunesvc import dashboard, up
from tunesvc.errors import TuneError, UsageError


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
        up.Fleet("none", None, ["cpu"], None) as fleet,
    ):
        wait_for_end(fleet)
    assert raised.value.exit_code == 3
    assert "127.0.0.1" in str(raised.value)
    assert all(each.ended() is not None for each in fleet.processes)
