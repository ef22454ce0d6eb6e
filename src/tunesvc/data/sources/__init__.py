"""Where images come from: one file per kind, each with `find(spec, target, base) -> Found`."""

from __future__ import annotations

import os
from pathlib import Path


def place(base: Path, written: str) -> Path:
    """Return where a path of the study file leads, without `..` unless a symbolic link needs it."""
    path = base / Path(written).expanduser()
    plain = Path(os.path.normpath(path))
    if path.exists() and not (plain.exists() and plain.samefile(path)):
        return path
    return plain
