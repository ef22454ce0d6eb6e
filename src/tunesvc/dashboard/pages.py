"""What is answered: optuna-dashboard's own pages, and our reports beside them (WSGI)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from html import escape
from typing import Any
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tunesvc import report, study
from tunesvc.errors import StudyError, TuneError
from tunesvc.storage import Store

log = logging.getLogger(__name__)

REPORTS = "/report"

_PLAIN = "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title><h1>{0}</h1>{1}"


class _Sql:
    GENERATION = text("SELECT coalesce(sum(generation), 0) FROM tunesvc.study")


class Pages:
    """The whole site, as a WSGI application; threads may share it.

    Why: 2026-11: Optuna's storage reads a finished trial once and keeps it, and would show one
    that `tunesvc retry` put back as failed for ever. So optuna-dashboard's part is made anew
    whenever trials were put back.
    """

    def __init__(self, store: Store) -> None:
        from optuna_dashboard import wsgi

        self._store, self._lock = store, threading.Lock()
        self._generation = self._asked()
        self._pages = wsgi(store.plain())

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        path = environ.get("PATH_INFO", "")
        if path == REPORTS or path.startswith(f"{REPORTS}/"):
            name = path.removeprefix(REPORTS).strip("/").encode("latin-1")  # PEP 3333
            return self._report(name.decode(errors="replace"), start_response)
        if path.startswith("/api/"):
            self._renew()
        answer: Iterable[bytes] = self._pages(environ, start_response)
        return answer

    def _report(self, name: str, start_response: Any) -> Iterable[bytes]:
        status, body = self._page(name)
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response(status, headers)
        return [body]

    def _page(self, name: str) -> tuple[str, bytes]:
        try:
            if not name:
                return "200 OK", _index(study.names(self._store))
            return "200 OK", report.page(study.open_study(self._store, name))
        except StudyError as error:
            return "404 Not Found", _told("There is no such report", error)
        except TuneError as error:
            return "503 Service Unavailable", _told("No report can be made now", error)
        except SQLAlchemyError:
            log.warning("no report of %s: the database is away", name)
            words = "<p>The database is away. Load this page again in a moment.</p>"
            return "503 Service Unavailable", _PLAIN.format("No report now", words).encode()

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


def _index(names: list[str]) -> bytes:
    lines = "".join(
        f'<li><a href="{REPORTS}/{quote(name, safe="")}">{escape(name)}</a></li>' for name in names
    )
    words = f"<ul>{lines}</ul>" if names else "<p>There are no studies yet.</p>"
    return _PLAIN.format("Reports", f'{words}<p><a href="/">dashboard</a></p>').encode()


def _told(title: str, error: TuneError) -> bytes:
    words = f'<pre>{escape(str(error))}</pre><p><a href="{REPORTS}">all reports</a></p>'
    return _PLAIN.format(title, words).encode()
