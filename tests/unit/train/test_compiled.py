"""Training steps that are compiled where it pays, on a toy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch._dynamo.utils import counters

from tunesvc import train
from tunesvc.train import Compiling, Epoch, OutOfMemory, Run, compiler, stepping
from tunesvc.train.compiler import Step
from tunesvc.train.stepping import Known, pays

ToyRun = Callable[..., Run]

NEEDS_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: there is no g++"
)
PAIRED = Known(pairs={"a": (0.10, 0.08)}, cold_seconds=100.0)  # saves 0.02 s a step

# A process trains with the choice of argv[3], and what is known in the folder argv[2].
ELSEWHERE = """
import json, pathlib, runpy, sys
from tunesvc import train
make_run = runpy.run_path(sys.argv[1])["make_run"]
for _ in range(2):
    run = make_run(epochs=1)
    run.compiling = train.Compiling(sys.argv[3], pathlib.Path(sys.argv[2]))
    (epoch,) = train.fit(run)
    print(json.dumps([run.compiling.describe(), epoch.train_loss]))
"""


# ---- what it brings, and costs


@pytest.mark.parametrize(
    ("known", "steps", "eager", "is_ready", "expected"),
    [
        (PAIRED, 6001, None, False, True),  # 120.02 s saved, 1.2 × 100 s spent
        (PAIRED, 5999, None, False, False),
        (replace(PAIRED, warm_seconds=10.0), 601, None, False, True),  # 12.02 s against 12 s
        (replace(PAIRED, warm_seconds=10.0), 599, None, False, False),
        (PAIRED, 1, None, True, True),  # compiled already: every step counts
        (replace(PAIRED, pairs={"a": (0.08, 0.10)}), 10**9, 0.08, True, False),
        (Known(), 10**9, None, False, False),  # an eager step is to be measured first
        (Known(), 9000, 0.1, False, True),  # 900 s are left
        (Known(), 8999, 0.1, False, False),
        (Known(failed="no compiler"), 10**9, 1.0, False, False),
        (replace(PAIRED, failed="no compiler"), 10**9, 1.0, True, False),
    ],
)
def test_it_pays_by_arithmetic(
    known: Known, steps: int, eager: float | None, is_ready: bool, expected: bool
) -> None:
    """Steps × saving > 1.2 × seconds to compile; a first try with 900 seconds left."""
    assert pays(known, steps, eager, is_ready=is_ready).pays is expected


def test_what_is_known_outlives_the_process(tmp_path: Path) -> None:
    """Pairs of the newest eight runs, each run's latest; the saving is their median."""
    known = Known().made(60.0).made(9.0).made(8.0)
    for run in range(9):
        known = known.paired(str(run), 1.0, 1.0 - run / 10).paired(str(run), 1.0, 0.9 - run / 10)
    stepping.write(tmp_path / "deep" / "it.json", known, {"backbone": "toy"})

    assert stepping.read(tmp_path / "deep" / "it.json") == known
    assert list(known.pairs) == [str(run) for run in range(1, 9)]
    assert known.saving == pytest.approx(0.55)
    assert (known.cold_seconds, known.warm_seconds) == (60.0, 8.0)


SPOILED = [
    "",
    "[]",
    "{}",
    '{"known": 3}',
    '{"known": {"pairs": []}}',
    '{"known": {"pairs": {"a": 1}}}',
]


@pytest.mark.parametrize("text", SPOILED)
def test_a_spoiled_file_tells_nothing(tmp_path: Path, text: str) -> None:
    """It is measured again."""
    (tmp_path / "it.json").write_text(text)
    assert stepping.read(tmp_path / "it.json") == Known()
    assert stepping.read(tmp_path / "missing.json") == Known()


# ---- decisions, with a compiler that compiles nothing


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Have steps run as they are; the shapes of the batches that would be compiled."""
    shapes: list[torch.Size] = []

    def of(module: nn.Module, shape: torch.Size, _: list[nn.Module], *, is_graphed: bool) -> Step:
        def wrapper(given: Tensor) -> Tensor:
            shapes.append(given.shape)
            outputs: Tensor = module(given)
            return outputs

        return Step(module, shape, wrapper, ())

    monkeypatch.setattr(Step, "of", of)
    return shapes


def trained(run: Run, compiling: Compiling) -> list[Epoch]:
    run.compiling = compiling
    return list(train.fit(run))


def test_a_run_that_tries_goes_by_turns(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eager, compiled, eager, compiled; what both took is stored, and the rest is decided by it."""
    monkeypatch.setattr(stepping, "TRY_SECONDS", 0.0)
    run = toy_run(epochs=5)
    run.compiling = Compiling("auto", tmp_path)
    counts = []
    for _ in train.fit(run):
        counts.append(len(compiled))
    assert counts[:4] == [0, 3, 3, 6]

    told = run.compiling.describe()
    assert counts[4] == 3 * told["epochs"]
    assert "s a step compiled" in told["why"]
    (file,) = tmp_path.glob("*.json")
    known = stepping.read(file)
    assert len(known.pairs) == 1
    assert known.cold_seconds is not None
    assert json.loads(file.read_text())["kind"]["images"] == 16


