"""A password that lies in a file: neither in the environment, nor in a command, nor in a log."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from tunesvc.errors import StorageError

VARIABLE = "TUNESVC_STORAGE_PASSWORD_FILE"
READABLE, OWN = 0o444, 0o400  # modes

_BYTES = 24  # of randomness: 192 bits, 32 characters


def read(path: Path) -> str:
    """Return the first line of a password file.

    Raises:
        StorageError: it cannot be read, or is empty.
    """
    try:
        password = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"the password file {path} cannot be read",
            error.strerror or str(error) if isinstance(error, OSError) else "it is no text",
            f"make it readable to this user; {VARIABLE} names that of the database",
        ) from error
    if not password:
        raise StorageError(
            f"the password file {path} is empty",
            "",
            "delete it, and make it anew with:  tunesvc secrets",
        )
    return password


def make(path: Path, mode: int) -> bool:
    """Write a random password to a new file; return False, and touch nothing, if there is one.

    Of several processes that do it at once, one makes the file, and it is whole when it appears.

    Raises:
        StorageError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return False
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-") as fresh:
            fresh.write(secrets.token_urlsafe(_BYTES) + "\n")
            fresh.flush()
            os.fsync(fresh.fileno())
            os.fchmod(fresh.fileno(), mode)
            os.link(fresh.name, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(
            f"the password file {path} cannot be made",
            error.strerror or str(error),
            f"let user {os.getuid()} write to {path.parent}",
        ) from error
    return True
