"""What is answered: optuna-dashboard's own pages, and ours beside them (WSGI)."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tunesvc import report, study
from tunesvc.dashboard import answers, page
from tunesvc.dashboard.framed import Framed
from tunesvc.dashboard.headers import REPORT_POLICY
from tunesvc.dashboard.live import PATHS, Live
from tunesvc.dashboard.origin import SAFE
from tunesvc.dashboard.pictures import ARTIFACTS, Pictures
from tunesvc.errors import StudyError, TuneError
from tunesvc.storage import Store

log = logging.getLogger(__name__)

REPORTS = "/report"
# A study is deleted without its artifacts, which are stored nowhere: optuna-dashboard would read
# all of its trials to look for some, and fail where there is no study.
_ALONE_BODY = b'{"remove_associated_artifacts": false}'
_ALONE = {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(_ALONE_BODY))}


class _Sql:
    GENERATION = text("SELECT coalesce(sum(generation), 0) FROM tunesvc.study")


class Pages:
    """The whole site, as a WSGI application; threads may share it.

    Why: 2026-11: Optuna's storage reads a finished trial once and keeps it, and would show one
    that `tunesvc retry` put back as failed for ever. So optuna-dashboard's part is made anew
    whenever trials were put back; until then all requests share one storage.
    """

    def __init__(self, store: Store) -> None:
        from optuna_dashboard import wsgi

        self._store, self._lock = store, threading.Lock()
        self._live = Live(store)
        self._generation = self._asked()
        self._pictures = Pictures(store)
        self._pages = Framed(wsgi(store.plain(), self._pictures))

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        path = environ.get("PATH_INFO", "")
        if path in PATHS:
            return self._live(environ, start_response)
        if path in page.STYLES:
            return _style(page.style_sheet(path), environ, start_response)
        if path == REPORTS or path.startswith(f"{REPORTS}/"):
            name = path.removeprefix(REPORTS).strip("/").encode("latin-1")  # PEP 3333
            return self._report(name.decode(errors="replace"), environ, start_response)
        if not path.strip("/"):
            return answers.redirect(start_response, "/dashboard")
        if path.startswith(ARTIFACTS):
            return self._pictures(environ, start_response)
        if path.startswith("/api/"):
            self._renew()
        if environ["REQUEST_METHOD"] == "DELETE":
            environ = environ | _ALONE | {"wsgi.input": io.BytesIO(_ALONE_BODY)}
        return self._pages(environ, start_response)

    def _report(self, name: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in SAFE:
            why = "A report is only to be read."
            return answers.refusal(environ, start_response, HTTPStatus.METHOD_NOT_ALLOWED, why)
        try:
            if not name:
                index = _index(study.names(self._store), environ)
                return answers.html(environ, start_response, index)
            body = report.page(study.open_study(self._store, name))
        except StudyError as error:
            status, title, words = HTTPStatus.NOT_FOUND, "There is no such report", str(error)
        except TuneError as error:
            status, title = HTTPStatus.SERVICE_UNAVAILABLE, "No report can be made now"
            words = str(error)
        except SQLAlchemyError:
            log.warning("no report of %s: the database is away", ascii(name))
            status, title = HTTPStatus.SERVICE_UNAVAILABLE, "No report now"
            words = "The database is away. Load this page again in a moment."
        else:
            policy = [("Content-Security-Policy", REPORT_POLICY)]
            return answers.html(environ, start_response, body, headers=policy)
        return answers.html(environ, start_response, page.told(title, words, environ), status)

    def _renew(self) -> None:
        from optuna_dashboard import wsgi

        with self._lock:
            try:
                now = self._asked()
            except SQLAlchemyError:  # the page tells of a database that is away
                return
            if now != self._generation:
                self._generation = now
                self._pages = Framed(wsgi(self._store.plain(), self._pictures))

    def _asked(self) -> int:
        with self._store.engine.connect() as connection:
            return int(connection.execute(_Sql.GENERATION).scalar_one())


def _style(sheet: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = sheet.encode()
    shape = [("Content-Type", "text/css; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", shape)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def _index(names: list[str], environ: dict[str, Any]) -> bytes:
    line = Markup('<li><a href="{}/{}">{}</a></li>')
    lines = Markup("").join(line.format(REPORTS, quote(name, safe=""), name) for name in names)
    none = Markup("<p>There are no studies yet.</p>")
    return page.html("Reports", Markup("<ul>{}</ul>").format(lines) if names else none, environ)
