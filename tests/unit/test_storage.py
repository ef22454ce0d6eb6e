"""The address of Postgres, without a Postgres."""

from __future__ import annotations

import pytest

from tunesvc.errors import StorageError, UsageError
from tunesvc.storage import VARIABLE, guard, open_store, redact
from tunesvc.storage.address import given, parse


def test_option_before_environment_before_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """--storage wins over TUNESVC_STORAGE; without both there is no URL: the embedded server."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert given(None) is None
    monkeypatch.setenv(VARIABLE, "postgresql://u:secret@environment/d")
    url = given(None)
    assert url is not None
    assert (url.host, url.password, url.drivername) == (
        "environment",
        "secret",
        "postgresql+psycopg2",
    )
    option = given("postgresql+psycopg2://u@option/d")
    assert option is not None
    assert option.host == "option"


@pytest.mark.parametrize("url", ["postgresql://u:geheim@h/d", "postgresql://u@h/d?password=geheim"])
def test_password_on_the_command_line_is_refused(url: str) -> None:
    """It would stand in the list of processes; the error does not repeat it."""
    with pytest.raises(UsageError, match="holds a password") as caught:
        given(url)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///geheim.db",
        "mysql://u:geheim@h/d",
        "postgres://u:geheim@h/d",
        "postgresql+asyncpg://u:geheim@h/d",
        "postgresql://u:ge@geheim@h/d",  # @ not written as %40
        "postgresql://u:geheim@h:port/d",
        "u:geheim@h/d",
        "://u:geheim@h/d",
    ],
)
def test_anything_but_a_postgres_url_is_a_storage_error(url: str) -> None:
    """The error shows how to write one, and no password."""
    with pytest.raises(StorageError, match="write it as postgresql://") as caught:
        parse(url, VARIABLE)
    assert "u:geheim" not in str(caught.value)
    assert "@geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see postgresql://u:p@ss/word@host/d?x=1", "see postgresql://u:***@host/d?x=1"),
        ("postgresql://u@host/d", "postgresql://u@host/d"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        ("password = 'two words' user=u", "password = *** user=u"),
        ("?sslmode=x&password=secret&y=1", "?sslmode=x&password=***&y=1"),
        ('password authentication failed for user "u"',) * 2,
    ],
)
def test_redact(text: str, shown: str) -> None:
    """Passwords in URLs and in libpq's key=value words are blotted out, other words stay."""
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("postgresql://u:geheim@127.0.0.1:1/d", "cannot be reached"),
        ("postgresql://u:geheim@/d?host=/nowhere", "cannot be reached"),
        ("postgresql://u:geheim@no-such-host.invalid/d", "host of Postgres is unknown"),
    ],
)
def test_unreachable(url: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down, and a host that is none: what, why, fix, and no password."""
    monkeypatch.setenv(VARIABLE, url)
    with pytest.raises(StorageError, match=what) as caught, open_store():
        pass
    assert caught.value.why
    assert caught.value.fix
    assert "geheim" not in str(caught.value)


def test_guard_lets_other_errors_pass() -> None:
    """Only the database's errors become StorageError."""
    with pytest.raises(KeyError), guard():
        raise KeyError("x")