def test_only_full_batches_of_training_are_compiled(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path
) -> None:
    """Of 60 images in batches of 16, three; the last one and evaluation are as they were."""
    trained(toy_run(epochs=2), Compiling("on", tmp_path))
    assert compiled == [torch.Size((16, 3, 8, 8))] * 6


def test_pieces_of_a_batch_are_of_one_size_too(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path
) -> None:
    """16 images, at most 6 at once: 5, 5 and 6, of which the fives are compiled."""
    run = toy_run(epochs=1)
    run.micro_batch = 6
    trained(run, Compiling("on", tmp_path))
    assert compiled == [torch.Size((5, 3, 8, 8))] * 6


def test_a_smaller_last_batch_is_not_compiled_for(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path
) -> None:
    """Nor where a run goes on with nothing else; what is left of an epoch measures nothing."""
    run, ticks = toy_run(epochs=1), iter(range(3))

    def tick() -> None:
        if next(ticks) == 2:
            raise InterruptedError

    with suppress(InterruptedError):
        list(train.fit(run, tick))
    trained(run, Compiling("on", tmp_path))
    assert not compiled
    assert "compiled_step" not in run.compiling.describe()


def test_a_short_run_stays_eager(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path
) -> None:
    """By default; it says so, and what a step took."""
    run = toy_run()
    trained(run, Compiling("auto", tmp_path))
    told = run.compiling.describe()
    assert not compiled
    assert not told["used"]
    assert "first tried with 900 s" in told["why"]
    assert told["eager_step"] > 0


