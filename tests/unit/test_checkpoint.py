"""Checkpoints appear whole or not at all, fall back to the one before, and run no code."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesvc import checkpoint
from tunesvc.checkpoint import Mark
from tunesvc.errors import StorageError
from tunesvc.shelf import Folder

STATE = {"next_epoch": 3, "model": {"w": torch.arange(6.0).view(2, 3)}, "rates": [0.1, 0.2]}
TRIAL = "s-uid/trial-00001"


@pytest.fixture
def shelf(tmp_path: Path) -> Folder:
    """A shelf in a folder that is not there yet."""
    return Folder(tmp_path / "artifacts")


def save(shelf: Folder, token: int, epoch: int, batch: int = 0) -> None:
    """Save a state that tells its own mark."""
    mark = Mark(token, epoch, batch)
    checkpoint.save({"mark": [token, epoch, batch]}, shelf, TRIAL, mark)


def loaded(shelf: Folder) -> Any:
    """Return the mark that the state loaded tells."""
    state = checkpoint.load(shelf, TRIAL)
    return state and tuple(state["mark"])


def paths(shelf: Folder) -> list[Path]:
    """Return the trial's files, oldest first."""
    return [shelf.root / name for name in shelf.names(TRIAL)]


def test_what_is_saved_is_loaded(shelf: Folder) -> None:
    """Tensors and plain values come back; missing folders are made and no draft is left."""
    checkpoint.save(STATE, shelf, TRIAL, Mark(5, 3, 17))
    state = checkpoint.load(shelf, TRIAL)
    assert state is not None
    assert torch.equal(state["model"]["w"], STATE["model"]["w"])  # type: ignore[index]
    assert (state["next_epoch"], state["rates"]) == (3, [0.1, 0.2])
    files = [path.name for path in (shelf.root / TRIAL).iterdir()]
    assert files == ["0000000005-00003-0000017.ckpt"]


def test_no_file_is_none(shelf: Folder) -> None:
    """A trial without a checkpoint starts from its beginning."""
    assert checkpoint.load(shelf, TRIAL) is None


def test_the_newest_and_the_one_before_are_kept(shelf: Folder) -> None:
    """Of many checkpoints two stay, whatever the order of their epochs' digits."""
    for epoch, batch in [(1, 0), (2, 0), (9, 0), (9, 40), (10, 0)]:
        save(shelf, 1, epoch, batch)
        assert loaded(shelf) == (1, epoch, batch)
    assert [path.stem for path in paths(shelf)] == [
        "0000000001-00009-0000040",
        "0000000001-00010-0000000",
    ]


