"""What a host remembers of itself: small JSON files, replaced whole.

Why: 2026-11: without a lock. Where two processes write at once, the later one's words stay; who
wants more takes `alone`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4


def note(file: Path, told: Mapping[str, Any]) -> None:
    """Replace a file by this, JSON-able.

    Raises:
        OSError: the disk is full, or the folder may not be written to.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{uuid4().hex}.part")  # containers share pids
    fresh.write_text(json.dumps(told, indent=1))
    fresh.replace(file)


def noted(file: Path) -> dict[str, Any]:
    """Return what a file tells; nothing where it is missing or spoiled."""
    try:
        told = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
