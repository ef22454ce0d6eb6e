"""How `up` shares a machine among workers, and what it does when one dies."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tunesvc import dashboard, leases, study, train, up
from tunesvc.errors import TuneError, UsageError
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.up import Measured, Packing, Room, packing, placing
from tunesvc.up import fleet as fleets

BURIED: list[str] = []


def test_two_workers_share_a_machine_without_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two on a CPU of two cores or more, one on a single core."""
    monkeypatch.setattr(placing, "devices", list)
    monkeypatch.setattr(placing, "cores", lambda: 8)
    assert up.placements(None, None) == ["cpu", "cpu"]
    monkeypatch.setattr(placing, "cores", lambda: 1)
    assert up.placements(None, None) == ["cpu"]


def test_one_worker_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """More workers than GPUs go round."""
    monkeypatch.setattr(placing, "devices", lambda: ["cuda:0", "cuda:1"])
    assert up.placements(None, None) == ["cuda:0", "cuda:1"]
    assert up.placements(3, None) == ["cuda:0", "cuda:1", "cuda:0"]
    assert up.placements(None, "cpu") == ["cpu", "cpu"] or up.cores() == 1


def test_no_workers_is_a_mistake() -> None:
    """`--workers 0` says so."""
    with pytest.raises(UsageError, match="at least one"):
        up.placements(0, "cpu")


def test_so_many_workers_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number counts from the start; `auto` begins with one each."""
    monkeypatch.setattr(placing, "devices", lambda: ["cuda:0", "cuda:1"])
    assert up.placements(None, None, "2") == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert up.placements(None, "cuda:1", "3") == ["cuda:1"] * 3
    assert up.placements(None, None, "auto") == ["cuda:0", "cuda:1"]
    assert up.placements(None, "cpu", "auto") == ["cpu"]
    assert up.placements(None, "cpu", "3") == ["cpu"] * 3


@pytest.mark.parametrize("words", ["0", "-1", "all", "1.5", "²", ""])
def test_trials_per_device_is_a_number_or_auto(words: str) -> None:
    """Anything else is refused, with what may stand there."""
    with pytest.raises(UsageError, match="a number from 1 on, or auto"):
        up.placements(None, "cpu", words)


def test_the_number_of_workers_is_given_once() -> None:
    """`--workers` and `--trials-per-device` exclude each other."""
    for words in ("auto", "2"):
        with pytest.raises(UsageError, match="cannot be given together") as caught:
            up.placements(2, "cpu", words)
        assert "leave one of them out" in str(caught.value)


@pytest.mark.parametrize(
    ("memory", "peak", "count"),
    [
        (80_000, 30_000, 2),  # 72,000 / 33,500
        (80_000, 16_000, 3),  # 72,000 / 18,100 = 3.98
        (80_000, 15_900, 4),  # 72,000 / 17,990
        (80_000, 100, 4),  # never more
        (8_000, 3_000, 1),  # 7,200 / 3,800
        (8_000, 9_000, 1),  # never fewer
    ],
)
def test_as_many_fit_as_the_largest_trial_allows(memory: float, peak: float, count: int) -> None:
    """Nine tenths of the memory, over a tenth more than was measured and a CUDA context."""
    assert up.fitting(Room("cuda:0", "H100", memory), peak) == count


def test_the_cpu_has_a_worker_for_each_core_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a CUDA context; of a container's memory, where that is less than the machine's."""
    monkeypatch.setattr(placing, "cores", lambda: 3)
    (room,) = up.rooms(["cpu", "cpu"])
    assert up.fitting(room, 1.0) == 3
    assert up.fitting(room, 0.4 * room.memory_mb) == 2
    monkeypatch.setattr(placing, "cores", lambda: 64)
    assert up.fitting(up.rooms(["cpu"])[0], 1.0) == packing.MOST_TOGETHER


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is a number; `max` means that there is none."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(packing, "LIMITS", (str(limit), str(tmp_path / "absent")))
    limit.write_text("max\n")
    (room,) = up.rooms(["cpu"])
    assert room.memory_mb > 64
    limit.write_text(f"{64 * 2**20}\n")
    (room,) = up.rooms(["cpu"])
    assert room.memory_mb == 64


