"""Where Postgres is: the URL, and what of it may be shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tunesvc.errors import StorageError, UsageError
from tunesvc.storage import password_file

VARIABLE = "TUNESVC_STORAGE"

_SCHEMES = ("postgresql", "postgresql+psycopg2")
_EXAMPLE = "postgresql://user@host:5432/database"
# Greedy up to the last @, for a password may hold an @ that should have been written %40.
_IN_URL = re.compile(r"(://[^:/@\s]*:)\S*(?=@)")
_IN_WORDS = re.compile(r"(?i)(password\s*=\s*)('[^']*'|[^\s&']+)")


def redact(text: str) -> str:
    """Return the text with every password in it replaced by `***`."""
    return _IN_WORDS.sub(r"\1***", _IN_URL.sub(r"\1***", text))


def given(option: str | None) -> URL | None:
    """Return the URL of `--storage`, else of TUNESVC_STORAGE, else None: the embedded server.

    A URL without a password gets that of the file that TUNESVC_STORAGE_PASSWORD_FILE names.

    Raises:
        UsageError: the option holds a password.
        StorageError: not the URL of a Postgres database, or the password file cannot be read.
    """
    if option:
        url = parse(option, "--storage")
        if url.password is not None:
            raise UsageError(
                "--storage holds a password",
                "every user of this machine can read it in the list of processes",
                f"put the URL into the environment variable {VARIABLE}, or leave the password "
                f"out of it and write it to ~/.pgpass, or to a file that {password_file.VARIABLE} "
                "names",
            )
        return _with_password(url)
    text = os.environ.get(VARIABLE)
    return _with_password(parse(text, VARIABLE)) if text else None


def _with_password(url: URL) -> URL:
    path = os.environ.get(password_file.VARIABLE)
    if not path or url.password is not None:
        return url
    return url.set(password=password_file.read(Path(path)))


def parse(text: str, origin: str) -> URL:
    """Return the URL, its password, if any, where `URL.password` is; `origin` is for errors.

    Raises:
        StorageError: not the URL of a Postgres database.
    """
    try:
        url = make_url(text.strip())
    except (ArgumentError, ValueError):  # their words repeat the URL: no cause to show
        raise _unreadable(origin, "it is not a URL at all") from None
    if url.drivername not in _SCHEMES:
        raise _unreadable(origin, f"studies are kept in Postgres, and this is {url.drivername!r}")
    if "@" in (url.host or ""):
        raise _unreadable(origin, "it holds more than one @")
    password = url.query.get("password")
    if password is not None:
        url = url.set(password=str(password)).difference_update_query(["password"])
    return url.set(drivername="postgresql+psycopg2")


def _unreadable(origin: str, why: str) -> StorageError:
    return StorageError(
        f"{origin} is not the URL of a Postgres database",
        why,
        f"write it as {_EXAMPLE}; in a password write @ as %40, : as %3A, / as %2F and % as %25",
    )
