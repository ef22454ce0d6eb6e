"""Where the dashboard listens, and whether people must log in there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tunesvc.dashboard import users
from tunesvc.dashboard.origin import is_loopback
from tunesvc.dashboard.ports import HOST, checked_port
from tunesvc.errors import UsageError

ONLY_HERE = "no login: this machine only"


@dataclass(frozen=True)
class Listening:
    """Where the dashboard listens.

    Args:
        users: the users file; None: no login.
        proxy: whose word about the browser's address and TLS is taken.
        is_tls: somebody before us always speaks TLS.
    """

    host: str
    port: int
    users: Path | None = None
    proxy: str | None = None
    is_tls: bool = False

    def briefly(self) -> str:
        """Return its address, and whether people must log in there."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port} ({f'login: {self.users}' if self.users else ONLY_HERE})"

    def told(self) -> str:
        """Return what whoever starts it is to know, line by line."""
        lines = [f"{self.briefly()}; Ctrl-C stops it"]
        if not (is_loopback(self.host) or self.is_tls):
            others = f", except by way of {self.proxy}" if self.proxy else ""
            lines.append(f"without TLS{others}, passwords can be read on their way here")
        return "\n".join(lines)


def listening(
    host: str = HOST,
    port: int | None = None,
    *,
    users_file: Path | None = None,
    proxy: str | None = None,
    is_tls: bool = False,
) -> Listening:
    """Return where the dashboard is to listen.

    Raises:
        UsageError: there is no such address or port; others could reach it without a login; or
            nobody could log in.
    """
    file = in_force(users_file)
    exposed = f"--host {host}" if not is_loopback(host) else _by_way_of(proxy, is_tls)
    if file is None and exposed:
        raise UsageError(
            f"{exposed} needs a login",
            f"there is no users file ({users.default_path()}), and whoever reaches that address "
            "could delete studies",
            "tunesvc user add NAME --role editor, then the same command",
        )
    return Listening(host, checked_port(port, host), file, proxy, is_tls)


def _by_way_of(proxy: str | None, is_tls: bool) -> str:
    """Return the option that says that others come by way of a proxy; "" without one."""
    return f"--behind-proxy {proxy}" if proxy else "--secure-cookies" if is_tls else ""


def in_force(given: Path | None = None) -> Path | None:
    """Return the users file that decides who may enter; None: there is none, and no login.

    Raises:
        UsageError: it is not a users file, or nobody stands in it.
    """
    path = given.absolute() if given else users.default_path()
    if not (given or os.environ.get(users.VARIABLE) or path.exists()):
        return None
    if not users.read(path):
        fix = "tunesvc user add NAME --role editor"
        raise UsageError(f"nobody could log in: the users file {path} has no names", "", fix)
    return path
