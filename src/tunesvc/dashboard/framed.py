"""optuna-dashboard with our bar on its page, and a stricter policy than its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tunesvc.dashboard import page
from tunesvc.dashboard.headers import OPTUNA_POLICY, Headers

_PAGES = "/dashboard"
_END = b"</body>"
# The page is another for each user: no older copy of it, and no part of it, will do.
_ABOUT_COPIES = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE", "HTTP_IF_RANGE")
_REPLACED = frozenset(
    {"content-length", "content-security-policy", "last-modified", "etag", "accept-ranges"}
)


class Framed:
    """A WSGI application around optuna-dashboard's; threads may share it.

    Why: 2026-11: its page is filled by its script; an element behind what that script fills is left
    alone, needs no script itself, and stands there whatever a later version draws.
    """

    def __init__(self, pages: Any) -> None:
        self._pages = pages

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        if not environ.get("PATH_INFO", "").startswith(_PAGES):
            answer: Iterable[bytes] = self._pages(environ, start_response)
            return answer
        if environ["REQUEST_METHOD"] == "HEAD":  # as long as a GET would be
            return [b"" for _ in self(environ | {"REQUEST_METHOD": "GET"}, start_response)]
        status, headers, body = self._asked(environ)
        if dict(headers).get("Content-Type", "").startswith("text/html") and _END in body:
            bar = page.bar(environ, inline=True).encode()
            body = body.replace(_END, bar + _END)
        kept = [(name, value) for name, value in headers if name.lower() not in _REPLACED]
        policy = ("Content-Security-Policy", OPTUNA_POLICY)
        start_response(status, [*kept, policy, ("Content-Length", str(len(body)))])
        return [body]

    def _asked(self, environ: dict[str, Any]) -> tuple[str, Headers, bytes]:
        told: list[tuple[str, Headers]] = []
        plain = {name: value for name, value in environ.items() if name not in _ABOUT_COPIES}
        parts = self._pages(plain, lambda status, headers, *_: told.append((status, headers)))
        try:
            body = b"".join(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return *told[-1], body
