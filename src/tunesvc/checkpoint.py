"""Checkpoints: saved whole or not at all, loaded without running what they hold."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tunesvc.errors import StorageError

log = logging.getLogger(__name__)


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write tensors, numbers and strings, nested in dicts and lists; the folder is made.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    with whole(path) as file:
        torch.save(dict(state), file)


def load(path: Path) -> dict[str, Any] | None:
    """Read a state onto the CPU; None where there is no file, or where it is torn.

    No code in the file is run: anything but tensors and plain values counts as torn.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        return None
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        log.warning("%s: not a whole checkpoint, left aside (%s)", path, _first_line(error))
        return None
    return state


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears in one step when the block ends.

    A reader finds the old bytes or the new ones, never half of them, also after a power cut.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns the one into the other
        raise StorageError(
            f"{path}: cannot be written",
            _first_line(error),
            "free space on that disk, or choose another folder (TUNESVC_ARTIFACTS for checkpoints)",
        ) from error
    finally:
        if draft.exists():
            draft.unlink()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
