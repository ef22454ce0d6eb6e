"""Folders whose files another library writes and reads, in the cache: measured, held, removed.

Who works with one holds a shared `flock` on a file beside it, `NAME.used`, while the process
lives; its time tells the last use. The file stays when the folder goes: so all lock the same one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

_held: dict[Path, int] = {}  # descriptors of the files beside, open to the process's end


def hold(tree: Path) -> None:
    """Keep a folder from being removed while this process lives, and note that it is used.

    Raises:
        OSError: the file beside it cannot be written.
    """
    tree.parent.mkdir(parents=True, exist_ok=True)
    if tree not in _held:
        beside = os.open(_beside(tree), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(beside, fcntl.LOCK_SH)
        _held[tree] = beside
    os.utime(_beside(tree))


def trees(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return the folders in a folder: their bytes, and when they were last used, ns."""
    found = folder.iterdir() if folder.is_dir() else ()
    return {each: (_bytes(each), _last_used(each)) for each in found if each.is_dir()}


def remove_if_unused(tree: Path) -> bool:
    """Remove a folder that nobody holds; tell whether it is gone."""
    with _beside(tree).open("ab") as beside:
        try:
            fcntl.flock(beside, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(tree, ignore_errors=True)
    return not tree.exists()


def _beside(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.used")


def _last_used(tree: Path) -> int:
    with suppress(FileNotFoundError):
        return _beside(tree).stat().st_mtime_ns
    return 0


def _bytes(tree: Path) -> int:
    found = 0
    for folder, _, names in os.walk(tree):
        for name in names:
            with suppress(FileNotFoundError):  # its library tidies up, too
                found += Path(folder, name).lstat().st_size
    return found
