"""Outages: what is waited for, how, and how the embedded server comes back."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tunesvc.errors import StorageError
from tunesvc.storage import Store, engines, guard, is_passing, patiently, server
from tunesvc.storage.patience import OUTAGE_SECONDS

PASSING = [
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)",
    "SET LOCAL transaction_timeout = 10; SELECT pg_sleep(5)",
    *(
        f"DO $$ BEGIN RAISE 'x' USING ERRCODE = '{code}'; END $$"
        for code in ("40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03", "08006")
    ),
]
STAYING = [
    "SELEKT 1",
    "SELECT * FROM nowhere",
    "SET TRANSACTION READ ONLY; CREATE TABLE t ()",
    "INSERT INTO tunesvc.installation DEFAULT VALUES",
    *(
        f"DO $$ BEGIN RAISE 'x' USING ERRCODE = '{code}'; END $$"
        for code in ("53100", "28P01", "3D000", "42501")
    ),
]


def failing(store: Store, statement: str) -> DBAPIError:
    with pytest.raises(DBAPIError) as caught, store.engine.connect() as connection:
        connection.execute(text(statement))
    return caught.value


@pytest.mark.parametrize(
    ("statement", "passing"),
    [*((each, True) for each in PASSING), *((each, False) for each in STAYING)],
)
def test_is_passing(store: Store, statement: str, passing: bool) -> None:
    """Told apart by SQLSTATE, bare or already explained."""
    error = failing(store, statement)
    assert is_passing(error) is passing
    with pytest.raises(StorageError) as explained, guard():
        raise error
    assert is_passing(explained.value) is passing


@pytest.mark.parametrize(
    "error",
    [
        PoolTimeout("QueuePool limit of size 1 overflow 0 reached"),
        psycopg2.OperationalError("SSL error: unexpected eof while reading"),
        psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq"),
    ],
)
def test_what_a_broken_connection_may_say(error: Exception) -> None:
    """Words without a SQLSTATE, by whichever layer noticed."""
    assert is_passing(error)


@pytest.mark.parametrize(
    ("changes", "passing"),
    [
        ({"host": "127.0.0.1", "port": 1, "query": {}}, True),
        ({"query": {"host": "/nowhere"}}, True),
        ({"host": "no-such-host.invalid", "query": {}}, True),
        ({"username": "crowded"}, True),
        ({"username": "locked", "password": "wrong"}, False),
        ({"username": "stranger"}, False),
        ({"database": "nowhere"}, False),
    ],
)
def test_is_passing_while_connecting(
    empty_url: str, locked: None, changes: dict[str, object], passing: bool
) -> None:
    """Where psycopg2 has no SQLSTATE, the words of libpq and of the server tell."""
    url = make_url(empty_url).set(**changes)  # type: ignore[arg-type]
    with pytest.raises(DBAPIError) as caught:
        create_engine(url, poolclass=NullPool).connect()
    assert is_passing(caught.value) is passing


def test_other_errors_do_not_pass() -> None:
    """Nor does a StorageError that has no cause in the database."""
    assert not is_passing(KeyError("timed out"))
    assert not is_passing(StorageError("Postgres cannot be reached", "timed out", ""))


class Flaky:
    """Fails so many times, then answers 7."""

    def __init__(self, error: BaseException, times: int) -> None:
        self.error, self.left, self.calls = error, times, 0

    def __call__(self) -> int:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return 7


def test_waits_revives_and_says_so_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """One warning when the outage begins and one line when it is over; `revive` before each new
    try, and the waits grow, at random, up to five seconds."""
    act = Flaky(failing(store, PASSING[0]), times=4)
    revived: list[int] = []
    waits: list[float] = []
    with caplog.at_level(logging.INFO):
        found = patiently(act, revive=lambda: revived.append(act.calls), on_wait=waits.append)
    assert found == 7
    assert revived == [1, 2, 3, 4]
    assert all(0.05 <= wait <= 0.2 * 2**n for n, wait in enumerate(waits))
    assert len(set(waits)) == 4
    begin, end = [record.getMessage() for record in caplog.records]
    assert begin.startswith("Postgres cannot be reached; trying for up to 10 minutes: ")
    assert end.startswith("Postgres answers again, after ")
    assert OUTAGE_SECONDS == 600


def test_without_trouble_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The act is done once, and its value comes back."""
    act = Flaky(KeyError(), times=0)
    with caplog.at_level(logging.DEBUG, "tunesvc"):
        assert patiently(act, revive=pytest.fail) == 7  # type: ignore[arg-type]
    assert (act.calls, caplog.records) == (1, [])


def test_outage_that_lasts_is_a_storage_error(store: Store) -> None:
    """After the time given: what, why and fix, with its cause."""
    act = Flaky(failing(store, PASSING[0]), times=1000)
    began = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        patiently(act, seconds=0.5)
    assert time.monotonic() - began >= 0.5
    assert caught.value.__cause__ is act.error
    assert act.calls > 2


class Stopped(BaseException):
    """As a signal handler raises it."""


@pytest.mark.parametrize("error", [KeyError("x"), Stopped()])
def test_what_does_not_pass_comes_at_once(error: BaseException) -> None:
    """A bug, a refusal or a signal is raised as it is, and the act is not repeated."""
    act = Flaky(error, times=1)
    with pytest.raises(type(error)) as caught:
        patiently(act)
    assert caught.value is error
    assert act.calls == 1


