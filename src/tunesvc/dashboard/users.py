"""Who may use the dashboard: a YAML file of names, each with a password's hash or a token's.

    ada:        {role: editor, password: $argon2id$v=19$…}
    prometheus: {role: reader, token: 0c5a…}        # SHA-256 of a random token

Why: 2026-11: a file and no table of the database: who may write to that one (every worker) could
make himself an editor of the dashboard.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

import yaml
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from tunesvc import places
from tunesvc.dashboard import passwords
from tunesvc.errors import StorageError, UnknownNameError, UsageError, suggest
from tunesvc.spec import yaml_file

Role = Literal["reader", "editor"]
VARIABLE = "TUNESVC_USERS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

_HEAD = "# Who may use the dashboard. tunesvc user add|list|remove|token writes it.\n"
_NO_ENTRY = re.compile(r"(\s|#.*)*")


class User(BaseModel):
    """One entry: a person with a password, or a script with a token.

    Args:
        role: a reader looks; an editor may also write notes and delete studies.
        token: its SHA-256, in hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    role: Role
    password: str | None = None
    token: str | None = None

    @field_validator("password")
    @classmethod
    def _is_hashed(cls, kept: str | None) -> str | None:
        if kept is not None and not passwords.is_hash(kept):
            raise ValueError("not a hash by argon2id; a password itself never stands here")
        return kept

    @field_validator("token")
    @classmethod
    def _is_digest(cls, kept: str | None) -> str | None:
        if kept is not None and not re.fullmatch("[0-9a-f]{64}", kept):
            raise ValueError("not a SHA-256; a token itself never stands here")
        return kept

    @model_validator(mode="after")
    def _is_one(self) -> User:
        if (self.password is None) == (self.token is None):
            raise ValueError("either `password` or `token` stands here")
        return self


def default_path() -> Path:
    """Return the users file of this machine: `TUNESVC_USERS`, else one in tunesvc's home."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser().absolute() if given else places.home() / "users.yaml"


def read(path: Path) -> dict[str, User]:
    """Return name → user.

    Raises:
        UsageError: there is no such file, or it is not a users file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fix = "tunesvc user add NAME makes it"
        raise UsageError(f"the users file {path} cannot be read", _why(error), fix) from error
    if _NO_ENTRY.fullmatch(text):
        return {}
    document = yaml_file.parse(text, str(path))
    if not isinstance(document.value, dict):
        raise UsageError(f"{path} is not a users file", "it has no names", _FIX)
    return {_named(path, name): _user(path, name, document) for name in document.value}


_FIX = "tunesvc user add NAME writes such a file"


def _named(path: Path, name: object) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        why = "a name has up to 64 letters, digits and . _ @ -"
        raise UsageError(f"{path}: {name!r} is not a name", why, _FIX)
    return name


def _user(path: Path, name: str, document: yaml_file.Document) -> User:
    try:
        return User.model_validate(document.value[name])
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = (name, *first["loc"])
        at = document.positions.get(place) or document.positions[name,]
        where = ".".join(map(str, place))
        what = f"{path}:{at.line}:{at.column}: {where}: {first['msg']}"
        raise UsageError(what, "", _FIX) from None  # what stands there may be a password


def add(path: Path, name: str, password: str, role: Role | None = None) -> bool:
    """Let a person log in, or change the password; return whether the name is new.

    Args:
        role: None: the one that he has; a new one is a reader.

    Raises:
        UsageError: the name or the password cannot be one, or a token has the name.
        StorageError: the file cannot be written.
    """
    passwords.check(password)
    kept = passwords.hashed(password)
    with _changing(path) as known:
        before = known.get(_named(path, name))
        if before and before.token:
            raise UsageError(f"{name!r} is the name of a token", "", "take another, or remove it")
        known[name] = User(role=role or (before.role if before else "reader"), password=kept)
    return before is None


def rehash(path: Path, name: str, before: User, password: str) -> User:
    """Keep a user's password with today's settings, if the entry is still the same; return it.

    Raises:
        UsageError, StorageError: the file cannot be read or written.
    """
    after = before.model_copy(update={"password": passwords.hashed(password)})
    with _changing(path) as known:
        if known.get(name) != before:
            return before
        known[name] = after
    return after


def new_token(path: Path, name: str, role: Role = "reader") -> str:
    """Make a token for a script, in place of the one of this name; return it: nobody keeps it.

    Raises:
        UsageError: the name cannot be one, or a person has it.
        StorageError: the file cannot be written.
    """
    made = secrets.token_urlsafe(32)
    with _changing(path) as known:
        before = known.get(_named(path, name))
        if before and before.password:
            why = "a token has a name, a role and an end of its own"
            raise UsageError(f"{name!r} is a person's name", why, f"e.g. {name}-script")
        known[name] = User(role=role, token=digest(made))
    return made


def remove(path: Path, name: str) -> None:
    """Let nobody in by this name any more.

    Raises:
        UnknownNameError: nobody has it.
        StorageError: the file cannot be written.
    """
    read(path)  # never made only to find nobody in it
    with _changing(path) as known:
        if name not in known:
            told = suggest(name, known) if known else "the file has no names"
            raise UnknownNameError(f"{path}: there is no {name!r}", told)
        del known[name]


def digest(token: str) -> str:
    """Return what is kept of a token: it is random, so that a plain hash is enough."""
    return sha256(token.encode()).hexdigest()


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, User]]:
    """Change a users file alone, and whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(f"{path}.lock", timeout=10, mode=0o600):
            known = read(path) if path.exists() else {}
            yield known
            _write(path, known)
    except OSError as error:  # also filelock's Timeout
        raise StorageError(f"the users file {path} cannot be written", _why(error)) from error


def _write(path: Path, known: Mapping[str, User]) -> None:
    entries = {name: user.model_dump(exclude_none=True) for name, user in sorted(known.items())}
    with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as out:
        try:
            out.write(_HEAD + yaml.safe_dump(entries, sort_keys=False, width=4096))
            out.flush()
            os.fsync(out.fileno())
            _keep_owner(path, Path(out.name))
            Path(out.name).replace(path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise


def _keep_owner(old: Path, new: Path) -> None:
    """Let whoever could read the old file (a container's user) read the new one."""
    with suppress(FileNotFoundError, PermissionError):
        found = old.stat()
        new.chmod(found.st_mode & 0o640)
        os.chown(new, found.st_uid, found.st_gid)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
