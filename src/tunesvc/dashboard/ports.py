"""Which port of this machine the dashboard listens on."""

from __future__ import annotations

import socket

from tunesvc.errors import UsageError

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 8080, 20


def checked_port(wanted: int | None) -> int:
    """Return the wanted port, or the first free one from 8080 on.

    Raises:
        UsageError: there is no such port, or another program listens on it.
    """
    if wanted is None:
        return free_port()
    if not 1 <= wanted <= 65535:
        raise UsageError(f"--port {wanted}: no such port", "ports go from 1 to 65535")
    if not _is_free(wanted):
        raise UsageError(
            f"--port {wanted} cannot be had on {HOST}",
            "another program listens on it, or this user may not",
            f"leave --port out: the first free one from {FIRST_PORT} on is taken",
        )
    return wanted


def free_port(first: int = FIRST_PORT) -> int:
    """Return the first free port from `first` on.

    Raises:
        UsageError: none of the next twenty is free.
    """
    for port in range(first, first + PORTS):
        if _is_free(port):
            return port
    raise UsageError(
        f"no free port from {first} to {first + PORTS - 1} on {HOST}",
        "other programs listen on all of them",
        "give another with --port",
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
