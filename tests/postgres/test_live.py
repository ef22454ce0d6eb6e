"""What the dashboard tells of the present: its page, its metrics, its readiness; and `health`."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import waitress
from prometheus_client.parser import text_string_to_metric_families as parsed
from sqlalchemy import text
from stored_trials import stored_study
from trials import run_next

from tunesvc import leases, places, processes, study
from tunesvc.dashboard.live import OPEN, PATHS, Live
from tunesvc.leases import Lease, Leases, Terms
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import VARIABLE, Store, open_store, server
from tunesvc.study import Census, Study
from tunesvc.trial import Desk

SERIES = [  # that are there whatever the service does
    "tunesvc_build_info",
    "tunesvc_database_up",
    "tunesvc_studies",
    "tunesvc_trials",
    "tunesvc_takeovers",
    "tunesvc_leases",
    "tunesvc_queue_depth",
    "tunesvc_workers",
    "tunesvc_gpu_memory_bytes",
    "tunesvc_epoch_seconds",
    "tunesvc_trial_seconds",
]
COUNT, SUM = "tunesvc_epoch_seconds_count", "tunesvc_epoch_seconds_sum"
HISTORY = """
    INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:id, 'history', :told)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
"""
DIGITS = {
    "name": "digits",
    "data": {"kind": "digits", "subset": 100},
    "backbones": [{"name": "two_conv_cnn", "weights": "none"}],
    "search_space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}},
    "budget": {"trials": 4, "epochs": 2},
    "sampler": "random",
    "pruner": "none",
}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str


def ask(live: Live, path: str, query: str = "", method: str = "GET") -> Answer:
    """Ask as a server would (WSGI)."""
    told: list[Any] = []
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    body = b"".join(live(environ, lambda *said: told.extend(said)))
    return Answer(int(told[0].split()[0]), dict(told[1]), body.decode())


def metrics(live: Live) -> dict[tuple[str, ...], float]:
    """Scrape; return {(name, label values in the order of their names): value}."""
    found = {}
    for family in parsed(ask(live, "/metrics").body):
        for sample in family.samples:
            labels = (value for _, value in sorted(sample.labels.items()))
            found[sample.name, *labels] = sample.value
    return found


def seen(live: Live) -> dict[str, Any]:
    """Look at the page, as data."""
    told: dict[str, Any] = json.loads(ask(live, "/status", "format=json").body)
    return told


@pytest.fixture
def live(store: Store) -> Live:
    """On a database without studies."""
    return Live(store)


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Study:
    """A study of 500 trials, 60 of them finished."""
    return stored_study(store, tmp_path)


@pytest.fixture
def enter(store: Store) -> Iterator[Callable[..., Leases]]:
    """Let workers enter, which leave in the end."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(closing(Leases(store.engine, **how)))


def claimed(worker: Leases, made: Study) -> Lease:
    """Have a worker claim a trial."""
    lease = worker.claim(made.id, Terms(trials=made.spec.budget.trials))
    assert isinstance(lease, Lease)
    return lease


def change(store: Store, statement: str, **values: object) -> None:
    """Change the database behind everybody's back."""
    with store.engine.begin() as connection:
        connection.execute(text(statement), values)


# ---- the page ------------------------------------------------------------------------------------


def test_an_empty_service_says_what_to_do(live: Live) -> None:
    """How a study is stored, and a worker started."""
    page = ask(live, "/status").body
    assert "tunesvc new-study studies/quickstart.yaml" in page
    assert "docker compose up -d worker" in page
    assert seen(live)["studies"] == []


def test_the_page_obeys_its_own_policy(live: Live, made: Study) -> None:
    """No script, no style in the page or on an element; it may be shown nowhere else."""
    answer = ask(live, "/status")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    forbidden = ("<script", "<style", " style=", " onclick")
    assert [mark for mark in forbidden if mark in answer.body] == []
    assert ask(live, "/status.css").headers["Content-Type"] == "text/css; charset=utf-8"


