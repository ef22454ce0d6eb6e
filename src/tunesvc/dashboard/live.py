"""How the service is at this moment: for people, for Prometheus, and for whoever starts it anew.

    /status     a page that loads itself again (?refresh=off: not; ?format=json: the same as data)
    /metrics    Prometheus's text format
    /healthz    200 while this process answers
    /readyz     200 while the database answers, and its tables are those of this version; else 503

Why: 2026-11: a database that is away is no fault of this process: to start it anew would help
nobody, and Prometheus is to see `tunesvc_database_up 0` rather than nothing.

Why: 2026-11: anybody may ask whether we are ready, without a login. The answer is kept for a
second, and says nothing more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from tunesvc.dashboard import metrics, status_page
from tunesvc.storage import Store, is_ready
from tunesvc.study import Census

log = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz", status_page.STYLE})  # these need no login
PATHS = OPEN | {"/status", "/metrics"}

READY_SECONDS = 1.0  # so long an answer holds
_TEXT = "text/plain; charset=utf-8"


class _Answer(NamedTuple):
    status: HTTPStatus
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Live:
    """What is told of the present, as a WSGI application; threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store, census = store, Census(store)
        self._page = status_page.Page(store, census)
        self._service = metrics.Service(store, census)
        self._asking, self._ready = threading.Lock(), (-READY_SECONDS, False)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        method = environ.get("REQUEST_METHOD", "GET")
        if method in ("GET", "HEAD"):
            answer = self._answer(environ)
        else:
            refused = HTTPStatus.METHOD_NOT_ALLOWED
            answer = _Answer(refused, _TEXT, b"only GET\n", (("Allow", "GET, HEAD"),))
        headers = [
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ]
        start_response(f"{answer.status.value} {answer.status.phrase}", headers)
        return [b"" if method == "HEAD" else answer.body]

    def _answer(self, environ: dict[str, Any]) -> _Answer:
        match environ.get("PATH_INFO", ""):
            case "/status":
                return self._status(environ)
            case status_page.STYLE:
                return _Answer(HTTPStatus.OK, "text/css; charset=utf-8", status_page.style())
            case "/metrics":
                told = metrics.exposition(self._service)
                return _Answer(HTTPStatus.OK, metrics.CONTENT_TYPE, told)
            case "/healthz":
                return _Answer(HTTPStatus.OK, _TEXT, b"well\n")
            case "/readyz":
                return self._readiness()
        return _Answer(HTTPStatus.NOT_FOUND, _TEXT, b"there is no such page\n")

    def _status(self, environ: dict[str, Any]) -> _Answer:
        asked = parse_qs(environ.get("QUERY_STRING", ""))
        seen = self._page.look()
        status = HTTPStatus.SERVICE_UNAVAILABLE if seen.trouble else HTTPStatus.OK
        if asked.get("format") == ["json"]:
            return _Answer(status, "application/json", status_page.as_json(seen))
        refreshes = asked.get("refresh") != ["off"]
        body = status_page.html(seen, environ, refreshes=refreshes)
        policy = (("Content-Security-Policy", status_page.POLICY),)
        return _Answer(status, "text/html; charset=utf-8", body, policy)

    def _readiness(self) -> _Answer:
        with self._asking:
            asked, ready = self._ready
            if time.monotonic() >= asked + READY_SECONDS:
                ready = is_ready(self._store.engine)
                self._ready = time.monotonic(), ready
        if ready:
            return _Answer(HTTPStatus.OK, _TEXT, b"ready\n")
        return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"not ready\n")
