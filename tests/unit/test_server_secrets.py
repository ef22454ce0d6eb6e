"""The secrets of a server: made once, whole, readable to whom they serve, and never shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesvc.cli import main
from tunesvc.dashboard import first_user, passwords, users
from tunesvc.errors import StorageError
from tunesvc.storage import VARIABLE, password_file
from tunesvc.storage.address import given

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run a command in this process; return what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0) == code, out + err
    return out + err


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_that_a_server_needs_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The database's password, and a user `admin` who may edit and whose password fits."""
    told = run(capsys, "secrets", tmp_path / "s", "--access", tmp_path / "a")
    database = password_file.read(tmp_path / "s" / "postgres_password")
    first = password_file.read(tmp_path / "a" / "first_password")
    assert len(database) == len(first) == 32
    assert database != first
    (admin,) = users.read(tmp_path / "a" / "users.yaml").values()
    assert admin.role == "editor"
    assert admin.password
    assert passwords.matches(admin.password, first)
    assert "admin" in told
    assert database not in told
    assert first not in told


def test_files_are_open_to_whom_they_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Postgres is another user, and reads the database's; the others are their owner's alone."""
    run(capsys, "secrets", tmp_path, "--access", tmp_path)
    names = ("postgres_password", "first_password", "users.yaml")
    assert [mode(tmp_path / name) for name in names] == [0o444, 0o400, 0o600]


def test_what_is_there_is_never_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second start changes no byte, and tells so; nor does the first password come back."""
    run(capsys, "secrets", tmp_path, "--access", tmp_path)
    (tmp_path / "first_password").unlink()  # its owner has read it
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    told = run(capsys, "secrets", tmp_path, "--access", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert told.count("untouched") == 2


def test_a_start_that_was_killed_is_finished(tmp_path: Path) -> None:
    """A first password without a user is that of the user who is then made."""
    password_file.make(tmp_path / "first_password", 0o400)
    before = password_file.read(tmp_path / "first_password")
    assert first_user.make(tmp_path)
    kept = users.read(tmp_path / "users.yaml")["admin"].password
    assert kept
    assert passwords.matches(kept, before)


def _make(path: Path) -> tuple[bool, str]:
    return password_file.make(path, 0o444), password_file.read(path)


def test_of_many_at_once_one_makes_it(tmp_path: Path, at_once: AtOnce) -> None:
    """All of them read the same password, whole, and nothing is left over."""
    made = at_once(_make, [tmp_path / "new" / "password"] * 6)
    assert [is_new for is_new, _ in made].count(True) == 1
    assert len({password for _, password in made}) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["password"]


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends in a sentence that names the folder and the user."""
    (tmp_path / "file").write_text("")
    told = run(capsys, "secrets", tmp_path / "file" / "below", code=3)
    assert "cannot be made" in told
    assert f"let user {os.getuid()} write to" in told


def test_the_database_gets_the_password_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the variable's URL and of --storage's, unless the URL has one of its own."""
    (tmp_path / "password").write_text("s3c:ret@/\r\nsecond line\n")
    monkeypatch.setenv(password_file.VARIABLE, str(tmp_path / "password"))
    monkeypatch.setenv(VARIABLE, "postgresql://u@h/d")
    found = [given(None), given("postgresql://u@other/d")]
    assert [url and url.password for url in found] == ["s3c:ret@/", "s3c:ret@/"]
    monkeypatch.setenv(VARIABLE, "postgresql://u:own@h/d")
    url = given(None)
    assert url is not None
    assert url.password == "own"
    monkeypatch.delenv(VARIABLE)
    assert given(None) is None  # the embedded server has none


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"\n", "empty"), (b"\xff", "no text")]
)
def test_a_password_file_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, words: str
) -> None:
    """It is missing, empty or no text: no connection is tried without a password."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(password_file.VARIABLE, str(path))
    with pytest.raises(StorageError, match=words) as raised:
        given("postgresql://u@h/d")
    assert str(path) in str(raised.value)