def test_the_page_can_be_stopped(live: Live) -> None:
    """It loads itself again, unless told not to."""
    assert 'http-equiv="refresh"' in ask(live, "/status").body
    assert 'http-equiv="refresh"' not in ask(live, "/status", "refresh=off").body


def test_it_tells_what_status_tells(
    store: Store, made: Study, tmp_path: Path, enter: Callable[..., Leases]
) -> None:
    """All studies at once, and each by itself, in the same numbers."""
    other = study.create(store, StudySpec.model_validate(DIGITS), base=tmp_path)
    gone = enter()
    ran, dropped = claimed(enter(), made), claimed(gone, made)
    gone.release(dropped)
    study.pause(other, "for tea")
    told = {each["study"]: each for each in seen(Live(store))["studies"]}
    for single in (made, other):
        alone, together = study.status(single), told[single.name]
        assert together["trials"] == alone.trials
        assert together["state"] == alone.state
        assert together["why"] == alone.why
        assert together["metric"] == alone.metric
        assert together["budget"] == {"trials": alone.budget_trials}
        assert together["eta_seconds"] == pytest.approx(alone.eta_seconds)
        best = None if alone.best is None else (alone.best.trial, alone.best.value)
        assert (together["best"] and tuple(together["best"].values())) == best
    assert told["made"]["trials"]["running"] == 1
    assert told["made"]["trials"]["waiting"] == 1
    assert told["made"]["queue"] == 1 + 438
    assert told["digits"]["queue"] == 0  # it is paused
    assert ran.number == 60


def test_a_done_study_has_no_queue(store: Store, made: Study) -> None:
    """Also one whose hours are over while trials were left; and one that cannot be read is told."""
    file = "UPDATE study_user_attributes SET value_json = :to WHERE key = 'tunesvc:spec'"
    census = Census(store)
    assert census.tallies()[0].queue == 440
    hours = made.spec.model_copy(
        update={"budget": made.spec.budget.model_copy(update={"hours": 1.0})}
    )
    change(store, file, to=hours.model_dump_json())
    change(
        store,
        "INSERT INTO tunesvc.study (study_id, started_at) VALUES (:id, now() - interval '2 hours') "
        "ON CONFLICT (study_id) DO UPDATE SET started_at = excluded.started_at",
        id=made.id,
    )
    over = census.tallies()[0]
    assert (over.condition, over.queue, over.remaining) == ("done", 0, 0)
    change(store, file, to='{"name": "made", "later": true}')
    unread = census.tallies()[0]
    assert (unread.condition, unread.queue) == ("unreadable", 0)
    assert unread.why
    assert "unreadable" in ask(Live(store), "/status").body


def test_workers_and_lost_ones(
    store: Store, made: Study, live: Live, enter: Callable[..., Leases]
) -> None:
    """What each runs; one without a sign of life is marked in words, not by colour alone."""
    busy, idle, gone = enter(device="cuda:0"), enter(device="cpu", studies=["made"]), enter()
    lease = claimed(busy, made)
    change(
        store,
        "UPDATE tunesvc.worker SET seen_at = now() - interval '2 minutes' WHERE worker_id = :id",
        id=gone.worker_id,
    )
    told = {each["worker_id"]: each for each in seen(live)["workers"]}
    assert told[busy.worker_id]["trial"] == lease.number
    assert told[busy.worker_id]["device"] == "cuda:0"
    assert [told[each.worker_id]["state"] for each in (busy, idle, gone)] == [
        "running",
        "idle",
        "lost",
    ]
    page = ask(live, "/status").body
    assert ">lost</span>" in page
    assert f"made, trial {lease.number}" in page
    assert "and 1 lost" in page


