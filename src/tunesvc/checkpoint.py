"""Checkpoints: whole and verified or not at all, loaded without running what they hold.

A trial's checkpoints lie in its folder of a shelf, each under its mark; the newest has the
greatest. The file is

    8 bytes   "tunesvc" and the format's version, 1
    32 bytes  SHA-256 of what follows
    …         the state, as `torch.save` writes it

Why: 2026-11: the mark begins with the token of the lease. A worker that lost its lease, and does
not know it yet, writes beside its successor's checkpoints, never over them, and below them.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tunesvc.errors import StorageError
from tunesvc.shelf import Shelf, whole

__all__ = ["Mark", "load", "marked", "save", "whole"]

log = logging.getLogger(__name__)

_MAGIC = b"tunesvc\x01"
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size
_NAME = re.compile(r"(\d{10,})-(\d{5,})-(\d{7,})\.ckpt")


@dataclass(frozen=True, order=True)
class Mark:
    """A checkpoint's place in its trial; the greater one is newer."""

    token: int  # of the lease under which it was written
    epoch: int  # finished epochs
    batch: int  # finished batches of the epoch under way

    def __str__(self) -> str:
        return f"{self.token:010d}-{self.epoch:05d}-{self.batch:07d}.ckpt"


class _Torn(Exception):  # noqa: N818 (a message from `_state` to `load`)
    """Not the bytes of a whole checkpoint."""


class _Foreign(_Torn):
    """As it was written, by another version of tunesvc or torch, which may want it."""


def marked(names: list[str]) -> list[tuple[Mark, str]]:
    """Return those of a trial's names that are checkpoints, oldest first."""
    found = ((_NAME.fullmatch(name.rpartition("/")[2]), name) for name in names)
    return sorted((Mark(*map(int, match.groups())), name) for match, name in found if match)


def save(state: Mapping[str, Any], shelf: Shelf, folder: str, mark: Mark) -> None:
    """Write tensors, numbers and strings, nested in dicts and lists, and read them back.

    Of the older checkpoints the newest stays, and the others go once this one is verified.

    Raises:
        StorageError: it cannot be written, or not be read as it was written; nothing older went.
    """
    name = f"{folder}/{mark}"
    digest = _write(state, shelf, name)
    try:
        kept = _digest(shelf.read(name))
    except (FileNotFoundError, _Torn):
        kept = b""
    if kept != digest:
        shelf.remove(name)
        raise StorageError(
            f"{name} in {shelf.location}: not what was written",
            "its checksum is another when it is read back",
            "look for faults of that disk or share; the checkpoint before it is kept",
        )
    older = [other for known, other in marked(shelf.names(f"{folder}/")) if known < mark]
    for other in older[:-1]:
        shelf.remove(other)


def load(shelf: Shelf, folder: str) -> dict[str, Any] | None:
    """Read the newest whole checkpoint onto the CPU; None where there is none.

    One that is torn or damaged is deleted with a warning, for the one before it. No code in a
    file is run: one that holds anything but tensors and plain values is left aside.

    Raises:
        StorageError: the shelf cannot be read, which is not to say that nothing lies there.
    """
    tried: set[str] = set()
    while True:  # listed anew each time: another worker may still be writing and tidying here
        names = [name for name in shelf.names(f"{folder}/") if name not in tried]
        if not (found := marked(names)):
            return None
        _, name = found[-1]
        tried.add(name)
        try:
            return _state(shelf.read(name))
        except (_Torn, FileNotFoundError) as error:
            log.warning("%s: not a whole checkpoint, left aside (%s)", name, error)
            if isinstance(error, _Torn) and not isinstance(error, _Foreign):
                shelf.remove(name)  # else the next `save` would take it for the one to fall back to


def _write(state: Mapping[str, Any], shelf: Shelf, name: str) -> bytes:
    """Write a state from the one buffer that it is serialised to; return the checksum."""
    file = io.BytesIO(bytes(_HEADER))
    file.seek(_HEADER)
    torch.save(dict(state), file)
    data = file.getbuffer()
    digest = hashlib.sha256(data[_HEADER:]).digest()
    data[:_HEADER] = _MAGIC + digest
    shelf.write(name, data)
    return digest


def _state(data: bytes) -> dict[str, Any]:
    _digest(data)
    file = io.BytesIO(data)  # shares the bytes: nothing is copied
    file.seek(_HEADER)
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise _Foreign(next(iter(str(error).splitlines()), type(error).__name__)) from error
    return state


def _digest(data: bytes) -> bytes:
    """Return the checksum of a file that is as it was written."""
    if data.startswith(_MAGIC[:-1]) and not data.startswith(_MAGIC):
        raise _Foreign("of another version of tunesvc")
    if not data.startswith(_MAGIC):
        raise _Torn("cut off")
    digest = hashlib.sha256(memoryview(data)[_HEADER:]).digest()
    if digest != data[len(_MAGIC) : _HEADER]:
        raise _Torn("its checksum does not match")
    return digest
