"""The embedded server: started on demand, shared, stopped by the last, recovered after kills."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from tunesvc.errors import StorageError, UsageError
from tunesvc.storage import open_store, program, server

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")

# Uses the server of argv[1] until its standard input ends.
USER = """
import sys
from pathlib import Path
from tunesvc.storage import server
with server.using(Path(sys.argv[1])) as url:
    print("in", flush=True)
    sys.stdin.read()
"""


def ask(url: URL, question: str = "SELECT 1") -> object:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        return connection.execute(text(question)).scalar_one()


def user(home: Path, **options: object) -> subprocess.Popen[str]:
    """Start a process that uses the server; returns without waiting for it."""
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def is_in(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=120)
    assert process.returncode == 0


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_starts_on_demand_stops_with_the_last_and_keeps_its_data(place: Path) -> None:
    """A path with spaces and shell characters serves; nothing runs before and after."""
    home = place / 'it\'s a $HOME `x` "y"'
    assert not server.is_running(home)
    with server.using(home) as url:
        assert ask(url, "CREATE TABLE kept AS SELECT 7 AS n; SELECT n FROM kept") == 7
        assert ask(url, "SHOW listen_addresses") == ""
        assert ask(url, "SHOW data_checksums") == "on"
        assert (Path(str(url.query["host"])) / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
        assert server.is_running(home)
    assert not server.is_running(home)
    with server.using(home) as url:
        assert ask(url, "SELECT n FROM kept") == 7


def test_processes_that_start_it_at_once_share_one(place: Path) -> None:
    """Four processes on an empty home: one server, and it stays until the fourth leaves."""
    users = [user(place / "h") for _ in range(4)]
    for each in users:
        is_in(each)
    first = pid(place / "h")
    for each in users[:3]:
        leave(each)
        assert server.is_running(place / "h")
        assert pid(place / "h") == first
    leave(users[3])
    assert not server.is_running(place / "h")


def test_path_too_long_for_a_socket(place: Path) -> None:
    """The socket goes to a private folder under the temporary one; others' folders are refused."""
    home = place / ("long" * 25)
    with server.using(home) as url:
        folder = Path(str(url.query["host"]))
        assert ask(url) == 1
        assert folder.parent == Path(tempfile.gettempdir())
        assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(StorageError, match="no safe place"), server.using(home):
        pass
    folder.rmdir()


def test_killed_server_is_started_again(place: Path) -> None:
    """kill -9 of the server leaves a stale postmaster.pid: the next user gets a new server."""
    with server.using(place) as url:
        engine = create_engine(url)
        with engine.connect() as connection:  # a child that holds the shared memory
            killed = pid(place)
            os.kill(killed, signal.SIGKILL)
            until(lambda: not Path(f"/proc/{killed}").exists())
            with server.using(place) as again:
                assert ask(again) == 1
            connection.invalidate()
        engine.dispose()
    assert not server.is_running(place)


def test_killed_users_leave_the_server_to_the_next(place: Path) -> None:
    """kill -9 of all users leaves it running; the next user joins it, and stops it."""
    killed = user(place)
    is_in(killed)
    first = pid(place)
    killed.kill()
    killed.communicate()
    assert server.is_running(place)
    with server.using(place):
        assert pid(place) == first
    assert not server.is_running(place)


def test_ctrl_c_in_the_terminal_does_not_reach_it(place: Path) -> None:
    """SIGINT to the whole process group of its starter leaves the server to the other users."""
    starter = user(place, start_new_session=True, stderr=subprocess.DEVNULL)
    is_in(starter)
    with server.using(place) as url:
        os.killpg(starter.pid, signal.SIGINT)
        starter.communicate()
        assert ask(url) == 1


def test_stop_refuses_while_others_use_it(place: Path) -> None:
    """`stop` is a usage error while it is used, works with force, and says whether it ran."""
    assert server.stop(place / "nowhere") is False
    other = user(place)
    is_in(other)
    with pytest.raises(UsageError, match="in use"):
        server.stop(place)
    assert server.is_running(place)
    assert server.stop(place, force=True) is True
    assert server.stop(place) is False
    leave(other)


def test_failing_start_shows_the_log(place: Path) -> None:
    """A server that cannot start says why in the words of its own log."""
    with server.using(place):
        pass
    with (place / "postgres" / "postgresql.conf").open("a") as conf:
        conf.write("shared_buffers = 'plenty'\n")
    with pytest.raises(StorageError, match=r"does not start[\s\S]*shared_buffers.*plenty"):
        server.using(place).__enter__()


def test_data_of_another_postgres_is_refused(place: Path) -> None:
    """Data of another major version is named, not touched."""
    with server.using(place):
        pass
    (place / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StorageError, match="version 17, and version 18 is installed"):
        server.using(place).__enter__()


def test_home_that_cannot_be_made(place: Path) -> None:
    """A home below a file is a storage error, not a traceback."""
    (place / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be set up"):
        server.using(place / "file" / "home").__enter__()


@AS_ROOT
def test_home_that_the_servers_user_may_not_enter(place: Path) -> None:
    """Under a folder like /root the data goes to /var/lib/tunesvc; if it is lost, we say so."""
    place.chmod(0o700)
    home = place / "home"
    with server.using(home) as url:
        assert ask(url) == 1
        data = (home / "postgres").resolve()
    assert data.parent == program.LIBRARY
    assert place.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(data)
    with pytest.raises(StorageError, match="data is gone"):
        server.using(home).__enter__()


@AS_ROOT
def test_programs_that_the_servers_user_may_not_enter(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtualenv below a folder like /root: the programs are copied, and run."""
    monkeypatch.setattr(program, "LIBRARY", place / "library")
    monkeypatch.setattr(program, "_may_enter", lambda path, user: "library" in str(path))
    assert program.find().folder.is_relative_to(place / "library")
    monkeypatch.undo()
    copied = next((place / "library").rglob("initdb"))
    programs = program.Programs(copied.parent, program.find().user)
    assert "18." in programs.run("initdb", "--version", environment={}).stdout
    assert "18." in programs.run("postgres", "--version", environment={}).stdout


@AS_ROOT
def test_as_an_ordinary_user(place: Path) -> None:
    """Without root the server runs as its caller."""
    nobody = pwd.getpwnam("nobody")
    home = place / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    found = program.find()
    if not program.Programs(found.folder, nobody).may_enter(found.folder / "postgres"):
        pytest.skip("this virtualenv is closed to other users")
    child = os.fork()  # not a new process: the interpreter may be closed to other users
    if child == 0:
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
        with server.using(home) as url:
            served = ask(url) == 1 and server.is_running(home)
        os._exit(0 if served and not server.is_running(home) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (home / "postgres" / "PG_VERSION").stat().st_uid == nobody.pw_uid


def test_open_store_uses_the_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --storage and TUNESVC_STORAGE the store is the embedded server of the home."""
    monkeypatch.setenv("TUNESVC_HOME", str(place))
    with open_store() as store:
        assert store.embedded
        assert store.optuna.get_all_studies() == []
        assert server.is_running()
    assert not server.is_running()