def test_failures_are_told_and_harmless(
    store: Store, made: Study, live: Live, enter: Callable[..., Leases]
) -> None:
    """The reason of each, the latest first, with its time; markup in it stays words."""
    worker = enter()
    for number in range(12):
        lease = claimed(worker, made)
        reason = f"attempt {number}\n<script>alert({number})</script> broke"
        worker.note_attempt(lease, reason, alike=None, is_final=True)
    told = seen(live)["failures"]
    assert [each["trial"] for each in told] == list(range(71, 61, -1))
    assert told[0]["reason"].startswith("attempt 11\n<script>")
    assert told[0]["at"].endswith("+00:00")
    page = ask(live, "/status").body
    assert "&lt;script&gt;alert(11)&lt;/script&gt; broke" in page
    assert "<script" not in page


# ---- metrics -------------------------------------------------------------------------------------


def test_metrics_count_what_is_there(
    store: Store, made: Study, live: Live, enter: Callable[..., Leases]
) -> None:
    """Trials, leases, takeovers, the queue and workers, in a text that Prometheus reads."""
    worker = enter()
    claimed(worker, made)
    leases.expire(store.engine, worker.worker_id)
    claimed(enter(), made)
    answer = ask(live, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert [family.name for family in parsed(answer.body)] == SERIES
    assert all(family.documentation.endswith(".") for family in parsed(answer.body))
    told = metrics(live)
    assert told["tunesvc_database_up",] == 1
    assert told["tunesvc_trials", "complete", "made"] == 60
    assert told["tunesvc_trials", "running", "made"] == 1
    assert told["tunesvc_trials", "remaining", "made"] == 439
    assert told["tunesvc_leases", "made"] == 1
    assert told["tunesvc_takeovers_total", "made"] == 1
    assert told["tunesvc_queue_depth", "made"] == 439
    assert told["tunesvc_workers", "running"] == 1
    assert told["tunesvc_workers", "idle"] == 1
    assert told["tunesvc_studies", "open"] == 1


def test_epochs_are_counted_once(store: Store, live: Live, tmp_path: Path) -> None:
    """Those of trials that end from the first look on, whoever asks, and however often."""
    made = study.create(store, StudySpec.model_validate(DIGITS), base=tmp_path)
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    run_next(desk)
    count, total = (COUNT, "digits"), (SUM, "digits")
    assert count not in metrics(live)  # ended before anybody looked
    run_next(desk)
    told = [metrics(live) for _ in range(3)]
    assert [each[count] for each in told] == [2, 2, 2]
    took = made.optuna().trials[1].user_attrs["history"]
    assert told[0][total] == pytest.approx(sum(sum(e["seconds"].values()) for e in took))
    assert told[0]["tunesvc_trial_seconds_count", "complete", "digits"] == 1
    assert told[0]["tunesvc_epoch_seconds_bucket", "+Inf", "digits"] == 2
    run_next(desk)
    assert metrics(live)[count] == 4


def test_epochs_of_a_running_trial(
    store: Store, live: Live, tmp_path: Path, enter: Callable[..., Leases]
) -> None:
    """Each is counted when it is finished; those that were there at the first look are not."""
    made = study.create(store, StudySpec.model_validate(DIGITS), base=tmp_path)
    worker, count = enter(), (COUNT, "digits")

    def report(lease: Lease, epochs: int) -> None:
        seconds = {"train": 2.0, "eval": 0.5}
        history = [{"train_loss": math.nan, "loss": -math.inf, "seconds": seconds}] * epochs
        change(store, HISTORY, id=lease.trial_id, told=json.dumps(history))

    old = claimed(worker, made)
    report(old, 3)
    assert count not in metrics(live)
    report(old, 5)
    told = metrics(live)
    assert told[count] == 2
    assert told[SUM, "digits"] == 5.0
    assert told["tunesvc_epoch_seconds_bucket", "1.0", "digits"] == 0
    assert told["tunesvc_epoch_seconds_bucket", "2.5", "digits"] == 2
    report(claimed(worker, made), 1)
    assert metrics(live)[count] == 3
    worker.note_attempt(old, "it broke", alike=None, is_final=True)
    told = metrics(live)
    assert told["tunesvc_trial_seconds_count", "fail", "digits"] == 1
    assert told[count] == 3


def test_memory_of_devices(
    store: Store, made: Study, live: Live, enter: Callable[..., Leases]
) -> None:
    """The most that a late trial took, of each CUDA device that has a worker now."""
    host = enter(device="cuda:1").worker_id.split(":")[0]
    for number, (device, peak) in enumerate(
        [("cuda:1", 800.0), ("cuda:1", 1000.0), ("cuda:7", 9.0), ("cpu", 9.0)]
    ):
        which = "(SELECT trial_id FROM trials WHERE number = :n)"
        run = json.dumps({"worker": f"{host}:12", "device": device})
        change(
            store,
            f"UPDATE trial_user_attributes SET value_json = :run WHERE key = 'run' "
            f"AND trial_id = {which}",
            run=run,
            n=number,
        )
        change(
            store,
            f"INSERT INTO trial_user_attributes (trial_id, key, value_json) "
            f"VALUES ({which}, 'peak_memory_mb', :peak)",
            peak=json.dumps(peak),
            n=number,
        )
    told = metrics(live)
    found = {key[1:]: value for key, value in told.items() if key[0] == "tunesvc_gpu_memory_bytes"}
    assert found == {("cuda:1", host): 1000 * 2**20}


# ---- over HTTP, and without a database -----------------------------------------------------------


@pytest.fixture
def port(store: Store) -> Iterator[int]:
    """Where it is served, as the dashboard serves it."""
    served = waitress.create_server(Live(store), host="127.0.0.1", port=0, threads=2)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    yield served.effective_port
    served.trigger.pull_trigger(served.close)  # in its own thread
    thread.join(30)
    served.task_dispatcher.shutdown()


def fetch(port: int, method: str, path: str) -> tuple[HTTPResponse, bytes]:
    """Ask over HTTP."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer, answer.read()


def test_every_path_is_served(port: int) -> None:
    """GET and HEAD, and nothing else; an unknown page is not found."""
    assert OPEN < PATHS
    for path in PATHS:
        answer, body = fetch(port, "GET", path)
        head, nothing = fetch(port, "HEAD", path)
        assert (answer.status, head.status) == (200, 200)
        assert body
        assert not nothing
        assert answer.headers["Cache-Control"] == "no-store"
        assert fetch(port, "POST", path)[0].status == 405
    assert fetch(port, "GET", "/elsewhere")[0].status == 404


def health(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `tunesvc health`."""
    command = [sys.executable, "-m", "tunesvc", "health", *arguments]
    environ = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)


