"""Whom we believe who the browser is, and that it speaks TLS: one proxy before us, if there is one.

Why: 2026-11: waitress compares with one fixed address. A container's changes when it is made anew,
and it may start after us: its name is looked up when an address is not known yet.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from waitress.proxy_headers import proxy_headers_middleware

LOOK_SECONDS = 5.0  # at least, between two lookups of the name

_BELIEVED = {"x-forwarded-for", "x-forwarded-proto"}

Site = Callable[[dict[str, Any], Any], Iterable[bytes]]


class BehindProxy:
    """A site whose requests may come through a proxy; threads may share it.

    Args:
        proxy: its address or host name; from others, what they say of themselves is not believed.
    """

    def __init__(self, site: Site, proxy: str) -> None:
        self._proxy, self._lock = proxy, threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._looked = -LOOK_SECONDS
        self._plain = proxy_headers_middleware(site)
        self._believing = proxy_headers_middleware(
            site, trusted_proxy="*", trusted_proxy_count=1, trusted_proxy_headers=_BELIEVED
        )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        # Others never wait for a name server.
        says = "HTTP_X_FORWARDED_FOR" in environ or "HTTP_X_FORWARDED_PROTO" in environ
        is_proxy = says and self._is_proxy(environ.get("REMOTE_ADDR", ""))
        site = self._believing if is_proxy else self._plain
        answer: Iterable[bytes] = site(environ, start_response)
        return answer

    def _is_proxy(self, address: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if address in self._known or now - self._looked < LOOK_SECONDS:
                return address in self._known
            self._looked = now
        found = _addresses(self._proxy)  # a name server may be slow: nobody else waits for it
        with self._lock:
            self._known = found
        return address in found


def _addresses(name: str) -> frozenset[str]:
    try:
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(name, None))
    except OSError:  # it has not been started yet
        return frozenset()
