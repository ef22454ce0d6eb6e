"""HTTPS before the dashboard, with a certificate of Caddy's own authority."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from composed import Project
from visitor import Visitor

pytestmark = pytest.mark.slow

STANDIN = "tsvtest-caddy"


@pytest.fixture(scope="module")
def caddy(service: Project) -> Project:
    """The server with its profile `tls`; Caddy is Debian's where Docker's image cannot be had."""
    command = ["docker", "buildx", "build", "--quiet", "--load", "--network=host", "-t", STANDIN]
    recipe = (Path(__file__).parent / "caddy.Dockerfile").read_text()
    built = subprocess.run([*command, "-"], input=recipe, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"no Caddy can be had here: {built.stderr[-200:]}")
    service.settings |= {
        "CADDY_IMAGE": STANDIN,
        "HTTP_BIND": "127.0.0.1:0",
        "HTTPS_BIND": "127.0.0.1:0",
    }
    service.compose("build", "caddy")
    service.up("caddy")
    return service


@pytest.fixture
def trusting(caddy: Project) -> ssl.SSLContext:
    """Who trusts this Caddy's authority, and nobody else's."""
    path = "/data/caddy/pki/authorities/local/root.crt"
    return ssl.create_default_context(cadata=caddy.compose("exec", "-T", "caddy", "cat", path))


def https(caddy: Project) -> str:
    """Return where it answers, by the name that the certificate is for."""
    return f"localhost:{caddy.address('caddy', 443).rpartition(':')[2]}"


def test_login_by_https(caddy: Project, trusting: ssl.SSLContext, admin: tuple[str, str]) -> None:
    """The cookie goes nowhere in the clear, and browsers are told to come by HTTPS from then on."""
    visitor = Visitor(https(caddy), tls=trusting)
    entered = visitor.log_in(*admin)
    assert entered.status == 303
    assert "Secure" in entered.headers["Set-Cookie"]
    assert "max-age" in entered.headers["Strict-Transport-Security"]
    assert visitor.ask("/api/studies").status == 200


def test_plain_http_leads_to_https(caddy: Project) -> None:
    """Nothing is answered in the clear."""
    answer = Visitor(caddy.address("caddy", 80)).ask("/login")
    assert answer.status == 308
    assert answer.headers["Location"].startswith("https://")


def test_who_came_is_known_behind_it(caddy: Project, trusting: ssl.SSLContext) -> None:
    """Attempts to log in are counted by the visitor's address, not by Caddy's."""
    assert Visitor(https(caddy), tls=trusting).log_in("admin", "a wrong password").status == 401
    (network,) = caddy.inspected("caddy")[0]["NetworkSettings"]["Networks"].values()
    log = caddy.compose("logs", "--no-color", "dashboard")
    assert "login from" in log
    assert f"login from {network['IPAddress']} " not in log


def test_caddy_is_not_root(caddy: Project) -> None:
    """It may take the ports below 1024, and nothing else."""
    (container,) = caddy.ids("caddy")
    top = ["docker", "top", container, "-eo", "uid,pid,args"]
    lines = subprocess.run(top, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {"10001"}
