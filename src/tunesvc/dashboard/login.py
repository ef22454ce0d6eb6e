"""Logging in and out, and who sends a request: by a session's cookie or by a token.

Why: 2026-11: the cookie is SameSite=Lax, not Strict: a link from a chat to a study would else ask
people who are logged in to log in. What changes something is looked at by its origin as well.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from http import HTTPStatus
from math import ceil
from typing import Any
from urllib.parse import parse_qs

from tunesvc.dashboard import answers, page, passwords, users
from tunesvc.dashboard.attempts import Attempts
from tunesvc.dashboard.origin import origin
from tunesvc.dashboard.page import Caller
from tunesvc.dashboard.roster import Roster
from tunesvc.dashboard.sessions import Sessions
from tunesvc.dashboard.users import User
from tunesvc.errors import TuneError

log = logging.getLogger(__name__)

PATH = "/login"
FIRST_PAGE = "/dashboard"
LONGEST_FORM = 8192  # bytes

_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")  # a browser takes "//" and "/\" for another site


class Login:
    """The way in and out; threads may share it.

    Args:
        port: the dashboard's; browsers do not tell apart one machine's ports, cookies' names must.
    """

    def __init__(self, roster: Roster, port: int) -> None:
        self._roster, self._port = roster, port
        self._sessions, self._attempts = Sessions(), Attempts()
        passwords.prepare()

    def caller(self, environ: dict[str, Any], *, tls: bool) -> Caller | None:
        """Return who sends a request, by the cookie; None: nobody who is logged in.

        Raises:
            UsageError: the users file cannot be read.
        """
        token = self._cookie(environ, tls)
        found = self._sessions.find(token) if token else None
        if found is None:
            return None
        name, entry = found
        if self._roster.current().get(name) != entry:  # removed, or given another password or role
            self._sessions.end(token)
            return None
        return Caller(name, entry.role)

    def bearer(self, environ: dict[str, Any]) -> Caller | None:
        """Return whose token a request shows; None: nobody's.

        Raises:
            UsageError: the users file cannot be read.
        """
        token = environ["HTTP_AUTHORIZATION"].partition(" ")[2].strip()
        found = self._roster.of_token(token)
        return None if found is None else Caller(found[0], found[1].role)

    def answer(self, environ: dict[str, Any], start_response: Any, *, tls: bool) -> Iterable[bytes]:
        """Show the form, or look at what was sent with it."""
        if environ["REQUEST_METHOD"] != "POST":
            following = _following(environ.get("QUERY_STRING", ""))
            if self.caller(environ, tls=tls):
                return answers.redirect(start_response, following)
            return answers.html(environ, start_response, page.login(following))
        if origin(environ) == "foreign":
            why = "This form was sent from another site."
            return answers.refusal(environ, start_response, HTTPStatus.FORBIDDEN, why)
        return self._enter(environ, start_response, tls)

    def leave(self, environ: dict[str, Any], start_response: Any, *, tls: bool) -> Iterable[bytes]:
        """End the session."""
        self._sessions.end(self._cookie(environ, tls))
        caller = environ.get(page.CALLER)
        log.info("%s logged out", caller.name if caller else "nobody")
        return answers.redirect(start_response, PATH, [self._set_cookie("", tls, "; Max-Age=0")])

    def _enter(self, environ: dict[str, Any], start_response: Any, tls: bool) -> Iterable[bytes]:
        form = _form(environ)
        name, password = _first(form, "name").strip(), _first(form, "password")
        address = environ.get("REMOTE_ADDR", "")
        known = name if users.NAME.fullmatch(name) else ""
        following = _own_path(_first(form, "next"))
        wait = ceil(self._attempts.admit(known, address))
        if wait:
            log.warning("login from %s refused: too many attempts", address)
            trouble = f"Too many attempts. Try again in {wait} seconds."
            form_again = page.login(following, name=known, trouble=trouble)
            status, headers = HTTPStatus.TOO_MANY_REQUESTS, [("Retry-After", str(wait))]
            return answers.html(environ, start_response, form_again, status, headers)
        entry = self._checked(known, password, address)
        if entry is None:
            trouble = "The name or the password is wrong."
            form_again = page.login(following, name=known, trouble=trouble)
            return answers.html(environ, start_response, form_again, HTTPStatus.UNAUTHORIZED)
        self._attempts.succeeded(known, address)
        self._sessions.end(self._cookie(environ, tls))
        cookie = self._set_cookie(self._sessions.begin(known, entry), tls)
        log.info("%s logged in from %s", known, address)
        return answers.redirect(start_response, following, [cookie])

    def _checked(self, name: str, password: str, address: str) -> User | None:
        """Return a user's entry if the password is his."""
        entry = self._roster.current().get(name)
        kept = entry.password if entry else None
        if not passwords.matches(kept, password) or entry is None or kept is None:
            # The name of nobody may be a password, typed into the wrong field.
            log.warning("login from %s refused: %s", address, name if entry else "unknown name")
            return None
        if not passwords.is_outdated(kept):
            return entry
        try:
            return users.rehash(self._roster.path, name, entry, password)
        except TuneError as error:  # a file that only others may write
            log.info("the password of %s keeps its older hash: %s", name, error.what)
            return entry

    def _cookie(self, environ: dict[str, Any], tls: bool) -> str:
        """Return the session's token; empty where there is none.

        Not by `http.cookies`: one odd cookie of another program on this machine hides all others.
        """
        wanted = self._cookie_name(tls)
        for part in environ.get("HTTP_COOKIE", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == wanted:
                return str(value)
        return ""

    def _set_cookie(self, token: str, tls: bool, more: str = "") -> tuple[str, str]:
        attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if tls else "") + more
        return "Set-Cookie", f"{self._cookie_name(tls)}={token}{attributes}"

    def _cookie_name(self, tls: bool) -> str:
        # With the prefix __Host- no other site under the same domain can set it (RFC 6265bis).
        return ("__Host-" if tls else "") + f"tunesvc-{self._port}"


def _form(environ: dict[str, Any]) -> dict[str, list[str]]:
    """Return what was sent with the form; nothing where it cannot be read as one."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if not 0 < length <= LONGEST_FORM:
            return {}
        sent = environ["wsgi.input"].read(length).decode("utf-8")
        return parse_qs(sent, keep_blank_values=True, max_num_fields=8)
    except ValueError:
        return {}


def _first(form: dict[str, list[str]], key: str) -> str:
    return form.get(key, [""])[0]


def _following(query: str) -> str:
    try:
        return _own_path(_first(parse_qs(query, max_num_fields=8), "next"))
    except ValueError:
        return FIRST_PAGE


def _own_path(wanted: str) -> str:
    """Return a path of this site that somebody wanted to see; else the first page."""
    return wanted if _OWN_PATH.fullmatch(wanted) else FIRST_PAGE
