"""`tunesvc health`, as a container asks it."""

from __future__ import annotations

import http.server
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus

import pytest

from tunesvc.dashboard.asking import unready
from tunesvc.errors import UsageError


@pytest.fixture
def site() -> Iterator[tuple[str, list[HTTPStatus]]]:
    """The address of a site that answers with the last status of a list; it notes the paths."""
    statuses = [HTTPStatus.OK]

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(statuses[-1]) if self.path == "/readyz" else self.send_error(418)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}", statuses
        served.shutdown()


def test_a_dashboard_is_asked_whether_it_is_ready(
    site: tuple[str, list[HTTPStatus]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never by way of a proxy; whatever else it answers is told in one sentence."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url, statuses = site
    assert unready(url, 10) == ""
    assert unready(f"{url}/", 10) == ""
    statuses.append(HTTPStatus.SERVICE_UNAVAILABLE)
    assert unready(url, 10).startswith("the dashboard answers, and its database does not")
    statuses.append(HTTPStatus.NOT_FOUND)
    assert unready(url, 10) == f"{url}/readyz answers 404 Not Found: is that a tunesvc dashboard?"


def test_a_dashboard_that_does_not_answer() -> None:
    """Nobody listens; or somebody listens and says nothing, or nonsense."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        assert "does not answer in time" in unready(f"http://127.0.0.1:{port}", 0.2)

        def babble() -> None:
            for _ in range(2):  # the first is the one that lost patience
                heard, _ = silent.accept()
                heard.sendall(b"220 mail.example\r\n\r\n")
                heard.close()

        threading.Thread(target=babble, daemon=True).start()
        assert "does not answer" in unready(f"http://127.0.0.1:{port}", 10)
    assert unready(f"http://127.0.0.1:{port}", 10).startswith("nothing answers at http://127.0")


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "file:///etc/passwd", "http://"])
def test_no_address(url: str) -> None:
    """Only the web is asked."""
    with pytest.raises(UsageError, match="no such address"):
        unready(url, 1)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-X", "importtime", "-m", "tunesvc", "health", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (["worker"], "no worker runs here"),
        (["dashboard", "--url", "http://127.0.0.1:9"], "nothing answers at http://127.0.0.1:9"),
    ],
)
def test_asking_is_light(what: list[str], why: str) -> None:
    """A container asks every few seconds: nothing heavy is imported; 1 and a sentence tell."""
    done = run(*what)
    assert done.returncode == 1
    assert why in done.stderr
    imported = set(re.findall(r"\| +(\w+)(?=$|\.)", done.stderr, re.MULTILINE))
    assert "typer" in imported
    assert not imported & {"torch", "optuna", "sqlalchemy", "numpy", "optuna_dashboard", "jinja2"}
