"""`tunesvc migrate`: tables made or brought up to date, as often as one likes, and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text

from tunesvc import storage
from tunesvc.cli import main
from tunesvc.storage import VARIABLE, migrations, password_file

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]


def sql(url: str, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def run(capsys: pytest.CaptureFixture[str], *, code: int = 0) -> list[str]:
    """Run the command; return the lines that it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["migrate"])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0) == code, out + err
    return (out + err).splitlines()


def test_tables_are_made_once_and_kept(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first run makes both kinds, the second finds them; a store opens on them."""
    monkeypatch.setenv(VARIABLE, empty_url)
    theirs, ours = optuna.__version__, migrations.HEAD
    assert run(capsys) == [
        f"Optuna's tables: made (version {theirs})",
        f"tunesvc's tables: made (version {ours})",
    ]
    with storage.open_store() as store:
        first = storage.installation_id(store.engine)
    assert run(capsys) == [
        f"Optuna's tables: up to date (version {theirs})",
        f"tunesvc's tables: up to date (version {ours})",
    ]
    with storage.open_store() as store:
        assert storage.installation_id(store.engine) == first


def test_an_older_database_is_brought_up_to_date(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says from which version to which; a database that only Optuna knows gets our tables."""
    monkeypatch.setenv(VARIABLE, storage_url)
    sql(storage_url, "UPDATE version_info SET library_version = '4.0.0'")
    sql(storage_url, "DROP SCHEMA tunesvc CASCADE")
    assert run(capsys) == [
        f"Optuna's tables: brought from 4.0.0 to {optuna.__version__}",
        f"tunesvc's tables: made (version {migrations.HEAD})",
    ]
    assert all("up to date" in line for line in run(capsys))


def test_a_database_of_a_later_tunesvc_is_refused(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is changed; the exit code keeps the services that wait for it from starting."""
    monkeypatch.setenv(VARIABLE, storage_url)
    sql(storage_url, "UPDATE tunesvc.alembic_version SET version_num = '9999'")
    assert "newer than the tunesvc installed here" in run(capsys, code=3)[0]


def _migrate(url: str) -> list[bool]:
    return [before is None for before, _ in storage.migrate(url).values()]


def test_of_six_at_once_one_makes_the_tables(empty_url: str, at_once: AtOnce) -> None:
    """The others wait for it, and say that all was there."""
    told = at_once(_migrate, [empty_url] * 6)
    assert sorted(told) == [[False, False]] * 5 + [[True, True]]


@pytest.mark.usefixtures("locked")
def test_the_password_comes_from_its_file(
    admin: Engine,
    empty_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Postgres lets in who has the right one; the wrong one is not repeated."""
    name = make_url(empty_url).database
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} OWNER TO locked"))
    monkeypatch.setenv(VARIABLE, str(make_url(empty_url).set(username="locked")))
    path = tmp_path / "password"
    monkeypatch.setenv(password_file.VARIABLE, str(path))
    path.write_text("wr0ng\n")
    told = "\n".join(run(capsys, code=3))
    assert "does not let this user in" in told
    assert "wr0ng" not in told
    path.write_text("right\n")
    assert len(run(capsys)) == 2
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} OWNER TO CURRENT_USER"))