def test_it_can_be_switched_off(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it would bring."""
    monkeypatch.setattr(stepping, "TRY_SECONDS", 0.0)
    run = toy_run()
    trained(run, Compiling("off", tmp_path))
    assert not compiled
    assert run.compiling.describe() == {"used": False, "why": "switched off"}


def test_the_steps_of_a_kept_model_are_kept(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path
) -> None:
    """A run of the same model and kind compiles nothing; another batch size is another kind."""
    run = toy_run()
    trained(run, Compiling("on", tmp_path))
    for batch_size, is_new in ((16, False), (20, True)):
        compiling = Compiling("on", tmp_path, run.compiling.steps)
        trained(again(run, batch_size=batch_size), compiling)
        assert (compiling.seconds > 0) == is_new
    assert len(list(tmp_path.glob("*.json"))) == 2


def again(run: Run, **knobs: Any) -> Run:
    """Return a run with the model of an earlier one, and its compiled steps."""
    changed = run.config.knobs.model_copy(update=knobs)
    config = replace(run.config, knobs=changed)
    place, plan = run.placement, run.plan
    later = Run(run.backbone, run.task, run.train, run.val, config, place, plan, is_warm=True)
    later.compiling = replace(run.compiling)
    return later


def test_while_another_worker_compiles_training_goes_on(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path
) -> None:
    """Eagerly, for that epoch; nobody waits, and nothing is compiled twice at a time."""
    trained(toy_run(epochs=1), Compiling("on", tmp_path))
    (file,) = tmp_path.glob("*.json")
    compiled.clear()
    run = toy_run(epochs=2)
    run.compiling = Compiling("on", tmp_path)
    epochs = train.fit(run)
    with FileLock(file.with_suffix(".lock")):
        next(epochs)
        assert "another worker" in run.compiling.describe()["why"]
        assert not compiled
    next(epochs)
    assert len(compiled) == 3


def test_compiling_is_done_apart(
    toy_run: ToyRun, compiled: list[torch.Size], tmp_path: Path
) -> None:
    """Whoever watches a run knows that it may take minutes, the first time alone."""
    entered: list[int] = []

    @contextmanager
    def apart() -> Iterator[None]:
        entered.append(len(compiled))
        yield

    trained(toy_run(), Compiling("on", tmp_path, apart=apart))
    assert entered == [0]


@pytest.mark.parametrize("good", [0, 4])
def test_what_goes_wrong_is_done_eagerly(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """At the first step or a later one; once and for all on this host."""
    tries = fail(monkeypatch, ValueError("there is a bug\nhere"), good)
    expected = trained(toy_run(), Compiling("off"))
    for _ in range(2):
        run = toy_run()
        assert numbers(trained(run, Compiling("on", tmp_path))) == numbers(expected)
        told = run.compiling.describe()
        assert told["why"] == "cannot be compiled: ValueError: there is a bug"
    assert len(tries) == good + 1


def test_what_goes_wrong_is_tried_once_where_nothing_can_be_stored(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs a run one try, not one for each epoch."""

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(stepping, "write", full)
    tries = fail(monkeypatch, ValueError("there is a bug"), 0)
    trained(toy_run(), Compiling("on", tmp_path))
    assert len(tries) == 1


def test_memory_that_does_not_suffice_is_told_as_ever(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller batch may be compiled."""
    fail(monkeypatch, MemoryError("none left"), 0)
    with pytest.raises(OutOfMemory):
        trained(toy_run(), Compiling("on", tmp_path))
    assert not list(tmp_path.glob("*.json"))


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception, good: int) -> list[int]:
    """Have every compiled step but the first ones fail; the steps that were tried."""
    tries: list[int] = []

    def of(module: nn.Module, shape: torch.Size, _: list[nn.Module], *, is_graphed: bool) -> Step:
        def wrapper(given: Tensor) -> Tensor:
            tries.append(len(given))
            if len(tries) > good:
                raise error
            outputs: Tensor = module(given)
            return outputs

        return Step(module, shape, wrapper, ())

    monkeypatch.setattr(Step, "of", of)
    return tries


def numbers(epochs: list[Epoch]) -> list[Any]:
    return [(epoch.metrics, epoch.train_loss) for epoch in epochs]


def test_files_of_one_who_was_killed_are_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library cut short would be taken for a whole one; what was finished is kept."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    files = tmp_path / "kind"
    with compiler.at_work(files):
        (files / "whole.so").touch()
    with suppress(KeyboardInterrupt), compiler.at_work(files):
        assert (files / "whole.so").exists()
        (files / "short.so").touch()
        raise KeyboardInterrupt
    with compiler.at_work(files):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(files)
        assert not list(files.iterdir())


# ---- with torch's compiler


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is known on a host, and inductor's files: the tests compile the toy once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # to be put back
        yield tmp_path_factory.mktemp("host")


def close(one: Epoch, other: Epoch) -> None:
    assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
    assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-4)


@NEEDS_COMPILER
@pytest.mark.slow
def test_compiled_training_is_eager_training(toy_run: ToyRun, host: Path, tmp_path: Path) -> None:
    """Within 1e-4, dropout's chance included; either goes on from where the other stands.

    The module keeps its names; no batch, nor the head's dropout, has it compiled a second time.
    """
    counters.clear()
    knobs = {"dropout": 0.3, "optimizer": "sgd"}  # Adam makes much of rounding: see `compiled`
    eager, run = toy_run(**knobs), toy_run(**knobs)
    states = {eager: tmp_path / "eager.pt", run: tmp_path / "compiled.pt"}
    run.compiling = Compiling("on", host)
    ours, expected = train.fit(run), train.fit(eager)
    close(next(ours), first := next(expected))
    for each, file in states.items():
        torch.save(each.state_dict(), file)
    whole = [first, *expected]
    for one, other in zip(ours, whole[1:], strict=True):
        close(one, other)
    assert run.compiling.describe()["epochs"] == 3
    assert list(run.module.state_dict()) == list(eager.module.state_dict())
    assert "forward" not in vars(run.module.get_submodule("head"))

    run.module.get_submodule("head.0").p = 0.6
    trained(again(run), compiling := Compiling("on", host, run.compiling.steps))
    assert (compiling.epochs, compiling.seconds) == (3, 0.0)
    run.module.get_submodule("head.0").p = 0.3
    ends = {eager: states[run], again(run): states[eager]}
    for each, file in ends.items():
        each.load_state_dict(torch.load(file, weights_only=True))
        for one, other in zip(train.fit(each), whole[1:], strict=True):
            close(one, other)
    assert counters["stats"]["unique_graphs"] == 1


def elsewhere(folder: Path, choice: str, **environment: str) -> list[tuple[dict[str, Any], float]]:
    """Return what another process tells of two runs, and their losses."""
    conftest = str(Path(__file__).with_name("conftest.py"))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, conftest, str(folder), choice],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@NEEDS_COMPILER
@pytest.mark.slow
def test_another_process_knows_that_it_pays(toy_run: ToyRun, host: Path) -> None:
    """It compiles from its first epoch on, with the files that are there."""
    run = toy_run(epochs=1)
    (expected,) = train.fit(run)
    if not list(host.glob("*.json")):
        trained(toy_run(epochs=1), Compiling("on", host))
    (file,) = host.glob("*.json")
    known = stepping.read(file)
    stepping.write(file, known.paired("somebody's", 1000.0, 1.0), {})

    for told, loss in elsewhere(host, "auto"):
        assert told["used"], told
        assert told["why"].startswith("4 steps would save 4e+03 s")
        assert loss == pytest.approx(expected.train_loss, rel=1e-4)
    assert stepping.read(file).warm_seconds is not None
    assert stepping.read(file).cold_seconds == known.cold_seconds


@pytest.mark.slow
def test_without_a_compiler_training_goes_on(toy_run: ToyRun, tmp_path: Path) -> None:
    """Eagerly, to the same numbers; it is told on the trial, and not tried again."""
    (expected,) = train.fit(toy_run(epochs=1))
    (first, loss), (second, _) = elsewhere(tmp_path, "on", CXX="/nonexistent")
    assert loss == expected.train_loss
    assert not first["used"]
    assert first["why"].startswith("cannot be compiled: ")
    assert second["why"] == first["why"]
    (file,) = tmp_path.glob("*.json")
    assert stepping.read(file).failed == first["why"]
