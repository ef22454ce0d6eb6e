"""Who may ask what of the site, before anything of it is asked.

    open to all            /healthz /readyz /login and style sheets
    a reader               looks: GET and HEAD
    an editor              changes too what `changes` lets pass
    nobody logged in       is led to /login; a program is told 401

Without a users file there is no login: then the site is served to this machine only, and under
this machine's own names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError

from tunesvc.dashboard import answers, changes, headers, login, page
from tunesvc.dashboard.live import OPEN
from tunesvc.dashboard.login import Login
from tunesvc.dashboard.origin import SAFE, is_local_name, origin
from tunesvc.dashboard.page import Caller
from tunesvc.dashboard.roster import Roster
from tunesvc.errors import UsageError
from tunesvc.storage import Store

log = logging.getLogger(__name__)

Site = Callable[[dict[str, Any], Any], Iterable[bytes]]


class _Refusal(Exception):  # noqa: N818 (what is answered, nobody's error)
    """A request is answered with a status and a sentence."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(status, why)
        self.status, self.why = status, why


class Guard:
    """The site behind its login, as a WSGI application; threads may share it.

    Args:
        users: who may enter; None: no login.
        port: that the dashboard listens on.
        is_tls: whatever the request says, the browser speaks TLS with somebody before us.
    """

    def __init__(
        self, site: Site, store: Store, users: Roster | None, port: int, *, is_tls: bool = False
    ) -> None:
        self._site, self._store, self._is_tls = site, store, is_tls
        self._login = Login(users, port) if users else None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        path = environ.get("PATH_INFO", "")
        tls = self._is_tls or environ.get("wsgi.url_scheme") == "https"
        start = headers.careful(start_response, path, tls=tls)
        environ.pop(page.CALLER, None)
        try:
            return self._answer(environ, start, path, tls)
        except _Refusal as refusal:
            return answers.refusal(environ, start, refusal.status, refusal.why)
        except UsageError:
            why = "Nobody can log in: the users file cannot be read. The dashboard's log says why."
        except SQLAlchemyError:
            log.warning("no answer to %s: the database is away", environ["REQUEST_METHOD"])
            why = "The database is away. Try again in a moment."
        except Exception:
            log.exception("no answer to %s %s", environ["REQUEST_METHOD"], ascii(path))
            why = "Something went wrong here. The dashboard's log says what."
            return answers.refusal(environ, start, HTTPStatus.INTERNAL_SERVER_ERROR, why)
        return answers.refusal(environ, start, HTTPStatus.SERVICE_UNAVAILABLE, why)

    def _answer(self, environ: dict[str, Any], start: Any, path: str, tls: bool) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in SAFE and (path in OPEN or path in page.STYLES):
            return self._site(environ, start)
        if path in {login.PATH, "/logout"}:
            return self._door(environ, start, path, tls)
        is_by_token = environ.get("HTTP_AUTHORIZATION", "").lower().startswith("bearer ")
        caller = self._caller(environ, tls, is_by_token)
        if caller is None and self._login:
            return _led_to_login(environ, start, path)
        if environ["REQUEST_METHOD"] not in SAFE:
            # No browser sends a token by itself: no other site can have made it do so.
            made = "own" if caller and is_by_token else origin(environ)
            self._check_change(environ, path, caller, made)
        environ[page.CALLER] = caller
        return self._site(environ, start)

    def _door(self, environ: dict[str, Any], start: Any, path: str, tls: bool) -> Iterable[bytes]:
        if self._login is None:
            return answers.redirect(start, login.FIRST_PAGE)
        if path == login.PATH:
            return self._login.answer(environ, start, tls=tls)
        environ[page.CALLER] = self._login.caller(environ, tls=tls)
        if environ["REQUEST_METHOD"] != "POST" or origin(environ) != "own":
            raise _Refusal(HTTPStatus.FORBIDDEN, "The button “Log out” is the way out.")
        return self._login.leave(environ, start, tls=tls)

    def _caller(self, environ: dict[str, Any], tls: bool, is_by_token: bool) -> Caller | None:
        """Return who asks.

        Raises:
            _Refusal: by a token of nobody's; or from where nobody may without a login.
        """
        if self._login is None:
            if not is_local_name(environ):
                why = "Without a users file this dashboard answers only as localhost or 127.0.0.1."
                raise _Refusal(HTTPStatus.FORBIDDEN, why)
            return None
        if is_by_token:
            if caller := self._login.bearer(environ):
                return caller
            log.warning("a token from %s refused", environ.get("REMOTE_ADDR"))
            raise _Refusal(HTTPStatus.UNAUTHORIZED, "No such token is known here.")
        return self._login.caller(environ, tls=tls)

    def _check_change(
        self, environ: dict[str, Any], path: str, caller: Caller | None, made: str
    ) -> None:
        """Let only changes pass that may be made.

        Raises:
            _Refusal: it comes from another site, or is more than a reader may, or harms a study.
        """
        if made == "foreign" or (made == "unknown" and caller):
            why = "This came from another site than the dashboard's own. Scripts need a token."
            raise _Refusal(HTTPStatus.FORBIDDEN, why)
        who = caller.name if caller else "this machine"
        if caller and caller.role != "editor":
            log.warning("%s, a reader, may not %s %s", who, environ["REQUEST_METHOD"], ascii(path))
            raise _Refusal(HTTPStatus.FORBIDDEN, f"{who} is a reader, and may change nothing.")
        refused = changes.refused(self._store, environ["REQUEST_METHOD"], path)
        if refused and not refused.study:
            raise _Refusal(HTTPStatus.NOT_FOUND, refused.why)
        if refused:
            log.warning("%s may not change %s: %s", who, refused.study, refused.why)
            raise _Refusal(HTTPStatus.CONFLICT, refused.why)
        log.info("%s: %s %s", who, environ["REQUEST_METHOD"], ascii(path))


def _led_to_login(environ: dict[str, Any], start: Any, path: str) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "GET" and answers.is_person(environ):
        query = environ.get("QUERY_STRING", "")
        wanted = quote(path.encode("latin-1")) + (f"?{query}" if query else "")
        return answers.redirect(start, f"{login.PATH}?next={quote(wanted, safe='/')}")
    why = "Nobody is logged in, or no longer. Load the page again to log in."
    return answers.refusal(environ, start, HTTPStatus.UNAUTHORIZED, why)