def test_without_a_gpu_torch_is_not_needed() -> None:
    """Neither to place workers on a CPU nor to know its memory: an import of seconds is spared."""
    code = (
        "import sys\n"
        "from tunesvc import up\n"
        "up.rooms(up.placements(None, 'cpu', 'auto'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


H100 = Room("cuda:0", "H100", 80_000)
OTHER_H100 = Room("cuda:1", "H100", 80_000)
L4 = Room("cuda:2", "L4", 24_000)


def test_one_worker_on_each_device_until_three_trials_have_ended() -> None:
    """On devices of this name: what others needed tells nothing."""
    alone = ["cuda:0", "cuda:2"]
    assert up.together([H100, L4], {}, 100) == alone
    assert up.together([H100, L4], {"H100": Measured(2, 1_000)}, 100) == alone
    assert up.together([H100, L4], {"V100": Measured(9, 1_000)}, 100) == alone
    known = {"H100": Measured(3, 30_000), "L4": Measured(1, 30_000)}
    assert up.together([H100, L4], known, 100) == ["cuda:0", "cuda:2", "cuda:0"]


def test_no_more_workers_than_trials() -> None:
    """The last trials are shared out among the devices, not piled on the first."""
    known = {"H100": Measured(5, 1_000), "L4": Measured(3, 1_000)}
    rooms = [H100, OTHER_H100, L4]
    assert len(up.together(rooms, known, 100)) == 12
    assert up.together(rooms, known, 5) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert up.together(rooms, known, 0) == []


def test_workers_are_added_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger trial takes none away."""
    monkeypatch.setattr(packing, "LOOK_SECONDS", 0.0)
    looks = [
        ({"H100": Measured(2, 30_000)}, 100),
        ({"H100": Measured(3, 16_000)}, 3),  # of three that fit
        ({"H100": Measured(4, 60_000)}, 100),
    ]
    packed = Packing([H100], lambda: looks.pop(0))
    assert packed.more(["cuda:0"]) == []
    assert packed.more(["cuda:0"]) == ["cuda:0"] * 2
    assert packed.more(["cuda:0"] * 3) == []
    assert not looks


def test_nobody_looks_when_it_is_known_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every device, and for more trials than workers: it can only become less."""
    monkeypatch.setattr(packing, "LOOK_SECONDS", 0.0)
    known = Measured(3, 30_000)
    looks = [({"H100": known}, 100), ({"H100": known, "L4": known}, 100)]
    packed = Packing([H100, L4], lambda: looks.pop(0))
    devices = ["cuda:0", "cuda:2"]
    assert packed.more(devices) == ["cuda:0"]
    for _ in range(3):
        assert packed.more([*devices, "cuda:0"]) == []
    assert not looks


def test_looks_are_seldom() -> None:
    """Between two there are seconds: each asks the database."""
    looks: list[None] = []

    def look() -> tuple[dict[str, Measured], int]:
        looks.append(None)
        return {}, 100

    packed = Packing([H100], look)
    for _ in range(3):
        assert packed.more(["cuda:0"]) == []
    assert len(looks) == 1


def toy_study(store: Store, folder: Path, trials: int) -> study.Study:
    """A study of short trials on digits."""
    spec = StudySpec.model_validate(
        {
            "name": "digits",
            "data": {"kind": "digits", "subset": 60},
            "backbones": [{"name": "two_conv_cnn", "weights": "none"}],
            "search_space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}},
            "budget": {"trials": trials, "epochs": 1},
            "sampler": "random",
        }
    )
    return study.create(store, spec, base=folder)


def end_trial(made: study.Study, device: str, name: str, peak: float | None) -> None:
    """Have a trial come to its end as one that ran on such a device."""
    found = made.optuna()
    asked = found.ask()
    asked.set_user_attr("run", {"device": device, "device_name": name})
    if peak is not None:
        asked.set_user_attr("peak_memory_mb", peak)
    found.tell(asked, 0.5)


def test_what_trials_needed_is_known_by_device(store: Store, tmp_path: Path) -> None:
    """The largest of those that ended, by the name of the GPU; every CPU counts as `cpu`."""
    made = toy_study(store, tmp_path, 10)
    assert up.look(made) == ({}, 10)
    for device, name, peak in (
        ("cuda:0", "H100", 700.0),
        ("cuda:1", "H100", 900.5),
        ("cpu", "Xeon", 400.0),
        ("cpu", "EPYC", 300.0),
        ("cuda:0", "H100", None),  # it failed before it was measured
    ):
        end_trial(made, device, name, peak)
    assert up.look(made) == ({"H100": Measured(2, 900.5), "cpu": Measured(2, 400.0)}, 5)
    study.pause(made)
    assert up.look(made)[1] == 0


@pytest.mark.slow
def test_workers_join_while_a_study_runs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One begins; when three trials have ended two more come, each with its share of the cores."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    monkeypatch.setattr(packing, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(fleets, "cores", lambda: 6)
    made = toy_study(store, tmp_path, 1000)
    packed = Packing([Room("cpu", "cpu", 2**20, context_mb=0.0, most=3)], lambda: up.look(made))
    notes: list[str] = []
    with up.Fleet(made.name, store.url, ["cpu"], None, BURIED.append, packed) as fleet:
        deadline = time.monotonic() + 300
        while len(leases.workers(store.engine)) < 3:
            assert fleet.tend(notes.append)
            assert time.monotonic() < deadline
            time.sleep(0.1)
    ended = study.status(made).finished
    assert ended >= packing.MEASURED_TRIALS
    assert notes == [f"worker-{n} added on cpu: there is memory for it" for n in (1, 2)]
    assert {each.environment["OMP_NUM_THREADS"] for each in fleet.processes} == {"2"}


def test_no_worker_joins_a_study_that_was_left(tmp_path: Path) -> None:
    """`stop STUDY` sends every worker away: a new one would serve the study again."""

    def look() -> tuple[dict[str, Measured], int]:
        raise AssertionError("nobody is at work")

    gone = fleets._Process("worker-0", [], {}, tmp_path / "w.log")
    gone.process = subprocess.Popen([sys.executable, "-c", ""])
    gone.process.wait()
    left = up.Fleet("none", None, ["cuda:0"], None, BURIED.append, Packing([H100], look), [gone])
    assert not left.tend()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_known_by_the_name_that_trials_store() -> None:
    """And by all of its memory."""
    (room,) = up.rooms(["cuda:0"])
    assert room.name == train.place("cuda").describe()["device_name"]
    _, total = torch.cuda.mem_get_info("cuda:0")
    assert room.memory_mb == pytest.approx(total / 2**20, rel=0.02)


def test_the_next_free_port_is_taken() -> None:
    """A port that somebody listens on is passed over."""
    with socket.socket() as taken:
        taken.bind((dashboard.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert dashboard.free_port(port) != port


def wait_for_end(fleet: up.Fleet) -> None:
    """Tend until the workers have ended."""
    deadline = time.monotonic() + 300
    while fleet.tend():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_worker_s_error_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code and last words reach whoever started it; nothing is left running."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    monkeypatch.setenv("TUNESVC_STORAGE", "postgresql://nobody@127.0.0.1:9/none")
    with (
        pytest.raises(TuneError) as raised,
        up.Fleet("none", None, ["cpu"], None, BURIED.append) as fleet,
    ):
        wait_for_end(fleet)
    assert raised.value.exit_code == 3
    assert "127.0.0.1" in str(raised.value)
    assert all(each.ended() is not None for each in fleet.processes)


def test_an_unknown_device_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what there is; `cuda` is the first GPU."""
    monkeypatch.setattr(placing, "devices", list)
    with pytest.raises(UsageError, match="there is cpu"):
        up.placements(None, "cuda")
    monkeypatch.setattr(placing, "devices", lambda: ["cuda:0"])
    assert up.placements(None, "cuda") == ["cuda:0"]


def test_a_port_that_cannot_be_had_is_a_mistake() -> None:
    """No such port, or a busy one."""
    for port in (0, 65536):
        with pytest.raises(UsageError, match="no such port"):
            dashboard.checked_port(port)
    with socket.socket() as taken:
        taken.bind((dashboard.HOST, 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot be had"):
            dashboard.checked_port(taken.getsockname()[1])


def test_last_words_are_of_this_run(tmp_path: Path) -> None:
    """What an earlier run left in the log is passed over; an error is shown from its beginning."""
    log = tmp_path / "w.log"
    log.write_text("error: an old one\n")
    process = fleets._Process("worker-0", ["nonsense"], {}, log)
    process.start()
    assert process.process is not None
    process.process.wait()
    assert "an old one" not in process.last_words()
    with log.open("a") as out:
        out.write("error: what\n  why: because\n")
    assert process.last_words() == "error: what\n  why: because"


def test_a_killed_worker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said why."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    notes: list[str] = []
    with up.Fleet("none", None, ["cpu"], None, BURIED.append) as fleet:
        first = fleet.processes[0].process
        assert first is not None
        first.kill()
        first.wait()
        assert fleet.tend(notes.append)
        assert fleet.processes[0].process is not first
    assert f":{first.pid}:" in BURIED[-1]
    assert notes == ["worker-0 died (signal 9); replaced"]


def test_a_fleet_that_cannot_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker is stopped when the second cannot be started."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path))
    (tmp_path / "logs" / "none-worker-1.log").mkdir(parents=True)
    fleet = up.Fleet("none", None, ["cpu", "cpu"], None, BURIED.append)
    with pytest.raises(IsADirectoryError), fleet:
        pass
    assert fleet.processes[0].ended() is not None


def test_what_up_started_ends_with_it(tmp_path: Path) -> None:
    """It is asked to stop, as by SIGTERM, when the process that started it is gone."""
    told = tmp_path / "told"
    child = (
        "import pathlib, signal, sys, time\n"
        "from tunesvc import processes\n"
        "def stop(*_):\n"
        f"    pathlib.Path({str(told)!r}).touch()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "processes.end_with_parent()\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        "env = os.environ | {'TUNESVC_PARENT': str(os.getpid())}\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], env=env)\n"
        "time.sleep(3)\n"
    )
    subprocess.run([sys.executable, "-c", parent], check=True, timeout=30)
    deadline = time.monotonic() + 30
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
