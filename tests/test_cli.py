"""The commands as a stranger types them: a study from its file to its winner."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import pexpect
import pytest
from PIL import Image
from rich.console import Console
from sqlalchemy import Engine, make_url, text

from tunesvc import leases, places, processes, storage
from tunesvc import study as studies
from tunesvc.cli import main, show
from tunesvc.dashboard.pages import Pages
from tunesvc.storage import Store
from tunesvc.storage.artifacts import open_artifacts
from tunesvc.study import Best, Status
from tunesvc.trial import retention

FILE = """\
data: {kind: digits, subset: 200}
backbones:
  - {name: tiny_resnet, weights: none}
  - {name: two_conv_cnn, weights: none}
search_space:
  lr: {low: 1e-4, high: 1e-1, log: true}
  batch_size: 32
budget: {trials: 8, epochs: 4}
pruner: {kind: median, n_startup_trials: 2, n_warmup_steps: 0}
sampler: random
leases: {seconds: 1}
"""
# Two long trials of short epochs: whatever is asked for comes in the middle of one.
LONG = ("--set", "budget.trials=2", "--set", "budget.epochs=1000", "--set", "pruner=none",
        "--set", "ask_ahead=false")  # fmt: skip


@pytest.fixture
def study(tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file in a folder with spaces, and a Postgres of its own."""
    folder = tmp_path / "my first studies"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(FILE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder / "tiny.yaml"


def tunesvc(*arguments: object, code: int = 0) -> str:
    """Run a command in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tunesvc", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def say(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run a command in this process; return what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0) == code, out + err
    return out + err


def status() -> dict[str, Any]:
    """Ask for the study's state as a script would."""
    found: dict[str, Any] = json.loads(tunesvc("status", "tiny", "--json"))
    return found


def started(*arguments: object, **environment: object) -> subprocess.Popen[str]:
    """Start a command in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "tunesvc", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {name: str(value) for name, value in environment.items()},
    )


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait until something is true; return it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.1)
    return found


@pytest.fixture
def stored(study: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Store]:
    """The database of a study `tiny` with two long trials."""
    say(capsys, "new-study", study, *LONG)
    with storage.open_store() as store:
        yield store


def now(store: Store) -> Status:
    """Return how the study stands."""
    return studies.status(studies.open_study(store, "tiny"))


def epochs(store: Store) -> int:
    """Return how many epochs of the first trial are known."""
    trials = studies.open_study(store, "tiny").optuna().trials
    return len(trials[0].intermediate_values) if trials else 0


@pytest.fixture
def worker(stored: Store) -> Iterator[subprocess.Popen[str]]:
    """A worker that serves all studies, in the middle of the first trial."""
    process = started("worker", "--device", "cpu")
    try:
        until(lambda: epochs(stored) >= 2)
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    """Read a process's output up to a line that matches."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if re.search(pattern, line):
            return line
    raise AssertionError(f"no line matches {pattern!r} in:\n{''.join(read)}")


@pytest.mark.slow
def test_up_to_the_end_with_an_interruption(study: Path) -> None:
    """Ctrl-C stops cleanly, the same command continues to the exact budget and names the winner."""
    first = started("up", study, "--until-done", "--no-dashboard")
    wait_for(first, r"^[1-9]/8 trials")
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 130, out
    assert "the same command continues:  tunesvc up '" in out
    assert status()["trials"]["running"] == 0
    assert json.loads(tunesvc("list", "--json"))[0]["state"] == "open"

    said = tunesvc("up", study, "--until-done", "--no-dashboard")
    for words in ("8/8 trials", "validation  accuracy", "test        accuracy", "next:"):
        assert words in said
    assert re.search(r"two_conv_cnn +from-scratch", said)
    end = status()
    assert end["state"] == "done"
    assert end["budget"] == {"trials": 8}
    assert sum(end["trials"][s] for s in ("complete", "pruned", "fail")) == 8
    assert end["trials"]["fail"] == end["trials"]["running"] == end["trials"]["waiting"] == 0
    assert set(end["best"]) == {"trial", "value", "params"}
    best = json.loads(tunesvc("best", "tiny", "--json"))
    assert best["test"]["accuracy"] > 0.2
    assert best["validation"]["accuracy"] == end["best"]["value"]


@pytest.mark.slow
def test_up_confirms_what_the_file_asks_for(study: Path, storage_url: str) -> None:
    """Killed in the middle of it, the same command goes on; what was found stands at the end."""
    settings = ("--set", "confirm={top: 2, seeds: 3, ablation: false}", "--set", "budget.epochs=2")
    order = ("up", study, "--until-done", "--no-dashboard", *settings)
    killed = started(*order)
    wait_for(killed, "its best are run again with new seeds, as tiny.confirm")
    wait_for(killed, r"^[1-9]/\d+ trials")
    killed.kill()
    killed.communicate()
    said = tunesvc(*order)
    for words in ("8/8 trials", "validation  accuracy", "winner: ", "winner's curse", "next:"):
        assert words in said
    with storage.open_store(storage_url) as store:
        held = studies.open_study(store, "tiny.confirm")
        runs = [trial.user_attrs for trial in held.optuna().trials]
        assert studies.status(held).state == "done"
    told = [(each["configuration"], each["seed_index"]) for each in runs]
    assert len(set(told)) == len(told) in (6, 9)  # defaults may be among the best


@pytest.mark.slow
def test_killed_workers_lose_nothing(study: Path) -> None:
    """kill -9 in the middle: another worker ends the study with the exact budget."""
    tunesvc("new-study", study)
    killed = started("worker", "--study", "tiny", "--device", "cpu")
    wait_for(killed, "trial 1 ")
    killed.kill()
    killed.communicate()
    tunesvc("worker", "--study", "tiny", "--until-done", "--device", "cpu")
    end = status()
    assert (end["state"], end["trials"]["fail"]) == ("done", 0)
    assert sum(end["trials"][s] for s in ("complete", "pruned")) == 8


def test_a_stop_signal_is_no_failure(
    worker: subprocess.Popen[str], stored: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """`workers` shows who runs what; SIGTERM ends it within 10 s, with 0, and its trial waits."""
    shown = say(capsys, "workers")
    assert re.search(rf"\S+ +running +{worker.pid} +cpu +tiny +0 +\d+ +\d+s ago", shown)
    (known,) = json.loads(say(capsys, "workers", "--json"))
    assert (known["state"], known["pid"], known["trial"]) == ("running", worker.pid, 0)
    assert known["seen_seconds_ago"] < 5
    begun = time.monotonic()
    worker.terminate()
    out, _ = worker.communicate(timeout=30)
    assert time.monotonic() - begun < 10
    assert worker.returncode == 0, out
    assert "stopped by SIGTERM" in out
    assert "no worker runs; start one with:  tunesvc worker" in say(capsys, "workers")
    assert (now(stored).trials["running"], now(stored).trials["waiting"]) == (0, 1)


def test_pause_gives_back_and_resume_goes_on(
    worker: subprocess.Popen[str], stored: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A running trial is given back within an epoch; it goes on with no epoch repeated."""
    assert "1 running trial is being given back" in say(capsys, "pause", "tiny")
    until(lambda: now(stored).trials["waiting"] == 1, 60)
    assert "paused already" in say(capsys, "pause", "tiny")
    assert " idle " in say(capsys, "workers")
    before = epochs(stored)
    assert say(capsys, "resume", "tiny") == "tiny is open\n"
    until(lambda: epochs(stored) >= before + 5)
    worker.terminate()
    out, _ = worker.communicate(timeout=30)
    trained = [int(number) for number in re.findall(r"trial 0 epoch (\d+)", out)]
    assert trained == list(range(1, len(trained) + 1))
    assert len(trained) >= before + 5


def test_stop_reaches_every_host(
    stored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that no signal of ours reaches leaves the study within an epoch, with code 0."""
    far = started("worker", "--study", "tiny", "--device", "cpu", TUNESVC_HOME=tmp_path / "far")
    try:
        until(lambda: epochs(stored) >= 2)
        assert "did you mean 'tiny'?" in say(capsys, "stop", "tinny", code=2)
        assert now(stored).trials["running"] == 1
        said = say(capsys, "stop", "tiny")
        assert f"told worker {far.pid} on " in said
        assert "to leave tiny within an epoch" in said
        assert far.wait(timeout=60) == 0
        assert (now(stored).trials["running"], now(stored).trials["waiting"]) == (0, 1)
        assert "nothing to stop" in say(capsys, "stop", "tiny")
    finally:
        far.kill()
        far.communicate()


def test_stop_without_a_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's processes are stopped; that other hosts were not told is said in a line."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    assert "nothing to stop" in say(capsys, "stop", "tiny")
    assert not (tmp_path / "postgres").exists(), "a server was set up to tell nobody"
    assert "goes with a study" in say(capsys, "stop", "--storage", "postgresql://h/d", code=2)
    monkeypatch.setenv("TUNESVC_STORAGE", "postgresql://me@127.0.0.1:9/none")
    code = (
        "import signal\nfrom tunesvc.processes import registered\n"
        "with registered('worker', ['tiny']):\n    signal.pause()\n"
    )
    held = subprocess.Popen([sys.executable, "-c", code])
    until(processes.running)
    said = say(capsys, "stop", "tiny")
    assert held.wait(timeout=60) == -signal.SIGTERM
    assert f"asked worker {held.pid} to stop" in said
    assert "other hosts were not told: Postgres cannot be reached" in said


def test_retry_puts_failed_trials_back(stored: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The same trial waits for a worker, no trial is begun for it, and the dashboard sees it."""
    made = studies.open_study(stored, "tiny")
    held = leases.Leases(stored.engine)
    lease = held.claim(made.id, leases.Terms(trials=2))
    assert lease is not None
    held.note_attempt(lease, "out of luck", alike=None, is_final=True)
    held.close()
    assert "tunesvc retry tiny --failed" in say(capsys, "retry", "tiny", code=2)
    pages = Pages(stored)
    assert _states(pages, made.id) == ["Fail"]
    left = now(stored).trials["remaining"]

    said = say(capsys, "retry", "tiny", "--failed")
    assert "put back 1 failed trial of tiny" in said
    assert "start one:  tunesvc worker --study tiny" in said
    after = now(stored).trials
    assert (after["fail"], after["waiting"], after["remaining"]) == (0, 1, left)
    assert _states(pages, made.id) == ["Running"]
    assert "no trial of tiny has failed" in say(capsys, "retry", "tiny", "--failed")


def _states(pages: Pages, study_id: int) -> list[str]:
    """Return the trials' states as the dashboard's page asks for them."""
    environ: dict[str, Any] = {"QUERY_STRING": "after=0"}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = f"/api/studies/{study_id}"
    body = b"".join(pages(environ, lambda *_: None))
    return [trial["state"] for trial in json.loads(body)["trials"]]


def test_gc_frees_what_nobody_needs(
    stored: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dry run tells; without it a deleted study's files go; another database's stay."""
    monkeypatch.setenv("TUNESVC_ARTIFACTS", str(tmp_path / "shared"))
    shelf = open_artifacts(places.artifacts())
    made = studies.open_study(stored, "tiny")
    retention.claim_folder(shelf, made, storage.installation_id(stored.engine))
    file = f"{retention.folder(made, 0)}/0000000001-00001-0000000.ckpt"
    shelf.write(file, b"x" * 5000)
    shelf.write("theirs-00000000/trial-00000/a.ckpt", b"y" * 700)
    assert "nothing to free" in say(capsys, "gc")

    studies.delete(made)  # as if `tunesvc delete` had been killed in the middle
    said = say(capsys, "gc", "--dry-run")
    assert f"5.1 kB would be freed in {shelf.location}" in said
    assert f"{studies.artifact_folder(made)}/" in said
    assert "700 B left: they are not of this database" in said
    assert file in shelf.names("")
    size = 5000 + shelf.size(f"{studies.artifact_folder(made)}/{retention.OWNER}")
    told = json.loads(say(capsys, "gc", "--json"))
    assert (told["dry_run"], told["bytes"]) == (False, size)
    assert {item["kind"] for item in told["found"]} == {"study", "foreign"}
    assert shelf.names("") == ["theirs-00000000/trial-00000/a.ckpt"]


def test_delete_takes_the_checkpoints_with_it(
    stored: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the study stays on the shelf."""
    shelf = open_artifacts(places.artifacts())
    made = studies.open_study(stored, "tiny")
    shelf.write(f"{retention.folder(made, 0)}/0000000001-00001-0000000.ckpt", b"x")
    say(capsys, "delete", "tiny", "--yes")
    assert shelf.names(f"{studies.artifact_folder(made)}/") == []


def test_a_study_that_was_paused_by_itself_says_why(
    stored: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status`, `list` and `pause` tell; `resume` ends it, and says how to run a worker."""
    why = "3 trials in a row failed alike: boom"
    studies.pause(studies.open_study(stored, "tiny"), why)
    assert f"study tiny: paused: {why}" in say(capsys, "status", "tiny")
    assert f"tiny: {why}" in say(capsys, "list")
    assert f"tiny is paused already: {why}" in say(capsys, "pause", "tiny")
    said = say(capsys, "resume", "tiny")
    assert "tiny is open; no worker serves it, start one:  tunesvc worker --study tiny" in said
    assert why not in say(capsys, "status", "tiny")


def test_pause_of_a_study_that_is_done(stored: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and does not call it paused."""
    trials = studies.open_study(stored, "tiny").optuna()
    for _ in range(2):
        trials.tell(trials.ask(), 0.5)
    assert say(capsys, "pause", "tiny") == "tiny is done: there is nothing to pause\n"
    assert "tiny is done" in say(capsys, "resume", "tiny")
    assert now(stored).state == "done"


def test_list_goes_on_after_a_study_that_it_cannot_read(
    study: Path, stored: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown as unreadable, with the reason; the others are shown as ever."""
    say(capsys, "new-study", study, "--name", "later")
    which = {"study_id": studies.open_study(stored, "tiny").id}
    broken = """
        UPDATE study_user_attributes SET value_json = '{}'
        WHERE key = 'tunesvc:spec' AND study_id = :study_id
    """
    with stored.engine.begin() as connection:
        connection.execute(text(broken), which)
    said = say(capsys, "list")
    assert re.search(r"tiny +unreadable", said)
    assert "tiny: another version of tunesvc stored it" in said
    assert re.search(r"later +open +0/8", said)
    assert [each["state"] for each in json.loads(say(capsys, "list", "--json"))] == [
        "unreadable",
        "open",
    ]


def test_a_worker_that_was_killed_is_shown_as_lost(
    stored: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """When its lease has expired; nobody counts on it to serve a study."""
    held = leases.Leases(stored.engine, device="cuda:3")
    held.claim(studies.open_study(stored, "tiny").id, leases.Terms(trials=2))
    held._renewal.end()  # as kill -9 does
    with stored.engine.begin() as connection:
        connection.execute(text("UPDATE tunesvc.lease SET expires_at = now() - interval '5 s'"))
    assert re.search(r" lost +\d+ +cuda:3 +tiny +0 +0 +\d+s ago", say(capsys, "workers"))
    assert "no worker serves it" in say(capsys, "resume", "tiny")
    held.close()


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (5_250_000, "5.2 MB"),
        (3 * 10**12, "3000.0 GB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    """Bytes in units that people read."""
    assert show.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0s"), (61, "1m 01s"), (3_720, "1h 02m"), (47 * 3600, "47h 00m"), (2e5, "2d 07h")],
)
def test_durations(seconds: float, words: str) -> None:
    """From seconds to days."""
    assert show.duration(seconds) == words


@pytest.mark.slow
def test_up_replaces_a_killed_worker(
    study: Path, stored: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its trial goes on at once: a lease of a worker that is known to be dead is not waited for."""
    say(capsys, "new-study", study, *LONG, "--set", "leases.seconds=600")
    running = started("up", study, *LONG, "--set", "leases.seconds=600", "--no-dashboard",
                      "--workers", "1", "--device", "cpu")  # fmt: skip
    try:
        until(lambda: epochs(stored) >= 2)
        (worker,) = leases.workers(stored.engine)
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(running, r"worker-0 died \(signal 9\); replaced")
        before = epochs(stored)
        until(lambda: epochs(stored) > before)
        assert now(stored).takeovers == 1
    finally:
        running.terminate()
        running.communicate()


def test_study_s_life(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """new-study, list, status, pause, resume, delete."""
    assert "8 trials on 2 backbone(s)" in say(capsys, "new-study", study)
    assert "8 trials" in say(capsys, "new-study", study)  # the same one again is the same study
    assert re.search(r"tiny +open +0/8", say(capsys, "list"))
    assert "tiny is paused" in say(capsys, "pause", "tiny")
    assert "tiny: paused" in say(capsys, "status", "tiny")
    assert "tiny is open" in say(capsys, "resume", "tiny")
    assert "no trial has ended yet" in say(capsys, "best", "tiny")
    assert "add --yes" in say(capsys, "delete", "tiny", code=2)
    assert "tiny is deleted" in say(capsys, "delete", "tiny", "--yes")
    assert "no studies yet" in say(capsys, "list")
    assert "tiny" in say(capsys, "status", "tiny", code=2)


def test_up_on_a_paused_study(study: Path) -> None:
    """It says so and returns; nothing is started."""
    tunesvc("new-study", study)
    tunesvc("pause", "tiny")
    said = tunesvc("up", study, "--until-done")
    assert "tiny is paused; resume it with:  tunesvc resume tiny" in said
    assert "worker(s)" not in said


def test_up_refuses_before_anything_starts(study: Path) -> None:
    """A device or a port that there is not."""
    assert "there is" in tunesvc("up", study, "--device", "cuda:99", code=2)
    assert "no such port" in tunesvc("up", study, "--port", "99999", code=2)


def test_stop_reaches_a_dashboard(study: Path) -> None:
    """One that nobody else stops; `stop STUDY` leaves it alone."""
    served = started("dashboard")
    wait_for(served, "http://")
    deadline = time.monotonic() + 120
    while f"asked dashboard {served.pid}" not in (said := tunesvc("stop")):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    served.communicate(timeout=120)
    assert served.returncode == 130


SWALLOWED = """
import os, signal, sys, waitress
from tunesvc.cli import main
real = waitress.create_server
def make(*given, **named):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        pass
    return real(*given, **named)
waitress.create_server = make
sys.argv = ["tunesvc", "dashboard"]
main()
"""


def test_dashboard_hears_a_signal_in_a_library_that_catches_everything() -> None:
    """It ends all the same."""
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, timeout=300)
    assert done.returncode == 130


@pytest.mark.parametrize("width", [40, 80])
def test_progress_fits_the_terminal(width: int) -> None:
    """Nothing is cut off at 80 and at 40 columns; the bar is left out where it is narrow."""
    params = {"backbone": "tiny_resnet", "strategy": "discriminative", "lr": 0.0123, "epochs": 4}
    counts = {"complete": 3, "pruned": 1, "fail": 0, "running": 2, "waiting": 0, "remaining": 2}
    now = Status(
        *("birds", "open", "", {"trials": 8}, {"trials": 6}, counts, Best(2, 0.75, params)),
        *("accuracy", "maximize", 6.0, 40.0),
        datetime(2026, 1, 1),
    )  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=width).print(show._picture(now, width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    for words in ("2 running", "6.0 trials/min, 40s left", "lr=0.0123", "epochs=4"):
        assert words in told
    assert ("━" in told) == (width == 80)


def test_dry_run_stores_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows what `check` shows."""
    said = say(capsys, "new-study", study, "--dry-run", "--set", "budget.trials=3")
    assert "trials: 3" in said
    assert "nothing was stored" in said
    assert "no studies yet" in say(capsys, "list")


def test_check_as_json(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Facts for a script: classes, counts, memory."""
    found = json.loads(say(capsys, "check", study, "--json"))
    assert found["ok"] is True
    assert found["facts"]["data"]["splits"]["train"]["images"] == 200
    assert found["facts"]["backbones"]["tiny_resnet"]["training_memory_mb"] > 0


def test_doctor_finds_the_database(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions, devices, storage, folders, and no problem."""
    found = json.loads(say(capsys, "doctor", "--json"))
    assert found["problems"] == []
    assert found["storage"]["postgres"]
    assert found["storage"]["room_for_workers"] == (found["storage"]["connections"] - 10) // 2
    assert found["devices"][0]["device"] == "cpu"
    assert "ok:" in say(capsys, "doctor")


def test_doctor_says_what_is_wrong(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is down is a problem with a fix, and the rest is still shown."""
    monkeypatch.setenv("TUNESVC_STORAGE", "postgresql://me@127.0.0.1:9/none")
    said = say(capsys, "doctor", code=3)
    assert "problem:" in said
    assert "fix:" in said


def test_doctor_looks_at_the_artifacts(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that cannot hold any is a problem."""
    monkeypatch.setenv("TUNESVC_ARTIFACTS", "gopher://host/folder")
    assert "artifacts cannot be kept at gopher://host/folder" in say(capsys, "doctor", code=2)


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Editors read it."""
    assert json.loads(say(capsys, "schema"))["title"] == "tunesvc study"


def test_new_study_from_a_folder(
    study: Path, flower_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A commented file that reads back, and a stored study."""
    said = say(
        capsys,
        *("new-study", "--data", flower_folder, "--backbones", "two_conv_cnn"),
        *("--preset", "quick", "--trials", 3, "--no-check"),
    )
    written = Path("studies") / f"{flower_folder.name}.yaml"
    assert f"wrote {written}" in said
    assert "#" in written.read_text()
    assert flower_folder.name in say(capsys, "list")


def test_a_dry_run_from_a_folder_writes_nothing(
    study: Path, flower_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the file that would be written, and what a check of it finds."""
    command = ("new-study", "--data", flower_folder, "--backbones", "tiny_resnet", "--dry-run")
    said = say(capsys, *command)
    assert "search_space:" in said
    assert "nothing was stored" in said
    assert not Path("studies").exists()


def test_new_study_writes_a_file_or_reads_one(
    study: Path, flower_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both at once contradict each other; what is said to go on with has the same options."""
    for option in (("--data", flower_folder), ("--preset", "quick"), ("--trials", 3)):
        said = say(capsys, "new-study", study, *option, code=2)
        assert f"{option[0]} goes without a study file" in said
    said = say(capsys, "new-study", study, "--name", "x", "--set", "budget.trials=3")
    assert "--name x --set=budget.trials=3" in said


def test_new_study_tells_of_the_workers_that_wait(
    study: Path, storage_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is told to start workers where some serve all studies."""
    with storage.open_store(storage_url) as store, closing(leases.Leases(store.engine)):
        said = say(capsys, "new-study", study, "--no-check")
    assert "1 worker(s) take its trials" in said
    assert "start workers" not in said


def test_check_counts_the_defaults(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget below the number of backbones is remarked upon; ranges are told in words."""
    said = say(capsys, "check", study, "--set", "budget.trials=1")
    assert "the defaults alone need 2 trials" in said
    assert "lr: 0.0001 … 0.1 (log)" in said
    said = say(capsys, "check", study, "--set", "task=image-regression",
               "--set", "objective.metric=accuracy", code=2)  # fmt: skip
    assert "image-regression has no metric 'accuracy'" in said


def test_new_study_asks_at_a_terminal(study: Path, flower_folder: Path) -> None:
    """What the command line leaves out is asked for; an empty answer takes the preset's."""
    asked = pexpect.spawn(
        sys.executable, ["-m", "tunesvc", "new-study", "--no-check"], timeout=300, encoding="utf-8"
    )
    for question, answer in (
        ("Folder of images", str(flower_folder)),
        ("Preset", "quick"),
        ("Backbones", "two_conv_cnn"),
        ("Trials", "4"),
    ):
        asked.expect(question)
        asked.sendline(answer)
    asked.expect("4 trials on 1 backbone")
    asked.close()


def test_new_study_without_anything_says_what_it_needs(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is at the terminal: no question is asked."""
    assert "--data DIR" in say(capsys, "new-study", code=2)


@pytest.fixture
def flower_folder(tmp_path: Path) -> Path:
    """Two classes of a few made-up pictures."""
    folder = tmp_path / "garden"
    for shade, label in enumerate(("rose", "tulip")):
        (folder / label).mkdir(parents=True)
        for index in range(6):
            pixels = np.full((32, 32, 3), 40 * shade + 9 * index, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


def test_a_password_is_seen_nowhere(
    study: Path, admin: Engine, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in `ps`, not in logs, not in the study, not in what is printed."""
    secret = "Ge1heim+Geheim"
    with admin.connect() as connection:
        connection.execute(text(f"ALTER ROLE tunesvc PASSWORD '{secret}'"))
    url = make_url(storage_url).set(password=secret).render_as_string(hide_password=False)
    monkeypatch.setenv("TUNESVC_STORAGE", url)
    running = started("up", study, "--until-done", "--no-dashboard", "--workers", "1")
    line = wait_for(running, r"^[1-9]/8 trials")
    seen = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=300)
    logs = Path(os.environ["TUNESVC_HOME"], "logs").glob("tiny-*.log")
    texts = [line, out, seen, tunesvc("status", "tiny", "--json"), tunesvc("doctor")]
    texts += [log.read_text() for log in logs]
    with admin.execution_options(isolation_level="AUTOCOMMIT").connect():
        assert not any(secret in words for words in texts)
    deadline = time.monotonic() + 60
    while any(map(is_ours, found("study tiny"))):
        assert time.monotonic() < deadline, "a worker is left over"
        time.sleep(0.2)


def found(words: str) -> list[str]:
    """Return the ids of processes whose command line has these words."""
    return subprocess.run(["pgrep", "-f", words], capture_output=True, text=True).stdout.split()


def is_ours(pid: str) -> bool:
    """Whether a process has the home of this run of the tests: another may be at work beside."""
    try:
        environment = Path("/proc", pid, "environ").read_bytes()
    except OSError:
        return not Path("/proc/self").exists()
    return os.environ["TUNESVC_HOME"].encode() in environment
