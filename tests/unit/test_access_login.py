"""Sessions, failed attempts, and where a request comes from."""

from __future__ import annotations

from typing import Any

import pytest

from tunesvc.dashboard import attempts, sessions
from tunesvc.dashboard.attempts import Attempts
from tunesvc.dashboard.login import _following, _own_path
from tunesvc.dashboard.origin import is_local_name, origin
from tunesvc.dashboard.proxy import BehindProxy
from tunesvc.dashboard.sessions import Sessions
from tunesvc.dashboard.users import User

ADA = User(role="editor", token="0" * 64)


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at some time."""
    return Clock()


def test_a_session_is_found_by_its_token_alone(clock: Clock) -> None:
    """Each has one of its own; only its hash is kept."""
    known = Sessions(clock)
    one, other = known.begin("ada", ADA), known.begin("ada", ADA)
    assert one != other
    assert known.find(one) == ("ada", ADA)
    assert known.find("") is None
    assert not any(one in key for key in known._known)
    known.end(one)
    assert known.find(one) is None
    assert known.find(other)


def test_a_session_ends_when_it_is_not_used(clock: Clock) -> None:
    """Every use puts it off, to the longest time at most."""
    known = Sessions(clock)
    idle, used = known.begin("ada", ADA), known.begin("ada", ADA)
    while clock.now < 1000 + sessions.LONGEST_SECONDS - sessions.IDLE_SECONDS / 2:
        clock.now += sessions.IDLE_SECONDS / 2 + 1
        assert known.find(used)
    assert known.find(idle) is None
    clock.now = 1000 + sessions.LONGEST_SECONDS + 1
    assert known.find(used) is None
    assert not known._known


def test_a_user_has_so_many_sessions(clock: Clock) -> None:
    """The oldest ends; others' are left alone."""
    known = Sessions(clock)
    bob = known.begin("bob", ADA)
    first, *others = [known.begin("ada", ADA) for _ in range(sessions.MOST + 1)]
    assert known.find(first) is None
    assert all(known.find(token) for token in [bob, *others])


def test_attempts_slow_down_per_user(clock: Clock) -> None:
    """Five at once, from any address; then the pause doubles, to a minute at most."""
    known = Attempts(clock)
    waits = []
    for index in range(14):
        wait = known.admit("ada", f"203.0.113.{index}")
        clock.now += wait
        if wait:
            assert known.admit("ada", f"203.0.113.{index}") == 0
        waits.append(wait)
    assert waits[:5] == [0] * 5
    assert waits[5:11] == [1, 2, 4, 8, 16, 32]
    assert waits[11:] == [60] * 3
    assert known.admit("bob", "203.0.113.1") == 0


def test_attempts_slow_down_per_address(clock: Clock) -> None:
    """Twenty at once for any users; an address of IPv6 is the network that a customer has."""
    known = Attempts(clock)
    for index in range(20):
        assert known.admit(f"user{index}", f"2001:db8::{index}") == 0
    assert known.admit("somebody", "2001:db8::ffff") == 1
    assert known.admit("somebody", "2001:db8:0:1::1") == 0
    assert known.admit("somebody", "not an address") == 0


