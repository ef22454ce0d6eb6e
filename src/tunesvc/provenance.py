"""What something was made with: libraries, platform, commit."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesvc import __version__

_LIBRARIES = ("torch", "torchvision", "optuna", "numpy")


@cache
def provenance() -> dict[str, Any]:
    """Return versions, platform and, inside a git checkout, the commit of the working folder."""
    return {
        "versions": {"tunesvc": __version__, "python": platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "git_commit": _commit(Path.cwd()),
    }


def _commit(folder: Path) -> str | None:
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
