"""What every answer tells the browser about how carefully it is to be treated.

Source: OWASP, HTTP Headers Cheat Sheet. `no-referrer` would have browsers send `Origin: null` with
our own forms (Fetch, "append a request Origin header"): hence `same-origin`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Headers = list[tuple[str, str]]

_ALONE = "base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
POLICY = f"default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; {_ALONE}"
# Its own, which asks for eval (WebGL) and inline styles (what plotly draws), and our ends to it.
OPTUNA_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' data: 'unsafe-inline'; "
    f"img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; {_ALONE}"
)
# A report says itself, by its scripts' hashes, what may run in it; this is added to it.
REPORT_POLICY = f"form-action 'none'; {_ALONE}"

_ALWAYS = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
_UNDER_TLS = [
    ("Strict-Transport-Security", "max-age=2592000"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
]


def careful(start_response: Any, path: str, *, tls: bool) -> Callable[..., Any]:
    """Return a `start_response` that adds the headers that an answer does not set itself."""
    # What is the same for everybody may be kept, if it is asked for whether it has changed.
    keeping = "private, no-cache" if path.startswith("/static/") else "no-store"
    ours = [*_ALWAYS, ("Cache-Control", keeping), *(_UNDER_TLS if tls else [])]

    def start(status: str, headers: Headers, *error: Any) -> Any:
        known = {name.lower() for name, _ in headers}
        added = [each for each in ours if each[0].lower() not in known]
        return start_response(status, [*headers, *added], *error)

    return start