def test_an_address_of_everybody_is_not_counted(clock: Clock) -> None:
    """Docker's gateway, a tunnel's end: a stranger behind it locks out only whom he names."""
    for place in ("172.17.0.1", "127.0.0.1", "::1"):
        known = Attempts(clock)
        for index in range(60):
            assert known.admit(f"user{index}", place) == 0
        assert known.admit("ada", place) == 0
        known.succeeded("ada", place)
        assert [known.admit("bob", place) for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_success_forgives_the_user_and_not_the_address(clock: Clock) -> None:
    """Whoever has a password of his own does not buy attempts at others' with it."""
    known = Attempts(clock)
    for index in range(19):
        assert known.admit(f"user{index}", "203.0.113.1") == 0
        assert known.admit("ada", "203.0.113.1") == 0
        known.succeeded("ada", "203.0.113.1")
    assert known.admit("user19", "203.0.113.1") == 0
    assert known.admit("ada", "203.0.113.1") > 0
    assert known.admit("ada", "203.0.113.2") == 0


def test_attempts_are_forgotten(clock: Clock) -> None:
    """After an hour; and no more are remembered than fit."""
    known = Attempts(clock)
    for _ in range(5):
        known.admit("ada", "203.0.113.1")
    assert known.admit("ada", "203.0.113.1") > 0
    clock.now += attempts.REMEMBERED_SECONDS + 1
    assert known.admit("ada", "203.0.113.1") == 0
    for index in range(3 * attempts.MOST):
        known.admit(f"user{index}", f"10.{index // 65536}.{index // 256 % 256}.{index % 256}")
    assert len(known._failures) <= attempts.MOST


@pytest.mark.parametrize(
    ("told", "made"),
    [
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, "own"),
        ({"HTTP_SEC_FETCH_SITE": "none"}, "own"),
        ({"HTTP_SEC_FETCH_SITE": "same-site"}, "foreign"),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, "foreign"),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": "http://a:80"}, "foreign"),
        ({"HTTP_ORIGIN": "http://a:80"}, "own"),
        ({"HTTP_ORIGIN": "http://A:80"}, "own"),
        ({"HTTP_ORIGIN": "http://a:81"}, "foreign"),
        ({"HTTP_ORIGIN": "http://a:80.evil.org"}, "foreign"),
        ({"HTTP_ORIGIN": "null"}, "foreign"),
        ({"HTTP_ORIGIN": "http://["}, "foreign"),
        ({}, "unknown"),
    ],
)
def test_origins(told: dict[str, Any], made: str) -> None:
    """A page of another host, port or site is foreign; without a word it is no browser."""
    assert origin({"HTTP_HOST": "a:80"} | told) == made


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("LOCALHOST:1", True),
        ("127.0.0.5:8080", True),
        ("192.168.0.7:8080", False),
        ("evil.org:8080", False),
        ("127.0.0.1.evil.org", False),
        ("localhost@evil.org", False),
        ("[", False),
        ("", False),
    ],
)
def test_names_of_this_machine(host: str, is_local: bool) -> None:
    """Any other name may be a stranger's that was made to lead here."""
    assert is_local_name({"HTTP_HOST": host}) is is_local


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/report/a?b=c", "/report/a?b=c"),
        ("//evil.org", "/dashboard"),
        ("/\\evil.org", "/dashboard"),
        ("https://evil.org", "/dashboard"),
        ("/a\r\nSet-Cookie: x", "/dashboard"),
        ("/a\\b", "/dashboard"),
        ("javascript:alert(1)", "/dashboard"),
        ("", "/dashboard"),
    ],
)
def test_login_leads_to_this_site_only(wanted: str, led_to: str) -> None:
    """Whatever `next` says."""
    assert _own_path(wanted) == led_to


def test_what_follows_the_login_is_read_from_the_query() -> None:
    """Percent-encoded; a query that is none leads to the first page."""
    assert _following("next=/report/r%25C3%25A9sum%25C3%25A9") == "/report/r%C3%A9sum%C3%A9"
    assert _following("&".join("x=1" for _ in range(99))) == "/dashboard"


def test_only_the_proxy_is_believed() -> None:
    """Its word about address and TLS counts, also by name; a stranger's is dropped."""
    seen: list[tuple[str, str, bool]] = []

    def site(environ: dict[str, Any], _start: Any) -> list[bytes]:
        dropped = "HTTP_X_FORWARDED_FOR" not in environ
        seen.append((environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], dropped))
        return []

    told = {
        "HTTP_X_FORWARDED_FOR": "6.6.6.6, 203.0.113.9",
        "HTTP_X_FORWARDED_PROTO": "https",
        "wsgi.url_scheme": "http",
        "SERVER_PORT": "80",
        "SERVER_NAME": "here",
    }
    for proxy in ("127.0.0.1", "localhost"):
        behind = BehindProxy(site, proxy)
        behind(told | {"REMOTE_ADDR": "127.0.0.1"}, None)
        behind(told | {"REMOTE_ADDR": "192.0.2.7"}, None)
        assert seen[-2] == ("203.0.113.9", "https", False)
        assert seen[-1] == ("192.0.2.7", "http", True)
    BehindProxy(site, "no.such.name.invalid")(told | {"REMOTE_ADDR": "127.0.0.1"}, None)
    assert seen[-1] == ("127.0.0.1", "http", True)
