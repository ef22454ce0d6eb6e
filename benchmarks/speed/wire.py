"""A wire to Postgres that counts what passes: round trips, and bytes.

Counting statements misses what the driver adds (BEGIN, COMMIT, ROLLBACK, pings). Here a trip is
counted whenever the client speaks after the server did, whatever it says.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from types import TracebackType

from sqlalchemy import URL, make_url


class Wire:
    """A local TCP port that leads to a Postgres; counts are of all its connections."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.trips = 0
        self.received = 0  # bytes that the client was sent
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of the database by this wire; its password is shown."""
        port = self._listener.getsockname()[1]
        wired: URL = self._url.set(host="127.0.0.1", port=port, query={})
        return wired.render_as_string(hide_password=False)

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                far = self._connect()
                self._sockets += [near, far]
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _connect(self) -> socket.socket:
        port, folder = self._url.port or 5432, self._url.query.get("host")
        if folder:
            far = socket.socket(socket.AF_UNIX)
            far.connect(f"{folder}/.s.PGSQL.{self._url.query.get('port', port)}")
            return far
        far = socket.create_connection((self._url.host or "127.0.0.1", port))
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return far

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        client_spoke_last = False
        with suppress(OSError, ValueError):  # one of them was closed
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        near.close()
                        far.close()
                        return
                    if source is near:
                        self.trips += not client_spoke_last
                    else:
                        self.received += len(data)
                    client_spoke_last = source is near
                    (far if source is near else near).sendall(data)
