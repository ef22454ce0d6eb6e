"""Where tunesvc keeps things on this machine.

`TUNESVC_HOME` moves all of it; without it, state goes to the user's data folder and what can be
computed again to the user's cache folder, as the platform names them.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """State: the embedded server's data, artifacts, logs."""
    given = os.environ.get("TUNESVC_HOME")
    return Path(given).expanduser().absolute() if given else platformdirs.user_data_path("tunesvc")


def cache() -> Path:
    """What can be computed again: decoded images, downloaded sets."""
    if os.environ.get("TUNESVC_HOME"):
        return home() / "cache"
    return platformdirs.user_cache_path("tunesvc")


def artifacts() -> str:
    """Checkpoints; `TUNESVC_ARTIFACTS` names a folder that several hosts share, or s3://…"""
    given = os.environ.get("TUNESVC_ARTIFACTS")
    if given and "://" in given:
        return given
    return str(Path(given).expanduser().absolute() if given else home() / "artifacts")


def logs() -> Path:
    """What workers and the dashboard print."""
    return home() / "logs"
