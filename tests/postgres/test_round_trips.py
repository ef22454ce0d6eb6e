"""How often a trial asks the server, counted on the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import make_url

from tunesvc import search
from tunesvc.leases import Fenced, Lease, Leases, Nothing, Terms, tell_together
from tunesvc.search.hyperband import Brackets
from tunesvc.storage import Store, open_store

TERMS = Terms(trials=1000)
MOST = 8  # round trips of a whole trial: 8 parameters, 5 reports, TPE
SOCKET = ".s.PGSQL.5432"


class Wire:
    """Passes bytes between clients and the server, and notes each message that a client sends.

    None can be hidden: clients know no other way to the server, and in PostgreSQL's protocol every
    message after a connection's first has a type and a length. Psycopg2 waits for the answer to
    each, so a message is a round trip.
    """

    def __init__(self, server: Path, folder: Path) -> None:
        self.said: list[str] = []
        self._server = str(server / SOCKET)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sockets = [self._listener]
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Cut every connection."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)
        for each in self._sockets:
            each.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._sockets += [client, server]
                server.connect(self._server)
                self._start(_pass, client, server, Notes(self.said))
                self._start(_pass, server, client, None)


class Notes:
    """The messages in one client's bytes."""

    def __init__(self, said: list[str]) -> None:
        self._said, self._bytes, self._has_begun = said, b"", False

    def add(self, data: bytes) -> None:
        """Note the messages that these bytes complete."""
        self._bytes += data
        while len(self._bytes) >= (head := 5 if self._has_begun else 4):
            end = head + int.from_bytes(self._bytes[head - 4 : head], "big") - 4
            if len(self._bytes) < end:
                return
            if self._has_begun and self._bytes[:1] != b"X":  # a farewell, not answered
                self._said.append(f"{self._bytes[:1].decode()} {self._bytes[5:end].decode()}")
            self._bytes, self._has_begun = self._bytes[end:], True


def _pass(source: socket.socket, sink: socket.socket, notes: Notes | None) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if notes is not None:
                notes.add(data)
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(storage_url: str, place: Path) -> Iterator[Wire]:
    """What is said to the server through `place`."""
    with closing(Wire(Path(str(make_url(storage_url).query["host"])), place)) as made:
        yield made


@pytest.fixture
def wired(wire: Wire, storage_url: str, place: Path) -> Iterator[Store]:
    """A store whose every byte passes over the wire."""
    url = make_url(storage_url).update_query_dict({"host": str(place)})
    with open_store(url.render_as_string(hide_password=False)) as store:
        yield store


def run_trial(
    leases: Leases, study_id: int, view: Callable[[Lease], optuna.Study], state: TrialState
) -> None:
    """Claim, 8 parameters, 5 reports, tell: in the words that a worker uses."""
    lease = leases.claim(study_id, TERMS)
    assert isinstance(lease, Lease)
    study = view(lease)
    fenced, trial = study._storage, optuna.Trial(study, lease.trial_id)
    assert isinstance(fenced, Fenced)
    x = sum(trial.suggest_float(name, 0, 1) for name in "abcdefgh")
    fenced.report(lease.trial_id, {}, {"run": {"batch": 32}})
    for step in range(1, 5):
        fenced.report(lease.trial_id, {step: x / step}, {"history": [x] * step})
        study.pruner.prune(study, fenced.get_trial(lease.trial_id))
    fenced.tell(lease.trial_id, state, [] if state is TrialState.PRUNED else [x], {5: x}, {"a": 1})
    leases.forget(lease)


PRUNERS = {
    "none": optuna.pruners.NopPruner(),
    "asha": search.Asha(1, 2),  # rungs after the epochs 1, 2 and 4
    "hyperband": search.Hyperband(Brackets(1, 2, 2)),
}