def test_health_of_the_dashboard(port: int) -> None:
    """Well while it is ready; else one sentence says why not."""
    assert health("dashboard", "--url", f"http://127.0.0.1:{port}").returncode == 0
    refused = health("dashboard", "--url", "http://127.0.0.1:9")
    assert refused.returncode == 1
    assert refused.stderr.startswith("nothing answers at http://127.0.0.1:9/readyz")


def test_another_versions_tables_are_not_ready(store: Store, live: Live) -> None:
    """The process is well all the same."""
    change(store, "UPDATE tunesvc.alembic_version SET version_num = '0001'")
    assert ask(live, "/readyz").status == 503
    assert ask(live, "/healthz").status == 200


def kill(place: Path) -> None:
    """Kill the server that lives there, as a machine that runs out of memory does."""
    os.kill(int((place / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def revive(place: Path) -> None:
    """Start it again."""
    until(60, lambda: server.revive(place) or server.is_running(place))


def test_a_database_that_is_away(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics and page say so, and are told again when it is back; the process is well."""
    with server.using(place) as url, open_store(url.render_as_string(False)) as store:
        live = Live(store)
        assert ask(live, "/readyz").status == 200
        assert metrics(live)["tunesvc_database_up",] == 1
        kill(place)  # whoever serves a connection that is open notices a moment later
        until(30, lambda: metrics(live)["tunesvc_database_up",] == 0)
        told = metrics(live)
        assert not [name for name, *_ in told if name == "tunesvc_trials"]
        page = ask(live, "/status")
        assert page.status == 503
        assert "Postgres cannot be reached" in page.body
        assert seen(live)["database"] == "away"
        assert ask(live, "/healthz").status == 200
        monkeypatch.setattr("tunesvc.dashboard.live.READY_SECONDS", 0.0)
        assert ask(live, "/readyz") == ask(live, "/readyz")
        assert ask(live, "/readyz").status == 503
        revive(place)
        assert metrics(live)["tunesvc_database_up",] == 1
        assert ask(live, "/readyz").status == 200


# ---- the health of workers -----------------------------------------------------------------------


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, as a container has one."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def begin(own_home: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start workers on a database, which are killed in the end."""
    begun: list[subprocess.Popen[str]] = []

    def begin(url: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tunesvc", "worker", "--device", "cpu"]
        begun.append(
            subprocess.Popen(
                command,
                env=os.environ | {VARIABLE: url},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield begin
    for each in begun:
        each.kill()
        each.communicate()


def until(seconds: float, is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_a_worker_that_stands_still_is_not_well(
    begin: Callable[[str], subprocess.Popen[str]], store: Store
) -> None:
    """Stopped, it says so in one sentence; woken up, it is well again; gone, nobody is."""
    assert health("worker").returncode == 1
    worker = begin(store.url)
    until(300, lambda: bool(leases.workers(store.engine)))
    assert health("worker").returncode == 0
    until(60, lambda: not processes.unwell("worker", 3))
    worker.send_signal(signal.SIGSTOP)
    until(20, lambda: bool(processes.unwell("worker", 3)))
    still = health("worker", "--seconds", "3")
    assert still.returncode == 1
    assert still.stderr.startswith(f"worker {worker.pid} has shown no life for ")
    assert len(still.stderr.splitlines()) == 1
    assert health("worker").returncode == 0  # a minute is allowed
    worker.send_signal(signal.SIGCONT)
    until(60, lambda: not processes.unwell("worker", 3))
    worker.kill()
    worker.wait()
    assert health("worker").stderr.startswith("no worker runs here")


@pytest.mark.slow
def test_a_worker_that_waits_for_postgres_is_well(
    begin: Callable[[str], subprocess.Popen[str]], place: Path
) -> None:
    """It is patient on purpose: every try that fails shows life."""
    with server.using(place) as url, open_store(url.render_as_string(False)) as store:
        worker = begin(store.url)
        until(300, lambda: bool(leases.workers(store.engine)))
        kill(place)
        assert worker.stderr is not None
        until(60, lambda: "cannot be reached; trying" in worker.stderr.readline())
        before = time.monotonic()
        until(30, lambda: pulse(worker.pid) > before + 2)  # not those of before
        assert processes.unwell("worker") == ""
        revive(place)


def pulse(pid: int) -> float:
    """Return when a process last showed life."""
    told = json.loads((places.home() / "run" / f"{pid}.pulse").read_text())
    return float(told["at"])


def test_the_thread_that_keeps_leases_shows_life(
    store: Store, made: Study, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lease held, for as long as a lease and a try last; without one, it does not."""
    shown: list[float] = []
    monkeypatch.setattr(processes, "pulse", shown.append)
    with closing(Leases(store.engine)) as worker:
        lease = claimed(worker, made)
        until(10, lambda: bool(shown))
        assert set(shown) == {30 + processes.TRY_SECONDS}
        worker.release(lease)
        before = len(shown)
        with closing(Leases(store.engine)) as other:
            other.is_stopped(made.id)
        assert len(shown) == before
