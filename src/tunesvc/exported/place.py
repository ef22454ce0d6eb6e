"""A folder that appears in one step, whole, or not at all.

    DIR                       the folder, as it was before or as it is now
    .DIR.part-0123456789ab    being written; swapped with DIR, it holds what was replaced

Why: 2026-11: everything is written and synced beside the place where it is to lie, then renamed.
What is there already is exchanged with it in one step where the system can do that (Linux); else
it is put aside (….part-…-old) for the moment between two renames. A process that is killed leaves
a draft, which the next one deletes when it is a day old; what was put aside goes back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesvc.errors import StorageError, UsageError

_STALE_SECONDS = 24 * 3600
_ASIDE = "-old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's fcntl.h and fs.h


def check(directory: Path, *, is_ours: Callable[[Path], bool], force: bool) -> None:
    """See that a folder may be written there; one that a killed process put aside goes back first.

    Args:
        is_ours: whether a folder is one that `force` may replace.

    Raises:
        UsageError: something else is there.
    """
    _restore(directory.resolve())
    if not os.path.lexists(directory) or _is_empty(directory):
        return
    if not is_ours(directory):
        raise UsageError(
            f"{directory}: there is something else",
            "an exported folder is a folder of its own, and nothing but one is ever replaced",
            "name another folder",
        )
    if not force:
        raise UsageError(
            f"{directory}: there is an exported model already",
            "",
            "name another folder, or replace it: --force",
        )


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


@contextmanager
def replaced(directory: Path, *, force: bool) -> Iterator[Path]:
    """Lend an empty folder that takes the place of another, if any, when the block ends.

    What the block raises passes, and nothing has changed then.

    Args:
        force: replace what is there; else an empty folder only.

    Raises:
        UsageError: something is there.
        StorageError: the disk is full, or the folder cannot be written to.
    """
    target = directory.resolve()
    draft = target.with_name(f".{target.name}.part-{secrets.token_hex(6)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _tidy(target)
        draft.mkdir()
        yield draft
        sync(draft)
        _move(draft, target, force=force)
        _sync_names(target.parent)
    except OSError as error:
        raise StorageError(
            f"{directory}: cannot be written",
            error.strerror or str(error),
            "free space on that disk, or choose another folder",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sync(folder: Path) -> None:
    """Have everything below a folder on the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            with (Path(place) / name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_names(Path(place))


def _sync_names(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # it cannot sync folders
            raise
    finally:
        os.close(number)


def _move(draft: Path, target: Path, *, force: bool) -> None:
    """Rename; what was there, if it may be replaced, is left under the draft's name, or deleted."""
    if force and os.path.lexists(target):
        if not _exchange(draft, target):
            _put_in_place(draft, target)
        return
    try:
        draft.rename(target)
    except OSError as error:
        if not os.path.lexists(target):
            raise
        raise UsageError(
            f"{target}: something has appeared there meanwhile",
            error.strerror or str(error),
            "name another folder",
        ) from error


def _put_in_place(draft: Path, target: Path) -> None:
    """Rename both; whatever ends it between, what was there goes back."""
    aside = draft.with_name(f"{draft.name}{_ASIDE}")
    try:
        target.rename(aside)
        draft.rename(target)
    finally:
        if not os.path.lexists(target):
            aside.rename(target)
        elif not os.path.lexists(draft):
            shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Have two names change places in one step; False where the system cannot.

    Source: renameat2(2), RENAME_EXCHANGE.
    """
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # musl may lack it
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    done: int = rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    return done == 0


def _tidy(target: Path) -> None:
    """Delete drafts that killed processes left long ago; never what they had put aside."""
    latest = time.time() - _STALE_SECONDS
    for draft in _left(target):
        with suppress(OSError):
            if not draft.name.endswith(_ASIDE) and draft.stat().st_mtime < latest:
                shutil.rmtree(draft, ignore_errors=True)


def _restore(target: Path) -> None:
    """Put back what a killed process had put aside, where its place is free."""
    for aside in _left(target):
        with suppress(OSError):
            if aside.name.endswith(_ASIDE) and not os.path.lexists(target):
                aside.rename(target)


def _left(target: Path) -> list[Path]:
    return sorted(target.parent.glob(f".{_escaped(target.name)}.part-*"))


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "[]*?" else letter for letter in name)