@pytest.mark.parametrize("kind", PRUNERS)
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_a_trial_s_round_trips(wire: Wire, wired: Store, state: TrialState, kind: str) -> None:
    """Claim, history, parameters, four reports, and the last with the end; no message more.

    What a pruner asks at its rungs comes with the reports.
    """
    study_id = optuna.create_study(study_name="s", storage=wired.optuna)._study_id
    memory, pruner = search.Memory(), PRUNERS[kind]

    def view(lease: Lease) -> optuna.Study:
        sampler = search.Tpe(lease.number, n_startup_trials=2, memory=memory)
        is_rung = search.rungs(pruner, "s", lease.number)
        storage = Fenced(wired.history, wired.engine, lease, is_rung)
        return optuna.load_study(study_name="s", storage=storage, sampler=sampler, pruner=pruner)

    with closing(Leases(wired.engine)) as leases:
        for _ in range(4):
            run_trial(leases, study_id, view, state)
        wire.said.clear()
        run_trial(leases, study_id, view, state)
        said = list(wire.said)
    assert len(said) <= MOST, "\n".join(said)
    assert all(message.startswith("Q ") for message in said)  # one statement, one answer
    assert sum("tunesvc.claim(" in message for message in said) == 1
    assert sum("tunesvc.write(" in message for message in said) == 6
    stored = wired.fresh().get_all_trials(study_id)[-1]
    assert (stored.state, len(stored.params), len(stored.intermediate_values)) == (state, 8, 5)


def test_a_stack_is_told_in_one_trip(wire: Wire, wired: Store) -> None:
    """Its trials' last words, attributes and ends: one message for all, one transaction."""
    study_id = optuna.create_study(study_name="s", storage=wired.optuna)._study_id
    with closing(Leases(wired.engine)) as leases:
        ends = []
        for number in range(16):
            lease = leases.claim(study_id, TERMS)
            assert isinstance(lease, Lease)
            storage = Fenced(wired.history, wired.engine, lease)
            ends.append((storage, storage.end(TrialState.COMPLETE, [float(number)], {1: 0.5}, {})))
        wire.said.clear()
        assert tell_together(wired.engine, ends) == [True] * 16
        assert len(wire.said) == 1
    assert [t.value for t in wired.fresh().get_all_trials(study_id)] == [*map(float, range(16))]


def test_the_wire_hides_nothing(wire: Wire, wired: Store) -> None:
    """A transaction of one statement is three messages, and the wire has them all."""
    with wired.engine.begin() as connection:
        wire.said.clear()
        connection.exec_driver_sql("SELECT 41 + 1")
    words = [message.removeprefix("Q ").rstrip("\0").split()[0] for message in wire.said]
    assert words == ["BEGIN", "SELECT", "COMMIT"]


def test_idle_questions_are_one_trip(wire: Wire, wired: Store) -> None:
    """A claim where nothing is left, what fitted (the second time none), release, a told trial."""
    study_id = optuna.create_study(study_name="s", storage=wired.optuna)._study_id
    with closing(Leases(wired.engine)) as leases:
        lease = leases.claim(study_id, Terms(trials=1))
        assert isinstance(lease, Lease)

        def count(act: Callable[[], object]) -> int:
            wire.said.clear()
            act()
            return len(wire.said)

        place: dict[str, Any] = {"device": "d", "backbone": "b"}
        place |= {"image_size": 64, "strategy": "full"}
        assert count(lambda: leases.fitted(**place)) == 1
        assert count(lambda: leases.fitted(**place | {"image_size": 32})) == 0
        assert count(lambda: leases.holds(lease)) == 1
        assert count(lambda: leases.release(lease)) == 1
        assert count(lambda: leases.release(lease)) == 0
        with closing(Leases(wired.engine)) as others:
            assert others.claim(study_id, Terms(trials=1))
            assert count(lambda: leases.claim(study_id, Terms(trials=1))) == 1
            assert leases.claim(study_id, Terms(trials=1)) == Nothing("spent", under_way=1)
