"""The embedded Postgres: one per home, shared by all processes of its user on this machine.

    home/postgres          the data, or a link to it (root; see `program`)
    home/postgres.lock     held while the server is started or stopped
    home/postgres.users    a shared lock on it is held by every process that uses the server

Whoever leaves and finds nobody else on `postgres.users` stops the server. A lock vanishes with its
process, so killed users are no users; their server runs on until the next one comes and goes.
A killed server is started again by its users (`revive`), at the same address.
"""

from __future__ import annotations

import fcntl
import logging
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from sqlalchemy import URL

from tunesvc import places
from tunesvc.errors import StorageError, UsageError
from tunesvc.storage import cluster, program
from tunesvc.storage.cluster import PORT
from tunesvc.storage.program import Programs

log = logging.getLogger(__name__)

START_SECONDS = 60  # recovery after a crash included
LOCK_SECONDS = 180.0  # somebody else may be starting it
# The log of a start says so while children of a killed server still hold its shared memory, and
# while nobody has yet reaped its process. If the number was given to another, it says so for ever.
JUST_KILLED = ("shared memory block", 'lock file "postmaster.pid" already exists')
LOG = "server.log"  # in the data; that of the start before is kept beside it


class Address(NamedTuple):
    """Where a server of ours is, by its postmaster.pid."""

    pid: int
    socket_folder: str
    ready: bool

    @property
    def url(self) -> URL:
        """As SQLAlchemy takes it."""
        return URL.create(
            "postgresql+psycopg2",
            username=program.USER,
            database="postgres",
            query={"host": self.socket_folder, "port": str(PORT)},
        )


@contextmanager
def using(home: Path) -> Iterator[URL]:
    """Have the server run while the block runs; the last one to leave stops it.

    Raises:
        StorageError: the server cannot be set up or started; with the end of its log.
    """
    with _explained(home):
        home.mkdir(parents=True, exist_ok=True)
        users = (home / "postgres.users").open("w")
    with users:
        with _explained(home), _alone(home):
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                address = _running(home) or _start(home)
            except BaseException:
                _leave(home, users.fileno())
                raise
        try:
            yield address.url
        finally:
            with _alone(home):
                _leave(home, users.fileno())


def stop(home: Path | None = None, *, force: bool = False) -> bool:
    """Stop the server; return whether it ran.

    Args:
        home: None: that of this user.
        force: also when processes use it; their trials are left to be taken over.

    Raises:
        UsageError: processes use it.
    """
    home = home or places.home()
    if not home.exists():
        return False
    with _explained(home), _alone(home), (home / "postgres.users").open("w") as users:
        if _running(home) is None:
            return False
        if not force and not _nobody_else(users.fileno()):
            raise UsageError(
                "the embedded server is in use",
                "workers, a dashboard or another command run on it",
                "stop them first (tunesvc stop), or add --force",
            )
        _stop(home)
    return True


def revive(home: Path) -> None:
    """Start the server again if it was killed; only who is inside `using` may call it.

    It never waits for others and never raises for trouble that may pass: call it again. A server
    that was stopped in an orderly way (`stop`, pg_ctl) has removed its pid file, and stays stopped.
    """
    if _listening(home) or not (home / "postgres" / "postmaster.pid").exists():
        return
    try:
        with FileLock(home / "postgres.lock", timeout=0):
            if not _listening(home):
                _start(home)
                log.warning("the embedded server was killed, and runs again")
    except Timeout:
        log.debug("another process starts the embedded server")
    except (StorageError, OSError) as error:
        log.warning("the embedded server cannot be started yet: %s", error)


def is_running(home: Path | None = None) -> bool:
    """Whether the server answers."""
    return _running(home or places.home()) is not None


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    try:
        with FileLock(home / "postgres.lock", timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise StorageError(
            "the embedded server is being started or stopped by another process",
            f"{home / 'postgres.lock'} has been held for {LOCK_SECONDS:.0f} seconds",
            "look for a suspended tunesvc process (ps), continue or end it",
        ) from error


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn a disk that is full, read-only or forbidden into StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            "the embedded server cannot be set up",
            str(error),
            f"make room or give access there (the home is {home}; TUNESVC_HOME moves it), or set "
            "TUNESVC_STORAGE to the URL of a server",
        ) from error


def _leave(home: Path, users: int) -> None:
    try:
        if _nobody_else(users) and _running(home) is not None:
            _stop(home)
    except (StorageError, OSError) as error:  # on the way out: it must hide no earlier error
        log.warning("the embedded server was left running: %s", error)
    finally:
        fcntl.flock(users, fcntl.LOCK_UN)


def _nobody_else(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(home: Path) -> Address | None:
    address = _listening(home)
    return address if address and address.ready else None


def _listening(home: Path) -> Address | None:
    """Return the server's address if somebody listens there: its pid file may be a dead one's."""
    try:
        lines = (home / "postgres" / "postmaster.pid").read_text().splitlines()
        address = Address(int(lines[0]), lines[4], lines[7].strip() == "ready")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(f"{address.socket_folder}/.s.PGSQL.{PORT}")
    except (OSError, ValueError, IndexError):
        return None
    return address


def _start(home: Path) -> Address:
    """Start the server, making its data first if there is none."""
    programs = program.find()
    data = cluster.data(home, programs)
    words = ""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if address := _running(home):
            return address
        if not _listening(home):  # else it was begun by a process that was killed: wait for it
            words = _launch(data, programs)
            if not any(sign in words for sign in JUST_KILLED) and not _listening(home):
                break
        time.sleep(0.1)
    raise _does_not_start(data, words)


def _launch(data: Path, programs: Programs) -> str:
    """Run pg_ctl, which returns when the server answers; return the log if it does not."""
    output = data / LOG
    if output.exists():
        output.replace(data / f"{LOG}.1")
    place = str(cluster.socket_folder(data, programs)).replace('"', '""')
    # The data's path goes through the environment: pg_ctl would paste it into a shell command.
    done = programs.run(
        *("pg_ctl", "start", "-w", "-s", "-t", str(START_SECONDS), "-l", LOG),
        *("-o", "-k " + shlex.quote(f'"{place}"')),
        environment={"PGDATA": str(data)},
        folder=data,
    )
    return output.read_text(errors="replace") if output.exists() else done.stderr


def _does_not_start(data: Path, words: str) -> StorageError:
    said = "\n    ".join(words.strip().splitlines()[-8:])
    full = "No space left on device" in said
    return StorageError(
        "the embedded server does not start",
        f"the end of {data / LOG}:\n    {said}",
        "free some space on the disk"
        if full
        else "mend what the log says, or set TUNESVC_STORAGE to the URL of another server",
    )


def _stop(home: Path) -> None:
    data = (home / "postgres").resolve()
    arguments = ("stop", "-w", "-s", "-m", "fast", "-t", str(START_SECONDS))
    done = program.find().run("pg_ctl", *arguments, environment={"PGDATA": str(data)})
    if done.returncode:
        raise StorageError("the embedded server does not stop", done.stderr.strip())
