"""The host's cache: made once, whole or absent, sound, bounded; by processes that may be killed."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tunesvc import hostcache
from tunesvc.errors import UsageError
from tunesvc.hostcache import CacheFullError, Draft, Kept, entry, trees

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)
OVERHEAD = 2**16 + 1000  # room that a new entry asks for beyond its data, and a bit
SLICE_SECONDS = 0.005


@pytest.fixture
def forked() -> Iterator[Callable[[Callable[[], None]], int]]:
    """Run functions in processes of their own, by pid; what is left of them is killed."""
    pids: list[int] = []

    def fork(act: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                act()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
        return pid

    yield fork
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def ended(pid: int) -> int:
    """Wait for a process; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fill(draft: Draft, rows: np.ndarray[Any, Any] = ROWS) -> dict[str, Any]:
    draft.begin(rows.dtype, rows.shape)
    for row in rows:
        draft.append(row[None])
    return {"made": "well"}


def unasked(_: Draft) -> dict[str, Any]:
    """Make nothing: the entry must be there."""
    pytest.fail("made again")


def kept(folder: Path, size: int, name: str) -> Kept:
    """An entry of so many bytes and a few."""
    return hostcache.fetch(folder, name, lambda draft: fill(draft, np.zeros((1, size), np.uint8)))


def names(folder: Path) -> set[str]:
    """Everything in the folder but locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_made_once_and_mapped(tmp_path: Path) -> None:
    """The second call finds what the first made; NumPy can read the file, too."""
    for make in fill, unasked:
        found = hostcache.fetch(tmp_path / "new", "x", make)
        assert np.array_equal(found.array, ROWS)
        assert found.notes == {"made": "well"}
    assert names(tmp_path / "new") == {"x.npy"}
    assert np.array_equal(np.load(tmp_path / "new" / "x.npy"), ROWS)


def test_fewer_rows_than_begun(tmp_path: Path) -> None:
    """The entry has as many as were appended; none is possible, too."""
    for rows in 7, 0:

        def make(draft: Draft, rows: int = rows) -> dict[str, Any]:
            draft.begin(ROWS.dtype, ROWS.shape)
            draft.append(ROWS[:rows])
            return {}

        for again in make, unasked:
            assert np.array_equal(hostcache.fetch(tmp_path, str(rows), again).array, ROWS[:rows])


def test_writing_to_an_entry_changes_no_file(tmp_path: Path) -> None:
    """The memory is the caller's own as soon as it is written to."""
    hostcache.fetch(tmp_path, "x", fill).array[:] = 7
    assert np.array_equal(hostcache.fetch(tmp_path, "x", unasked).array, ROWS)


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Before a file says something that is not in it."""

    def make(draft: Draft) -> dict[str, Any]:
        draft.begin(np.float32, (20, 4))
        draft.append(ROWS)
        return {}

    with pytest.raises(ValueError, match=r"float32 \(20, 3\) appended to float32 \(20, 4\)"):
        hostcache.fetch(tmp_path, "x", make)
    assert names(tmp_path) == set()


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Its error passes, and the next one makes the entry."""

    def make(draft: Draft) -> dict[str, Any]:
        fill(draft)
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        hostcache.fetch(tmp_path, "x", make)
    assert names(tmp_path) == set()
    assert np.array_equal(hostcache.fetch(tmp_path, "x", fill).array, ROWS)


def damaged(whole: bytes) -> Iterator[bytes]:
    """Empty, cut off anywhere, one bit of any part turned over, and another file altogether."""
    yield b""
    for end in 5, 100, 200, len(whole) - 30, len(whole) - 1:
        yield whole[:end]
    for place in 30, 140, *(len(whole) - back for back in (25, 15, 7, 1)):
        yield whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    yield b"these are not the bytes you are looking for"


def test_damage_is_seen_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happened to the file; the log says it."""
    hostcache.fetch(tmp_path, "x", fill)
    file = tmp_path / "x.npy"
    whole = file.read_bytes()
    for number, bad in enumerate(damaged(whole), start=1):
        file.write_bytes(bad)
        assert np.array_equal(hostcache.fetch(tmp_path, "x", fill).array, ROWS)
        assert file.read_bytes() == whole
        assert caplog.text.count("is made anew") == 2 * number  # before and in the lock


def test_a_process_verifies_an_entry_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at all what it made itself; a large one ticks meanwhile."""
    hostcache.fetch(tmp_path, "x", fill)
    monkeypatch.setattr(entry, "_CHUNK_BYTES", 100)
    ticks: list[None] = []

    def tick() -> None:
        ticks.append(None)

    hostcache.fetch(tmp_path, "x", unasked, tick=tick)
    assert not ticks
    monkeypatch.setattr(entry, "_sound", set())  # as in a new process
    for _ in range(2):
        hostcache.fetch(tmp_path, "x", unasked, tick=tick)
        assert len(ticks) == 2 + 1  # 240 bytes of data, 128 of header


