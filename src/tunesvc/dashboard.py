"""optuna-dashboard on this machine's own address.

Why: 2026-11: it has no login, and whoever reaches its port may delete studies. It therefore
listens on 127.0.0.1 and nowhere else until the service has a login of its own.
"""

from __future__ import annotations

import socket

from tunesvc.errors import UsageError
from tunesvc.storage import open_store

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 8080, 20
THREADS = 8


def free_port(first: int = FIRST_PORT) -> int:
    """Return the first free port from `first` on.

    Raises:
        UsageError: none of the next twenty is free.
    """
    for port in range(first, first + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UsageError(
        f"no free port from {first} to {first + PORTS - 1} on {HOST}",
        "other programs listen on all of them",
        "give another with --port",
    )


def serve(storage: str | None, port: int) -> None:
    """Serve until interrupted."""
    import waitress
    from optuna_dashboard import wsgi

    with open_store(storage, connections=THREADS) as store:
        waitress.serve(wsgi(store.optuna), host=HOST, port=port, threads=THREADS, _quiet=True)
