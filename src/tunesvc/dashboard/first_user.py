"""The first user of a dashboard, so that a new server has a login before anybody can reach it."""

from __future__ import annotations

from pathlib import Path

from tunesvc.dashboard import users
from tunesvc.storage import password_file

NAME = "admin"
USERS, PASSWORD = "users.yaml", "first_password"


def make(folder: Path) -> bool:
    """Write a users file with an editor `admin`; return False, and touch nothing, if there is one.

    The password lies beside it, for the owner to read once. Killed in between, it is used again.

    Raises:
        StorageError: nothing can be written there.
    """
    if (folder / USERS).exists():
        return False
    password_file.make(folder / PASSWORD, password_file.OWN)
    return users.add(folder / USERS, NAME, password_file.read(folder / PASSWORD), "editor")