def test_two_processes_make_once(
    tmp_path: Path, forked: Callable[[Callable[[], None]], int]
) -> None:
    """Whoever comes first makes it, and the others wait for it and get the same."""

    def act() -> None:
        while not (tmp_path / "go").exists():
            time.sleep(0.001)
        assert np.array_equal(hostcache.fetch(tmp_path, "x", slowly(tmp_path)).array, ROWS)

    workers = [forked(act) for _ in range(3)]
    (tmp_path / "go").touch()
    assert [ended(worker) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "makers").read_text() == "m"


def slowly(folder: Path) -> Callable[[Draft], dict[str, Any]]:
    """A maker that takes a tenth of a second, and notes that it was called."""

    def make(draft: Draft) -> dict[str, Any]:
        with (folder / "makers").open("a") as makers:
            makers.write("m")
        draft.begin(ROWS.dtype, ROWS.shape)
        for row in ROWS:
            draft.append(row[None])
            time.sleep(SLICE_SECONDS)
        return {}

    return make


def test_a_killed_maker_is_succeeded(
    tmp_path: Path, forked: Callable[[Callable[[], None]], int]
) -> None:
    """At random moments of its making, another process waiting: that one gets a whole entry."""
    chance = random.Random(0)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()

        def act(folder: Path = folder) -> None:
            found = hostcache.fetch(folder, "x", slowly(folder))
            assert np.array_equal(found.array, ROWS)

        first = forked(act)
        while not (folder / "makers").exists():
            time.sleep(0.001)
        second = forked(act)
        time.sleep(chance.uniform(0, 1.2) * SLICE_SECONDS * len(ROWS))
        os.kill(first, signal.SIGKILL)
        was_killed = ended(first) != 0
        assert ended(second) == 0
        assert np.array_equal(hostcache.fetch(folder, "x", unasked).array, ROWS)
        assert names(folder) == {"x.npy", "makers"}
        assert len((folder / "makers").read_text()) <= 1 + was_killed


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
def test_killed_at_every_single_line(
    is_warm: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forked: Callable[[Callable[[], None]], int],
) -> None:
    """Wherever in the code death strikes, what is there afterwards is whole, or is made anew."""
    monkeypatch.setattr(entry, "_sound", set())
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk itself lives on
    for fatal in count(1):
        if is_warm:
            hostcache.fetch(tmp_path, "x", fill)
            entry._sound.clear()
        victim = forked(lambda fatal=fatal: _die_at(fatal, tmp_path))
        code = ended(victim)
        make = unasked if is_warm or (tmp_path / "x.npy").exists() else fill
        assert np.array_equal(hostcache.fetch(tmp_path, "x", make).array, ROWS)
        assert names(tmp_path) == {"x.npy"}
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if not is_warm:
            (tmp_path / "x.npy").unlink()
    assert fatal > (20 if is_warm else 80)


def _die_at(fatal: int, folder: Path) -> None:
    """Fetch an entry, and be killed at the given line, counted from the first of the room."""
    lines = count(1)

    def trace(frame: Any, event: str, _: Any) -> Any:
        if Path(frame.f_code.co_filename).parent != Path(hostcache.__file__).parent:
            return None
        if event == "line" and next(lines) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    hostcache.fetch(folder, "x", fill)
    sys.settrace(None)


def test_who_waits_ticks_and_may_leave(tmp_path: Path) -> None:
    """About every second; what the tick raises passes."""
    ticks: list[None] = []

    def tick() -> None:
        ticks.append(None)
        if len(ticks) == 2:
            raise KeyboardInterrupt

    with FileLock(tmp_path / "x.lock"), pytest.raises(KeyboardInterrupt):
        hostcache.fetch(tmp_path, "x", fill, tick=tick)
    assert len(ticks) == 2
    assert names(tmp_path) == set()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that holds two entries of 1 MB and one more entry's overhead."""
    monkeypatch.setenv("TUNESVC_CACHE_GB", str((2_000_000 + 2 * OVERHEAD) / 1e9))


