"""Checkpoints appear whole or not at all, and run no code."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesvc import checkpoint
from tunesvc.errors import StorageError

STATE = {"next_epoch": 3, "model": {"w": torch.arange(6.0).view(2, 3)}, "rates": [0.1, 0.2]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Tensors and plain values come back; missing folders are made and no draft is left."""
    path = tmp_path / "deep" / "last.pt"
    checkpoint.save(STATE, path)
    loaded = checkpoint.load(path)
    assert loaded is not None
    assert torch.equal(loaded["model"]["w"], STATE["model"]["w"])  # type: ignore[index]
    assert (loaded["next_epoch"], loaded["rates"]) == (3, [0.1, 0.2])
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_no_file_is_none(tmp_path: Path) -> None:
    """A trial without a checkpoint starts from its beginning."""
    assert checkpoint.load(tmp_path / "last.pt") is None


@pytest.mark.parametrize("kept", [0, 1, 100, -20])
def test_a_torn_file_is_left_aside(tmp_path: Path, kept: int, caplog: Any) -> None:
    """Half a file counts as none, with a warning that names it."""
    path = tmp_path / "last.pt"
    checkpoint.save(STATE, path)
    path.write_bytes(path.read_bytes()[:kept])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(path) is None
    assert "last.pt" in caplog.text


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a pickled call in it is left aside; the call does not happen."""
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _Evil()}, tmp_path / "last.pt")
    assert checkpoint.load(tmp_path / "last.pt") is None
    assert not (tmp_path / "was-run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    """Writing onto a full device is a StorageError with a cure, and the old state survives."""
    path = tmp_path / "last.pt"
    checkpoint.save(STATE, path)
    (tmp_path / f".last.pt.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        checkpoint.save({"next_epoch": 4}, path)
    assert os.strerror(errno.ENOSPC) in caught.value.why
    assert "free space" in caught.value.fix
    survivor = checkpoint.load(path)
    assert survivor is not None
    assert survivor["next_epoch"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Where a file stands in the folder's place, the error is the user's, not a traceback."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(STATE, tmp_path / "taken" / "last.pt")
