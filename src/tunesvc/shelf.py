"""A shelf: named bytes that many processes and hosts share, in a folder or in a bucket.

Names are relative, with "/" between their parts. The training side writes checkpoints to a shelf
and the study's side tidies it, so both know this page; `storage.open_artifacts` opens one.

Why: 2026-11: a file is written under a draft's name, synced, renamed, and its folder synced. A
reader finds the old bytes or the new ones, never half of them, also after a power cut.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from tunesvc.errors import StorageError

DRAFT = ".draft"
_TRIES = 100


class Shelf(Protocol):
    """Named bytes, whole or absent.

    Every method raises StorageError where the shelf cannot be reached or refuses.
    """

    @property
    def location(self) -> str:
        """What people call it: a folder, or s3://bucket/prefix."""

    def names(self, prefix: str) -> list[str]:
        """Return all names that begin with the prefix, sorted."""

    def read(self, name: str) -> bytes:
        """Return what was written; FileNotFoundError where nothing has this name."""

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put bytes under a name, in one step and for good; what was there before is replaced."""

    def remove(self, name: str) -> None:
        """Take a name away; one that is absent is no error. Folders left empty vanish."""

    def size(self, name: str) -> int:
        """Return the number of bytes; FileNotFoundError where nothing has this name."""

    def drafts(self, seconds: float) -> dict[str, int]:
        """Return what unfinished writes left longer ago than this: a handle, and its bytes.

        The handle begins with the name that was being written, or with the folder of that name.
        """

    def discard(self, draft: str) -> None:
        """Delete a draft; one that is absent is no error."""


def clear(shelf: Shelf, prefix: str) -> None:
    """Remove every name that begins with the prefix, the first ones last.

    So `owner.json`, which sorts before the trials, says whose the rest is until the rest is gone.
    """
    for name in reversed(shelf.names(prefix)):
        shelf.remove(name)


@dataclass(frozen=True)
class Folder:
    """A shelf in a folder of this machine, or of a share; made when it is first written to."""

    root: Path

    @property
    def location(self) -> str:
        """The folder's path."""
        return str(self.root)

    def names(self, prefix: str) -> list[str]:
        """Return all names that begin with the prefix, sorted; drafts have no name yet."""
        return sorted(name for name in self._files(prefix) if not name.endswith(DRAFT))

    def read(self, name: str) -> bytes:
        """Return what was written; FileNotFoundError where nothing has this name."""
        with _told(self.root / name, "read"):
            return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put bytes under a name, in one step and for good; what was there before is replaced."""
        with whole(self.root / name) as file:
            file.write(data)

    def remove(self, name: str) -> None:
        """Take a name away; one that is absent is no error. Folders left empty vanish."""
        path = self.root / name
        try:
            with _told(path, "deleted"):
                path.unlink()
        except FileNotFoundError:  # whoever deleted it looks after the folders
            return
        with suppress(OSError):  # not empty, or gone already: so are those above it
            for folder in path.relative_to(self.root).parents[:-1]:
                (self.root / folder).rmdir()

    def size(self, name: str) -> int:
        """Return the number of bytes; FileNotFoundError where nothing has this name."""
        with _told(self.root / name, "read"):
            return (self.root / name).stat().st_size

    def drafts(self, seconds: float) -> dict[str, int]:
        """Return the drafts that nobody has written to for so long, and their bytes."""
        found = {}
        for name in self._files(""):
            if name.endswith(DRAFT):
                with suppress(FileNotFoundError), _told(self.root / name, "read"):  # just renamed
                    found[name] = (self.root / name).stat()
        if not found:
            return {}
        latest = self._now() - seconds
        return {name: stat.st_size for name, stat in found.items() if stat.st_mtime < latest}

    def discard(self, draft: str) -> None:
        """Delete a draft; one that is absent is no error."""
        self.remove(draft)

    def _now(self) -> float:
        """The clock that stamps the files: a share's own, whatever this machine's clock says."""
        with (
            _told(self.root, "written to"),
            tempfile.NamedTemporaryFile(dir=self.root, suffix=DRAFT) as file,
        ):
            return Path(file.name).stat().st_mtime

    def _files(self, prefix: str) -> Iterator[str]:
        start = self.root / prefix.rpartition("/")[0]
        for folder, _, files in os.walk(start, onerror=self._refused):
            for file in files:
                name = (Path(folder) / file).relative_to(self.root).as_posix()
                if name.startswith(prefix):
                    yield name

    def _refused(self, error: OSError) -> None:
        """An unreadable folder is not an empty one; one that vanishes meanwhile is."""
        with suppress(FileNotFoundError), _told(self.root, "listed"):
            raise error


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears in one step when the block ends; its folder is made.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}{DRAFT}")
    try:
        with _begun(draft) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written",
            _reason(error),
            "free space on that disk, or choose another folder (TUNESVC_ARTIFACTS for checkpoints)",
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _begun(draft: Path) -> BinaryIO:
    """Open a new draft; another worker may just be removing the folder, for it was empty."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError, FileExistsError):  # mkdir's, if it finds the folder gone
            _make(draft.parent)
            return draft.open("xb")
    _make(draft.parent)
    return draft.open("xb")


def _make(folder: Path) -> None:
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable.

    Source: PostgreSQL's fsync_fname_ext: file systems that cannot sync a folder answer these two.
    """
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(number)


@contextmanager
def _told(path: Path, done: str) -> Iterator[None]:
    """Turn what the file system refuses into words; an absent file stays a FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be {done}",
            _reason(error),
            "look at the folder's owner and mode, and whether its disk or share answers",
        ) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
