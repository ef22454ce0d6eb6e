"""Short answers: a page, a redirection, and a refusal in the manner that who asks can read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from tunesvc.dashboard import page
from tunesvc.dashboard.headers import Headers


def html(
    environ: dict[str, Any],
    start_response: Any,
    body: bytes,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Headers | None = None,
) -> Iterable[bytes]:
    """Answer with a page."""
    start_response(_line(status), [*_shape("text/html", body, status), *(headers or [])])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def redirect(start_response: Any, path: str, headers: Headers | None = None) -> Iterable[bytes]:
    """Send the browser to a path of this site, to be read (GET)."""
    location = [("Location", path), ("Content-Length", "0")]
    start_response(_line(HTTPStatus.SEE_OTHER), [*location, *(headers or [])])
    return [b""]


def refusal(
    environ: dict[str, Any],
    start_response: Any,
    status: HTTPStatus,
    why: str,
) -> Iterable[bytes]:
    """Refuse in one sentence: to a person as a page, to a program as JSON."""
    if is_person(environ):
        return html(environ, start_response, page.told(status.phrase, why, environ), status)
    body = json.dumps({"reason": why}).encode()  # as optuna-dashboard's page expects it
    start_response(_line(status), _shape("application/json", body, status))
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def is_person(environ: dict[str, Any]) -> bool:
    """Whether somebody looks at the answer itself, not a program or a page's script."""
    is_page = not environ.get("PATH_INFO", "").startswith(("/api/", "/metrics"))
    return is_page and "text/html" in environ.get("HTTP_ACCEPT", "")


def _shape(kind: str, body: bytes, status: HTTPStatus) -> Headers:
    shape = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
    if status is HTTPStatus.UNAUTHORIZED:
        shape.append(("WWW-Authenticate", 'Bearer realm="tunesvc"'))
    return shape


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"