@pytest.mark.usefixtures("small")
def test_what_was_not_used_for_longest_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Use counts, not age; nothing else in the folder is touched."""
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "big.npy").write_bytes(bytes(3_000_000))
    kept(tmp_path, 1_000_000, "first")
    kept(tmp_path, 1_000_000, "second")
    kept(tmp_path, 1_000_000, "first")
    gc.collect()
    with caplog.at_level(logging.INFO, "tunesvc.hostcache"):
        kept(tmp_path, 1_000_000, "third")
    assert names(tmp_path) == {"downloads", "first.npy", "third.npy"}
    assert "second.npy was not used for longest" in caplog.text


@pytest.mark.usefixtures("small")
def test_what_is_in_use_stays(tmp_path: Path, forked: Callable[[Callable[[], None]], int]) -> None:
    """By any process, until it is gone, however it went; others are told that there is no room."""

    def use() -> None:
        array = kept(tmp_path, 1_000_000, "first").array[:, 5:]  # a view is enough
        (tmp_path / "in_use").touch()
        time.sleep(60)
        del array

    user = forked(use)
    while not (tmp_path / "in_use").exists():
        time.sleep(0.01)
    second = kept(tmp_path, 1_000_000, "second")
    with pytest.raises(CacheFullError, match=r"needed.*0\.002 GB are in use"):
        kept(tmp_path, 1_000_000, "third")
    assert names(tmp_path) == {"in_use", "first.npy", "second.npy"}
    os.kill(user, signal.SIGKILL)
    ended(user)
    kept(tmp_path, 1_000_000, "third")
    assert names(tmp_path) == {"in_use", "second.npy", "third.npy"}
    assert not second.array.any()


def released(tree: Path) -> None:
    """Let go of a folder, as the end of the process would."""
    os.close(trees._held.pop(tree))


@pytest.mark.usefixtures("small")
def test_all_parts_of_a_cache_share_its_limit(tmp_path: Path) -> None:
    """Decoded images, outputs of frozen stages, and what torch compiled: the least used goes first,
    wherever it lies."""
    step = tmp_path / "compiled" / "step"
    hostcache.hold(step)
    (step / "deep").mkdir(parents=True)
    (step / "deep" / "code.so").write_bytes(bytes(1_000_000))
    released(step)
    kept(tmp_path / "features", 1_000_000, "outputs")
    gc.collect()
    kept(tmp_path, 1_000_000, "images")
    gc.collect()
    assert not step.exists()
    assert names(tmp_path / "features") == {"outputs.npy"}
    kept(tmp_path / "features", 1_000_000, "others")
    gc.collect()
    assert names(tmp_path / "features") == {"others.npy"}
    kept(tmp_path / "features", 1_000_000, "more")
    assert names(tmp_path / "features") == {"others.npy", "more.npy"}
    assert not (tmp_path / "images.npy").exists()


@pytest.mark.usefixtures("small")
def test_what_a_process_has_compiled_stays_while_it_lives(
    tmp_path: Path, forked: Callable[[Callable[[], None]], int]
) -> None:
    """It may read more of it at any time; when it is gone, and none else has it, so may be that."""
    step = tmp_path / "compiled" / "step"

    def use() -> None:
        hostcache.hold(step)
        step.mkdir()
        (step / "code.so").write_bytes(bytes(3_000_000))
        (tmp_path / "in_use").touch()
        time.sleep(60)

    user = forked(use)
    while not (tmp_path / "in_use").exists():
        time.sleep(0.01)
    hostcache.trim(step.parent)
    assert (step / "code.so").exists()
    os.kill(user, signal.SIGKILL)
    ended(user)
    hostcache.trim(step.parent)
    assert not step.exists()


@pytest.mark.usefixtures("small")
def test_too_large_evicts_nothing(tmp_path: Path) -> None:
    """What can never fit is refused, and costs nobody anything."""
    kept(tmp_path, 1_000_000, "first")
    with pytest.raises(CacheFullError, match="that TUNESVC_CACHE_GB allows"):
        kept(tmp_path, 3_000_000, "large")
    assert names(tmp_path) == {"first.npy"}


@pytest.mark.usefixtures("small")
def test_what_is_being_made_has_its_room(tmp_path: Path) -> None:
    """Two that are made at the same time cannot both get the last of it."""

    def make(draft: Draft) -> dict[str, Any]:
        draft.begin(np.uint8, (1, 1_500_000))
        with pytest.raises(CacheFullError):
            kept(tmp_path, 1_500_000, "inner")
        draft.append(np.zeros((1, 1_500_000), np.uint8))
        return {}

    hostcache.fetch(tmp_path, "outer", make)
    assert names(tmp_path) == {"outer.npy"}


def test_dead_drafts_are_swept(tmp_path: Path, forked: Callable[[Callable[[], None]], int]) -> None:
    """By whoever next needs room, for whichever entry; a living one stays."""

    def die(name: str) -> Callable[[], None]:
        def make(draft: Draft) -> dict[str, Any]:
            fill(draft)
            if name == "dead":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
            return {}

        return lambda: void(hostcache.fetch(tmp_path, name, make))

    assert ended(forked(die("dead"))) == -signal.SIGKILL
    forked(die("alive"))
    while not (tmp_path / ".alive.part").exists():
        time.sleep(0.01)
    assert names(tmp_path) >= {".alive.part"}
    hostcache.fetch(tmp_path, "x", fill)
    assert names(tmp_path) == {".alive.part", "x.npy"}


def void(_: object) -> None:
    """Do nothing with it."""


@pytest.mark.parametrize("given", ["lots", "-1", "nan", "inf"])
def test_a_senseless_limit_is_told(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it should be."""
    monkeypatch.setenv("TUNESVC_CACHE_GB", given)
    with pytest.raises(UsageError, match=r"TUNESVC_CACHE_GB is .*(?s:.*)number of gigabytes"):
        hostcache.limit_bytes()


def test_the_limit_is_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty if nothing else is said."""
    for given, expected in ("", 20 * 10**9), ("0.5", 5 * 10**8), ("0", 0):
        monkeypatch.setenv("TUNESVC_CACHE_GB", given)
        assert hostcache.limit_bytes() == expected
