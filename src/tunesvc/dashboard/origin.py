"""Whether a request comes from a page of this site, by what browsers say and pages cannot forge.

Source: OWASP, Cross-Site Request Forgery Prevention Cheat Sheet, "Fetch Metadata headers" and
"Verifying Origin With Standard Headers".

Why: 2026-11: no token in forms, for most requests are sent by optuna-dashboard's page, which would
not send it. Browsers leave Sec-Fetch-Site out where neither TLS nor this machine serves the page;
Origin is there on every request that changes something.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Literal
from urllib.parse import urlsplit

SAFE = frozenset({"GET", "HEAD"})


def origin(environ: dict[str, Any]) -> Literal["own", "foreign", "unknown"]:
    """Return where a request was made: on a page of ours, on another's, or not in a browser."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site:
        return "own" if site in {"same-origin", "none"} else "foreign"  # none: the person himself
    given = environ.get("HTTP_ORIGIN")
    if given is None:
        return "unknown"
    host = environ.get("HTTP_HOST", "").lower()
    return "own" if host and _host(given) == host else "foreign"


def is_local_name(environ: dict[str, Any]) -> bool:
    """Whether the browser was told to come here by a name that means this machine.

    A page of a stranger whose name was made to lead to 127.0.0.1 (DNS rebinding) is of the same
    origin as what it reads there; only its name gives it away.
    """
    try:
        return is_loopback(urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or "")
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine, whatever a name server says."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host(given: str) -> str:
    try:
        return urlsplit(given).netloc.lower()
    except ValueError:
        return ""
