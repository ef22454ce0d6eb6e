"""optuna-dashboard on this machine's own address.

Why: 2026-11: it has no login, and whoever reaches its port may delete studies. It therefore
listens on 127.0.0.1 and nowhere else until the service has a login of its own.

Why: 2026-11: requests are answered in a thread, and the main one looks for a signal. Raised as an
exception wherever the signal comes, it was lost in libraries that catch everything: while they
were being imported, and in the server's loop.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tunesvc import interrupt, processes
from tunesvc.errors import UsageError
from tunesvc.storage import Store, open_store

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 8080, 20
THREADS = 8
STOP_SECONDS = 0.1  # at most, until a signal is heard


class _Sql:
    GENERATION = text("SELECT coalesce(sum(generation), 0) FROM tunesvc.study")


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


def serve(storage: str | None, port: int) -> None:
    """Serve until interrupted, or until the `up` that started it is gone."""
    processes.end_with_parent()
    with interrupt.deferred():
        import waitress

        with open_store(storage, connections=THREADS) as store:
            server = waitress.create_server(_Pages(store), host=HOST, port=port, threads=THREADS)
            answering = threading.Thread(target=server.run, daemon=True)
            answering.start()
            while answering.is_alive():
                interrupt.check()
                time.sleep(STOP_SECONDS)


class _Pages:
    """optuna-dashboard, made anew whenever failed trials were put back.

    Why: 2026-11: Optuna's storage reads a finished trial once and keeps it, and would show one
    that `tunesvc retry` put back as failed for ever.
    """

    def __init__(self, store: Store) -> None:
        from optuna_dashboard import wsgi

        self._store, self._lock = store, threading.Lock()
        self._generation = self._asked()
        self._pages = wsgi(store.plain())

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a request (WSGI)."""
        if environ.get("PATH_INFO", "").startswith("/api/"):
            self._renew()
        return self._pages(environ, start_response)

    def _renew(self) -> None:
        from optuna_dashboard import wsgi

        with self._lock:
            try:
                now = self._asked()
            except SQLAlchemyError:  # the page tells of a database that is away
                return
            if now != self._generation:
                self._generation, self._pages = now, wsgi(self._store.plain())

    def _asked(self) -> int:
        with self._store.engine.connect() as connection:
            return int(connection.execute(_Sql.GENERATION).scalar_one())