def test_marks_are_numbers(shelf: Folder) -> None:
    """A number too long for its field is still the greater one."""
    save(shelf, 9_999_999_999, 99_999)
    save(shelf, 9_999_999_999, 100_000)
    save(shelf, 10_000_000_000, 0)
    assert loaded(shelf) == (10_000_000_000, 0, 0)
    assert len(paths(shelf)) == 2


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _flip_the_checksum(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[9] ^= 1
    path.write_bytes(data)


def _other_version(path: Path) -> None:
    path.write_bytes(b"tunesvc\x03" + path.read_bytes()[8:])


DAMAGE = [_cut, _cut_in_the_header, _empty, _flip, _flip_the_checksum, _other_version]


@pytest.mark.parametrize("harm", [*DAMAGE, Path.unlink])
def test_a_damaged_one_falls_back_to_the_one_before(
    shelf: Folder, harm: Callable[[Path], Any], caplog: Any
) -> None:
    """Cut off, bits flipped, deleted: the one before is loaded, and a warning names the file."""
    save(shelf, 1, 1)
    save(shelf, 1, 2)
    harm(paths(shelf)[-1])
    with caplog.at_level(logging.WARNING):
        assert loaded(shelf) == (1, 1, 0)
    assert harm is Path.unlink or "0000000001-00002-0000000.ckpt" in caplog.text
    save(shelf, 2, 2)
    assert loaded(shelf) == (2, 2, 0)


@pytest.mark.parametrize("harm", DAMAGE)
def test_both_damaged_is_none(shelf: Folder, harm: Callable[[Path], Any]) -> None:
    """Where no checkpoint is whole the trial starts from its beginning."""
    save(shelf, 1, 1)
    save(shelf, 1, 2)
    for path in paths(shelf):
        harm(path)
    assert checkpoint.load(shelf, TRIAL) is None


def with_checksum(data: bytes) -> bytes:
    """A file of the present format."""
    return b"tunesvc\x02" + struct.pack("<I", zlib.crc32(data)) + data


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


def test_code_in_a_file_is_not_run(
    shelf: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a pickled call in it, checksum and all, is left aside; nothing is called."""
    monkeypatch.chdir(tmp_path)
    save(shelf, 1, 1)
    file = io.BytesIO()
    torch.save({"model": _Evil()}, file)
    data = file.getvalue()
    once = b"tunesvc\x01" + hashlib.sha256(data).digest() + data  # as it was written
    for epoch, whole in ((2, once), (3, with_checksum(data))):
        shelf.write(f"{TRIAL}/{Mark(1, epoch, 0)}", whole)
    assert loaded(shelf) == (1, 1, 0)
    assert not (tmp_path / "was-run").exists()


ODD: dict[str, Any] = {
    "layout": torch.rand(4, 3, 2, 5).to(memory_format=torch.channels_last),
    "turned": torch.arange(6).view(2, 3).T,
    "gaps": torch.arange(10)[::3],
    "half": torch.tensor([1.5, float("inf")], dtype=torch.bfloat16),
    "empty": torch.empty(0, 4),
    "scalar": torch.tensor(7),
    "flags": torch.tensor([True, False]),
}


def test_tensors_keep_their_layout_and_dtype(shelf: Folder) -> None:
    """Convolutions' moments must lie as their weights do: fused optimizers go by memory."""
    checkpoint.save(ODD, shelf, TRIAL, Mark(1, 1, 0))
    state = checkpoint.load(shelf, TRIAL)
    assert state is not None
    for name, tensor in ODD.items():
        assert torch.equal(state[name], tensor), name
        assert state[name].dtype == tensor.dtype
    assert state["layout"].stride() == ODD["layout"].stride()
    assert state["turned"].stride() == ODD["turned"].stride()


def test_plain_values_come_back_as_they_were(shelf: Folder) -> None:
    """Keys that are numbers, tuples, and what looks like the format's own words."""
    given: dict[str, Any] = {
        "state": {0: {"step": 1}, 12: {"step": 2}},
        "betas": (0.9, 0.999),
        "deep": [None, True, 2**70, 0.1, float("-inf"), "ü", [(), {}]],
        "tensor": 5,
        "words": [{"tensor": 5}, {"pairs": [1]}, {"tuple": 1}, {"flat": [0, 1]}],
    }
    checkpoint.save(given, shelf, TRIAL, Mark(1, 1, 0))
    assert checkpoint.load(shelf, TRIAL) == given


def test_what_is_flattened_is_a_copy(shelf: Folder) -> None:
    """Training goes on while it is written; beside it lie other tensors, and plain values."""
    live = {"w": torch.ones(3), "n": torch.tensor([1, 2]), "groups": [{"params": [0, 1]}]}
    flat = checkpoint.flattened(live)
    live["w"].zero_()  # type: ignore[attr-defined]
    live["groups"][0]["params"].clear()  # type: ignore[index]
    state = {"before": torch.full((2,), 5.0), "run": flat, "after": torch.tensor([9])}
    checkpoint.save(state, shelf, TRIAL, Mark(1, 1, 0))
    kept = checkpoint.load(shelf, TRIAL)
    assert kept is not None
    assert kept["before"].tolist() == [5, 5]
    assert kept["after"].tolist() == [9]
    run = kept["run"]
    assert run["w"].tolist() == [1, 1, 1]
    assert run["n"].tolist() == [1, 2]
    assert run["groups"] == [{"params": [0, 1]}]


@pytest.mark.parametrize(
    "head",
    [
        [{"w": {"tensor": 0}}, [], []],
        [{"w": {"tensor": 0}}, [[0, [3], []]], [["float32", 2]]],
        [{"w": {"tensor": 0}}, [[0, [2], []]], [["load", 2]]],
        {},
    ],
)
def test_an_outline_that_does_not_fit_is_left_aside(shelf: Folder, head: Any) -> None:
    """Its checksum says that it is as it was written: by somebody else."""
    save(shelf, 1, 1)
    text = json.dumps(head).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(8)
    shelf.write(f"{TRIAL}/{Mark(1, 2, 0)}", with_checksum(data))
    assert loaded(shelf) == (1, 1, 0)
    assert len(paths(shelf)) == 2


def test_a_zombie_never_wins(shelf: Folder) -> None:
    """Who has lost the lease writes below the successor's checkpoints, and deletes none of them."""
    save(shelf, 5, 3)
    save(shelf, 6, 4)
    save(shelf, 5, 8)
    assert loaded(shelf) == (6, 4, 0)
    save(shelf, 6, 5)
    save(shelf, 5, 9)
    assert loaded(shelf) == (6, 5, 0)
    paths(shelf)[-1].unlink()
    assert loaded(shelf) == (6, 4, 0)


def test_trials_do_not_see_each_other(shelf: Folder) -> None:
    """A trial whose folder's name begins with another's keeps its checkpoints to itself."""
    longer = TRIAL + "0"
    for epoch in (1, 2):
        checkpoint.save({"of": "longer"}, shelf, longer, Mark(9, epoch, 0))
    assert checkpoint.load(shelf, TRIAL) is None
    for epoch in (1, 2, 3):
        save(shelf, 10, epoch)
    assert len(shelf.names(f"{longer}/")) == 2
    assert len(shelf.names(f"{TRIAL}/")) == 2


class _Lossy(Folder):
    """A disk that loses a bit of what it is given."""

    def write(self, name: str, data: bytes | memoryview) -> None:
        super().write(name, data)
        _flip(self.root / name)


class _Swallowing(Folder):
    """A disk that keeps nothing."""

    def write(self, name: str, data: bytes | memoryview) -> None:
        pass


@pytest.mark.parametrize("broken", [_Lossy, _Swallowing])
def test_what_cannot_be_read_back_is_an_error(shelf: Folder, broken: type[Folder]) -> None:
    """A disk that takes a checkpoint and keeps another loses the new one, and no older one."""
    for epoch in (1, 2):
        save(shelf, 1, epoch)
    with pytest.raises(StorageError, match="not what was written"):
        save(broken(shelf.root), 1, 3)
    assert [path.stem[11:16] for path in paths(shelf)] == ["00001", "00002"]
    assert loaded(shelf) == (1, 2, 0)


class _Vanishing(Folder):
    """A shelf where another worker saves twice between a listing and the first read."""

    def read(self, name: str) -> bytes:
        if "00002-" in name:
            others = Folder(self.root)
            save(others, 1, 3)
            save(others, 1, 4)
        return super().read(name)


def test_what_vanishes_while_it_is_loaded_is_looked_for_again(shelf: Folder) -> None:
    """A trial whose old owner is still saving and tidying is not taken for an empty one."""
    save(shelf, 1, 1)
    save(shelf, 1, 2)
    assert loaded(_Vanishing(shelf.root)) == (1, 4, 0)


# Thirty times: a child saves one epoch after another, is killed at a random moment after its first,
# and what it left is loaded. The child notes each epoch after it was saved.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from tunesvc import checkpoint
from tunesvc.checkpoint import Mark
from tunesvc.shelf import Folder

shelf, notes = Folder(Path(sys.argv[1])), Path(sys.argv[1]) / "notes"
notes.write_bytes(b"%010d" % 0)
epoch = 0

def work(token, epoch):
    file = os.open(notes, os.O_WRONLY)
    while True:
        epoch += 1
        state = {"epoch": epoch, "w": torch.full((200_000,), float(epoch))}
        checkpoint.save(state, shelf, "s/t", Mark(token, epoch, 0))
        os.pwrite(file, b"%010d" % epoch, 0)

random.seed(3)
for token in range(1, 31):
    child = os.fork()
    if child == 0:
        work(token, epoch)
    while int(notes.read_bytes()) <= epoch:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    noted = int(notes.read_bytes())
    state = checkpoint.load(shelf, "s/t")
    epoch = state["epoch"]
    assert noted <= epoch <= noted + 1, (noted, epoch)
    assert bool((state["w"] == epoch).all())
print(epoch)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """After each of 30 kill -9 the last epoch saved is loaded, or the one that was being saved."""
    command = [sys.executable, "-c", KILLS, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 30
    assert "not a whole checkpoint" not in done.stderr  # none was ever torn: they are renamed whole
