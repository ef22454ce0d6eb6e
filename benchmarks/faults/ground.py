"""A Postgres server of its own and folders, which vanish at the end, whatever happened."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine, text

from tunesvc.storage import program, server

MEMORY = Path("/dev/shm")


@dataclass
class Ground:
    """Where the faults are made."""

    folder: Path
    url: URL
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def home(self) -> Path:
        """The server's home."""
        return self.folder / "home"

    def database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"faults_{next(self._numbers)}"
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return self.url.set(database=name).render_as_string(hide_password=False)

    def new_folder(self, name: str) -> Path:
        """Make an empty folder."""
        path = self.folder / f"{name}-{next(self._numbers)}"
        path.mkdir()
        return path

    def restart_server(self, mode: str) -> None:
        """Restart Postgres: `fast` ends every session, `immediate` is a crash with recovery."""
        data = (self.home / "postgres").resolve()
        done = program.find().run(
            *("pg_ctl", "restart", "-w", "-s", "-m", mode, "-l", server.LOG),
            environment={"PGDATA": str(data)},
            folder=data,
        )
        if done.returncode:
            raise RuntimeError(f"Postgres does not restart: {done.stderr}")


@contextmanager
def ground() -> Iterator[Ground]:
    """Have a server and folders while the block runs; SIGTERM ends it as Ctrl-C does."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**31
    folder = Path(tempfile.mkdtemp(prefix="tsv-faults-", dir=MEMORY if roomy else None))
    folder.chmod(0o755)  # root's server runs as another user
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    home = folder / "home"
    try:
        with server.using(home) as url:
            yield Ground(folder, url)
    finally:
        server.stop(home, force=True)
        data = home / "postgres"
        if data.is_symlink():
            shutil.rmtree(data.resolve(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
