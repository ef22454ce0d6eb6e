"""Which images are meant: files, folders at any depth, and lines of standard input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunesvc.data.sources.folder import SUFFIXES

STDIN = "-"
_BYTES = 2**16


def images(names: Sequence[str]) -> Iterator[Path]:
    """Yield image files, as they are found.

    A folder is walked to its depths, sorted by name, each folder's files before its subfolders;
    what is hidden, or does not end as images do, is passed over. A file that is named is taken
    whatever its name ends in, and whether or not it is there. So is a folder that cannot be listed:
    reading it fails, and tells why.

    Args:
        names: files and folders; "-" stands for paths on standard input, one to a line.
    """
    for name in names:
        for path in _lines() if name == STDIN else (Path(name),):
            if _is_folder(path):
                yield from _walked(path, set())
            else:
                yield path


def _walked(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the images below a folder; a link to a folder above it is not followed."""
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError:
        yield folder
        return
    place = (status.st_dev, status.st_ino)
    if place in above:
        return
    shown = [path for path in entries if not path.name.startswith((".", "__"))]
    inner = [path for path in shown if _is_folder(path)]
    yield from (path for path in shown if path.suffix.lower() in SUFFIXES and _is_file(path))
    for each in inner:
        yield from _walked(each, above | {place})


def _is_folder(path: Path) -> bool:
    """Whether it is a folder; no, where the system does not tell: `Path.is_dir` raises then."""
    return os.path.isdir(path)  # noqa: PTH112


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _lines() -> Iterator[Path]:
    """Yield the lines of standard input, each as soon as it is there.

    Why: 2026-11: not from `sys.stdin`. A thread that waits in its buffer when Python ends makes
    Python end with an error.
    """
    rest = b""
    while more := os.read(0, _BYTES):
        *lines, rest = (rest + more).split(b"\n")
        yield from _named(lines)
    yield from _named([rest])


def _named(lines: Sequence[bytes]) -> Iterator[Path]:
    return (Path(os.fsdecode(line.rstrip(b"\r"))) for line in lines if line.strip())
