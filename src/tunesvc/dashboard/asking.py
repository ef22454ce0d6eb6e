"""Whether a dashboard is ready, as anybody may ask it."""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from tunesvc.errors import UsageError

READY = "/readyz"

_direct = build_opener(ProxyHandler({}))  # never by way of a proxy: it is this machine's own


def unready(url: str, seconds: float) -> str:
    """Return in one sentence why the dashboard at an address is not ready; empty: it is.

    Args:
        seconds: how long it may take to answer.

    Raises:
        UsageError: that is no address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--url {url}: no such address", "", "write it as http://127.0.0.1:8080")
    asked = f"{parts.scheme}://{parts.netloc}{READY}"
    try:
        with _direct.open(asked, timeout=seconds):
            return ""
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            return "the dashboard answers, and its database does not, or is not migrated"
        return f"{asked} answers {error.code} {error.reason}: is that a tunesvc dashboard?"
    except URLError as error:
        return f"nothing answers at {asked}: {error.reason}"
    except (OSError, HTTPException) as error:
        return f"{asked} does not answer in time: {error}"
