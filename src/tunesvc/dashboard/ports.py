"""Which port of this machine the dashboard listens on."""

from __future__ import annotations

import errno
import socket

from tunesvc.errors import UsageError

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 8080, 20


def checked_port(wanted: int | None, host: str = HOST) -> int:
    """Return the wanted port, or the first free one from 8080 on.

    Raises:
        UsageError: there is no such address or port, or another program listens on it.
    """
    if wanted is None:
        return free_port(host=host)
    if not 1 <= wanted <= 65535:
        raise UsageError(f"--port {wanted}: no such port", "ports go from 1 to 65535")
    if not _is_free(wanted, host):
        raise UsageError(
            f"--port {wanted} cannot be had on {host}",
            "another program listens on it, or this user may not",
            f"leave --port out: the first free one from {FIRST_PORT} on is taken",
        )
    return wanted


def free_port(first: int = FIRST_PORT, host: str = HOST) -> int:
    """Return the first free port from `first` on.

    Raises:
        UsageError: none of the next twenty is free, or there is no such address.
    """
    for port in range(first, first + PORTS):
        if _is_free(port, host):
            return port
    raise UsageError(
        f"no free port from {first} to {first + PORTS - 1} on {host}",
        "other programs listen on all of them",
        "give another with --port",
    )


def _is_free(port: int, host: str) -> bool:
    family, address = _address(port, host)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise _no_such(host, error.strerror or str(error)) from error
            return False
    return True


def _address(port: int, host: str) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise _no_such(host, error.strerror or str(error)) from error
    return found[0], found[4]


def _no_such(host: str, why: str) -> UsageError:
    return UsageError(f"--host {host}: this machine has no such address", why, f"e.g. {HOST}")
