"""The embedded server's data (PostgreSQL calls it a cluster), its settings and its socket."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from tunesvc.errors import StorageError
from tunesvc.storage import program
from tunesvc.storage.program import Programs

PORT = 5432  # no port is opened: the number is part of the socket's name
LONGEST_SOCKET = 107  # bytes of a path in sockaddr_un, without its final zero

SETTINGS = {
    "listen_addresses": "",  # the socket only: no password, and nobody but this user
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "250",  # 64 workers take 128; each costs 50 kB of shared memory
    "shared_buffers": "64MB",
    "io_method": "sync",  # spares three idle processes
    "max_parallel_workers_per_gather": "0",  # spares /dev/shm, which containers keep small
    "jit": "off",  # our queries are short
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "tunesvc",
}


def data(home: Path, programs: Programs) -> Path:
    """Return the folder of the data, made if there is none.

    Raises:
        StorageError: the data is gone, or of another PostgreSQL.
    """
    link = home / "postgres"
    place = link.resolve()
    if link.is_symlink() and not place.exists():
        raise StorageError(
            "the embedded server's data is gone",
            f"{link} leads to {place}, and nothing is there",
            f"put it back, or begin anew without the old studies: rm '{link}'",
        )
    if not place.exists():
        return _initialise(link, programs)
    version = (place / "PG_VERSION").read_text().strip()
    if version != program.MAJOR:
        raise StorageError(
            "the embedded server's data is of another PostgreSQL",
            f"{place} was written by version {version}, and version {program.MAJOR} is installed",
            f"install the earlier tunesvc and pg_dump it, or begin anew: mv '{link}' elsewhere",
        )
    return place


def _initialise(link: Path, programs: Programs) -> Path:
    """Make the data beside its place and move it there: nothing half made is ever found."""
    inside = programs.may_enter(link.parent)
    if inside:
        new = link.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)  # of a process that was killed right here
        new.mkdir()
    else:
        prefix = hashlib.sha256(os.fsencode(link)).hexdigest()[:8]
        new = Path(tempfile.mkdtemp(dir=program.library(), prefix=f"{prefix}-"))
    programs.own(new)
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    done = programs.run(
        *("initdb", "--auth=trust", "--encoding=UTF8", "--no-locale", "--data-checksums"),
        *(f"--username={program.USER}", *settings),
        environment={"PGDATA": str(new)},
    )
    if done.returncode:
        raise StorageError("the embedded server cannot be set up", done.stderr.strip())
    if inside:
        return new.rename(link)
    link.symlink_to(new)
    return new


def socket_folder(data: Path, programs: Programs) -> Path:
    """Return the data folder, or a folder of the same owner where the path is short enough."""
    if len(os.fsencode(data / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET:
        return data
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"{program.USER}-{programs.uid}-{name}"
    if not folder.exists():
        folder.mkdir(mode=0o700)
        programs.own(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != programs.uid or found.st_mode & 0o077:
        raise StorageError(
            "the embedded server has no safe place for its socket",
            f"{folder} exists, and is not a folder of this user alone",
            "remove it, or set TUNESVC_HOME to a shorter path",
        )
    return folder