def test_waiting_can_be_given_up(store: Store) -> None:
    """What `on_wait` raises ends it: a stop that was asked for meanwhile."""
    act = Flaky(failing(store, PASSING[0]), times=1000)

    def stop(_: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        patiently(act, on_wait=stop)
    assert act.calls == 1


# Counts to argv[1] in a row of its own, one transaction each; each may be done twice.
COUNTER = """
import logging, sys, time
from sqlalchemy import text
from tunesvc.storage import open_store, patiently
logging.basicConfig(level=logging.WARNING)
name, goal = sys.argv[1], int(sys.argv[2])
PUT = "INSERT INTO counted VALUES (:name, :n) ON CONFLICT DO NOTHING"
with open_store() as store:
    def put(n):
        with store.engine.begin() as connection:
            connection.execute(text(PUT), {"name": name, "n": n})
    for n in range(goal):
        patiently(lambda: put(n), revive=store.revive, seconds=60)
        if n == 0:
            print("in", flush=True)
        time.sleep(0.01)
"""


def _until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_killed_server_is_revived_by_its_users(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the server, three times: both processes go on at the same address, no write is
    lost or doubled, and the last to leave still stops the server."""
    monkeypatch.setenv("TUNESVC_HOME", str(place))
    goal = 400
    with server.using(place) as url:
        engine = create_engine(url, pool_pre_ping=True)
        with engine.begin() as connection:
            connection.execute(
                text("CREATE TABLE counted (name text, n int, PRIMARY KEY (name, n))")
            )

        def count() -> list[int]:
            with engine.connect() as connection:
                found = connection.execute(
                    text("SELECT count(*) FROM counted GROUP BY name ORDER BY name")
                )
                return list(found.scalars())

        users = [
            subprocess.Popen(
                [sys.executable, "-c", COUNTER, name, str(goal)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in "ab"
        ]
        for each in users:
            assert each.stdout is not None
            assert each.stdout.readline() == "in\n"
        for _ in range(3):
            goal_now = min(patiently(count, seconds=30)) + 40
            os.kill(_pid(place), signal.SIGKILL)
            _until(lambda goal_now=goal_now: min(patiently(count, seconds=30)) >= goal_now)  # type: ignore[misc]
        said = [each.communicate(timeout=60)[1] for each in users]
        assert [each.returncode for each in users] == [0, 0], said
        assert count() == [goal, goal]
        engine.dispose()
    assert not server.is_running(place)
    assert "".join(said).count("was killed, and runs again") == 3


def test_stopped_server_is_not_revived(place: Path) -> None:
    """Who stopped it by force meant it; a user who asks for revival gets none, and no error."""
    with server.using(place):
        server.stop(place, force=True)
        server.revive(place)
        assert not server.is_running(place)


def test_revival_that_fails_is_told_and_not_raised(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next try may succeed: the disk may have room by then."""
    with server.using(place):
        killed = _pid(place)
        os.kill(killed, signal.SIGKILL)
        _until(lambda: not Path(f"/proc/{killed}").exists())
        conf = place / "postgres" / "postgresql.conf"
        before = conf.read_text()
        conf.write_text(before + "shared_buffers = 'plenty'\n")
        server.revive(place)
        assert "cannot be started yet" in caplog.text
        conf.write_text(before)
        server.revive(place)
        assert server.is_running(place)


class Network:
    """A TCP port that leads to the Unix socket of a server, until it swallows every packet."""

    def __init__(self, folder: str) -> None:
        self._path, self._silent = f"{folder}/.s.PGSQL.5432", threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._path)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while (data := source.recv(65536)) and not self._silent.is_set():
                target.sendall(data)

    def swallow(self) -> None:
        """From now on no packet arrives, so none is acknowledged either."""
        self._silent.set()

        class Filter(ctypes.Structure):
            _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8),
                        ("k", ctypes.c_uint32))  # fmt: skip

        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Filter)))

        drop_all = Filter(0x06, 0, 0, 0)  # BPF_RET: keep 0 bytes
        program = Program(1, ctypes.pointer(drop_all))
        for each in self._sockets:
            if each.family == socket.AF_INET:
                each.setsockopt(socket.SOL_SOCKET, 26, bytes(program))  # SO_ATTACH_FILTER

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()


@pytest.fixture
def network(store: Store) -> Iterator[Network]:
    network = Network(str(make_url(store.url).query["host"]))
    yield network
    network.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="packets are dropped by a Linux socket filter")
def test_network_that_swallows_packets(store: Store, network: Network) -> None:
    """Neither a statement that is sent then, nor one that waits for its answer, blocks for long;
    both are waited for."""
    url = make_url(store.url).set(host="127.0.0.1", port=network.port, query={})
    connect_args = engines.settings(url)["connect_args"]
    engine = create_engine(url, poolclass=NullPool, connect_args=connect_args)
    ended: dict[str, float] = {}
    passing: list[bool] = []
    silent = threading.Event()

    def ask(question: str, before: threading.Event | None) -> None:
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        ready.wait()
        if before is not None:
            before.wait()
        try:
            connection.execute(text(question))
        except DBAPIError as error:
            ended[question] = time.monotonic()
            passing.append(is_passing(error))
        connection.close()

    ready = threading.Barrier(3)
    questions = [("SELECT pg_sleep(60)", None), ("SELECT 2", silent)]
    threads = [threading.Thread(target=ask, args=each) for each in questions]
    for thread in threads:
        thread.start()
    ready.wait()
    time.sleep(0.5)  # the first question has been acknowledged
    network.swallow()
    began = time.monotonic()
    silent.set()
    for thread in threads:
        thread.join(timeout=60)
    assert ended.keys() == {question for question, _ in questions}
    assert passing == [True, True]
    assert all(5 < end - began < 20 for end in ended.values()), ended
    engine.dispose()


def test_more_clients_than_connections(admin: Engine) -> None:
    """The embedded server takes 64 workers with two connections each, and ten more users."""
    with admin.connect() as connection:
        assert int(connection.execute(text("SHOW max_connections")).scalar_one()) >= 2 * 64 + 10
