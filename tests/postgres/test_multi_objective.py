"""Studies of several objectives: real workers on real digits, and everything that reads them."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import get_note
from stored_trials import add_trials, stored_study
from trials import run_next, trial

from tunesvc import checkpoint, confirm, results, study, train
from tunesvc.check import check
from tunesvc.cli import main
from tunesvc.dashboard.live import Live
from tunesvc.errors import UsageError
from tunesvc.report import kept, wording
from tunesvc.report.posting import post
from tunesvc.search import REACHED
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.study import Census, quantity
from tunesvc.study.quantities import VARIABLE
from tunesvc.train import Diverged
from tunesvc.trial import Desk, costs, retention
from tunesvc.worker import serve

OBJECTIVES = [{"metric": "accuracy"}, {"cost": "latency_ms"}, {"cost": "params_m"}]


def spec(**changed: Any) -> StudySpec:
    """Two tiny networks, one of which is slower and larger, on a hundred digits."""
    made = {
        "name": "front",
        "data": {"kind": "digits", "subset": 100},
        "backbones": [
            {"name": "tiny_resnet", "weights": "none"},
            {"name": "two_conv_cnn", "weights": "none"},
        ],
        "search_space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "batch_size": 32},
        "objective": OBJECTIVES,
        "budget": {"trials": 6, "epochs": 2},
        "sampler": {"kind": "tpe", "n_startup_trials": 3},
        "pruner": "none",
        "league": False,
    }
    return StudySpec.model_validate(made | changed)


def stored(store: Store, folder: Path, **changed: Any) -> study.Study:
    """The study in the database."""
    return study.create(store, spec(**changed), base=folder)


def desk_of(made: study.Study, folder: Path) -> Desk:
    """A worker's desk for it."""
    return Desk(made, folder / "cache", Folder(folder / "kept"))


def trials(made: study.Study) -> list[FrozenTrial]:
    """All trials, as anybody reads them."""
    return made.store.fresh().get_all_trials(made.id)


def costs_of(told: FrozenTrial) -> list[float | None]:
    """What a trial has stored of its further objectives."""
    return [quantity(each["cost"], told.user_attrs) for each in OBJECTIVES[1:]]


def beaten(one: list[float], by: list[float]) -> bool:
    """Whether (accuracy, cost, …) is beaten."""
    own, others = ([-values[0], *values[1:]] for values in (one, by))
    return others != own and all(a <= b for a, b in zip(others, own, strict=True))


def unbeaten(found: list[FrozenTrial]) -> set[int]:
    """The front by brute force: every pair is compared; of equals the first."""
    done = [each for each in found if each.state is TrialState.COMPLETE]
    return {
        one.number
        for one in done
        if not any(
            beaten(one.values, other.values)
            or (other.values == one.values and other.number < one.number)
            for other in done
        )
    }


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and artifacts of its own."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def say(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command and return what it prints."""
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)

    def say(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*words])
        told = capsys.readouterr()
        assert (end.value.code or 0) == code, told.err
        return told.out + told.err

    return say


def test_a_real_study_and_everything_that_reads_it(
    store: Store, own: Path, say: Callable[..., str]
) -> None:
    """Six trials by a worker; then each command, page and number tells of it."""
    made = stored(store, own)
    serve(store.url, ["front"], device="cpu", until_done=True, on_trial=lambda _: None)
    found = trials(made)
    assert [each.state for each in found] == [TrialState.COMPLETE] * 6
    for each in found:
        last = each.user_attrs["history"][-1]["accuracy"]
        assert each.values == [last, *costs_of(each)]
        assert each.intermediate_values[2] == last
    seen = made.optuna()
    assert [each.name for each in seen.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert seen.metric_names == ["accuracy", "latency_ms", "params_m"]

    best = max(found, key=lambda each: (each.values[0], -each.number))
    now = study.status(made)
    assert now.best is not None
    assert (now.best.trial, now.best.value) == (best.number, best.values[0])
    assert (now.metric, now.direction) == ("accuracy", "maximize")
    assert list(now.objectives.values()) == ["maximize", "minimize", "minimize"]
    census = Census(store)
    assert census.outcomes()[made.id].value == best.values[0]
    assert census.tallies()[0].metric == "accuracy"

    (front,) = results.pareto(made)
    assert {each.trial for each in front.members} == unbeaten(found)
    assert {each.number for each in optuna_front(made)} >= unbeaten(found)
    told = json.loads(say("best", "front", "--json"))["pareto"][0]
    assert {each["trial"] for each in told["trials"]} == unbeaten(found)
    assert told["over"] == {"accuracy": "maximize", "latency_ms": "minimize",
                            "params_m": "minimize"}  # fmt: skip
    assert json.loads(say("status", "front", "--json"))["pareto"][0] == told
    shown = " ".join(say("best", "front").split())
    assert "Pareto set: no other trial beats these in accuracy and latency_ms and params_m" in shown
    assert "also weighed: latency_ms, params_m" in shown
    assert "Pareto set of accuracy, latency_ms, params_m: " in say("status", "front")
    assert "front" in say("list")

    report = kept.told(made).as_json()["sections"]
    assert {row["trial"] for row in report["pareto"]["rows"]} == unbeaten(found)
    assert {row["trial"] for row in report["cost-latency-ms"]["rows"]} <= set(range(6))
    assert report["cost-size-mb"]["rows"]
    assert not post(made)  # the worker has
    assert f"by trial {best.number}" in get_note(made.optuna())


def optuna_front(made: study.Study) -> list[FrozenTrial]:
    """Optuna's own front, with all of equals."""
    return made.optuna().best_trials


def test_a_confirmation_runs_the_first_objective_again(store: Store, own: Path) -> None:
    """Of the best by it; the companion is an ordinary study."""
    made = stored(store, own, budget={"trials": 3, "epochs": 1})
    serve(store.url, ["front"], device="cpu", until_done=True, on_trial=lambda _: None)
    wish = confirm.Wish(1, 1, 0)
    standing = confirm.advance(made, wish)
    assert [each.name for each in standing.companion.optuna().directions] == ["MAXIMIZE"]
    name = standing.companion.name
    serve(store.url, [name], device="cpu", until_done=True, on_trial=lambda _: None)
    found = confirm.found(made)
    assert found
    best = max(trials(made), key=lambda each: (each.values[0], -each.number))
    assert f"trial {best.number}" in {each.candidate.name for each in found.configurations}


def test_trials_are_pruned_by_the_first_objective(store: Store, own: Path) -> None:
    """A poor one is, however cheap; it has no values, and what it had reached is stored."""
    made = stored(
        store, own,
        backbones=[{"name": "tiny_resnet", "weights": "none"}],
        search_space={"lr": [1e-2, 1e-7], "batch_size": 32},
        defaults={"lr": 1e-2},
        budget={"trials": 12, "epochs": 4},
        pruner={"kind": "asha", "control": 0},
    )  # fmt: skip
    desk = desk_of(made, own)
    while run_next(desk):
        pass
    found = trials(made)
    pruned = [each for each in found if each.state is TrialState.PRUNED]
    poor = {each.number for each in found if each.params["lr"] == 1e-7}
    assert pruned
    assert poor
    assert {each.number for each in pruned} & poor
    assert all(each.values is None for each in pruned)
    for each in pruned:
        last = each.intermediate_values[max(each.intermediate_values)]
        assert each.system_attrs[REACHED] == [last, *costs_of(each)]
        assert "others were better" in each.user_attrs["reason"]
    assert study.status(made).trials["pruned"] == len(pruned)
    (front,) = results.pareto(made)
    assert {each.trial for each in front.members} == unbeaten(found)


def test_what_diverged_is_not_shown_as_it_once_was(
    store: Store, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler would take it for a good one."""
    fit = train.fit

    def diverging(*given: Any) -> Iterator[train.Epoch]:
        yield next(iter(fit(*given)))
        raise Diverged(1, math.nan, "train")

    made = stored(store, own)
    monkeypatch.setattr(train, "fit", diverging)
    desk = desk_of(made, own)
    assert run_next(desk).state is TrialState.PRUNED
    told = trial(desk, 0)
    assert told.values is None
    assert REACHED not in told.system_attrs


def test_the_front_is_kept_beside_the_best(store: Store, own: Path) -> None:
    """Checkpoints of the best by the first objective, and of all that none beats."""
    made = stored(store, own, keep="best-1")
    serve(store.url, ["front"], device="cpu", until_done=True, on_trial=lambda _: None)
    found = trials(made)
    (folder,) = (own / "home").rglob(f"{made.name}-{made.uid}")
    there = {int(each.name.removeprefix("trial-")) for each in folder.glob("trial-*")
             if list(each.glob("*.ckpt"))}  # fmt: skip
    assert there == unbeaten(found)
    assert set(retention.best(made.optuna(), 1)) <= there
    assert len(there) > 1


# A worker whose trials do not end: whenever it is killed, that is in the middle of one.
HANGING = """
import time
from tunesvc import train
from tunesvc.cli import main

fit = train.fit

def hanging(training, tick):
    for epoch in fit(training, tick):
        yield epoch
        while epoch.index == 3:
            tick()
            time.sleep(0.05)

train.fit = hanging
main()
"""


def test_a_killed_worker_s_trial_has_every_value(store: Store, own: Path) -> None:
    """kill -9 in the middle; the next worker tells all objectives, as if nothing had happened."""
    changed = {"budget": {"trials": 2, "epochs": 12}, "ask_ahead": False,
               "leases": {"seconds": 2}}  # fmt: skip
    made = stored(store, own, **changed)
    command = [sys.executable, "-c", HANGING, "worker", "--study", made.name, "--device", "cpu"]
    environment = os.environ | {"TUNESVC_STORAGE": store.url}
    first = subprocess.Popen([*command, "--until-done"], env=environment)
    deadline = time.monotonic() + 600
    while not (seen := trials(made)) or len(seen[0].intermediate_values) < 2:
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert trials(made)[0].state is TrialState.RUNNING
    serve(store.url, [made.name], device="cpu", until_done=True, on_trial=lambda _: None)
    twin = stored(store, own, name="twin", **changed)
    serve(store.url, ["twin"], device="cpu", until_done=True, on_trial=lambda _: None)
    assert study.status(made).takeovers == 1
    for each, undisturbed in zip(trials(made), trials(twin), strict=True):
        assert each.state is TrialState.COMPLETE
        assert each.values == [each.intermediate_values[12], *costs_of(each)]
        assert each.intermediate_values == undisturbed.intermediate_values
        assert each.values[2] == undisturbed.values[2]


def test_a_worker_that_dies_before_the_last_word(
    store: Store, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds all epochs in the checkpoint measures what nobody had told, and tells it."""
    names = ("accuracy", "latency_ms", "train_memory_mb", "epoch_seconds", "seconds")
    objective = [{"metric": names[0]}, *({"cost": name} for name in names[1:4])]
    made = stored(store, own, objective=objective, budget={"trials": 1, "epochs": 1})
    save = checkpoint.save

    def save_and_die(*given: Any) -> None:
        save(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    desk = desk_of(made, own)
    with pytest.raises(KeyboardInterrupt):
        run_next(desk)
    assert "run" not in trial(desk, 0).user_attrs
    monkeypatch.setattr(checkpoint, "save", save)
    assert run_next(desk).state is TrialState.COMPLETE
    told = trial(desk, 0)
    assert told.values[0] == told.user_attrs["history"][0]["accuracy"]
    assert told.values[1:] == [quantity(name, told.user_attrs) for name in names[1:4]]
    assert all(value > 0 for value in told.values)


def test_a_machine_that_measures_no_latency_takes_no_trial(
    store: Store, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why, and nothing is begun; a study of other objectives is served."""
    made = stored(store, own)
    monkeypatch.setenv(VARIABLE, "off")
    with pytest.raises(UsageError, match="latency_ms of study 'front' is not measured"):
        serve(store.url, ["front"], device="cpu", until_done=True, on_trial=lambda _: None)
    assert trials(made) == []
    (problem,) = check(made.spec, own).problems
    assert f"{VARIABLE} is off" in problem.why
    other = [{"metric": "accuracy"}, {"cost": "size_mb"}]
    stored(store, own, name="sized", objective=other, budget={"trials": 1, "epochs": 1})
    serve(store.url, ["sized"], device="cpu", until_done=True, on_trial=lambda _: None)
    assert study.status(study.open_study(store, "sized")).trials["complete"] == 1


def test_a_cost_that_cannot_be_known_is_told_before_the_first_epoch(
    store: Store, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial fails with the reason, and has trained nothing."""
    made = stored(store, own)
    monkeypatch.setattr(costs, "_latency", lambda *_: None)
    desk = desk_of(made, own)
    assert run_next(desk).state is TrialState.FAIL
    told = trial(desk, 0)
    assert "objective latency_ms cannot be measured of tiny_resnet" in told.user_attrs["reason"]
    assert told.intermediate_values == {}


def test_a_disturbed_latency_is_measured_once_more(
    store: Store, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the trial has trained; the lower one is told."""
    made = stored(store, own)
    measure, calls = costs._latency, []

    def disturbed(*given: Any) -> Any:
        found = measure(*given)
        calls.append(found)
        return found | {"ms": 1e6, "quiet": False}

    monkeypatch.setattr(costs, "_latency", disturbed)
    desk = desk_of(made, own)
    assert run_next(desk).state is TrialState.COMPLETE
    told = trial(desk, 0)
    assert told.values[1] == told.user_attrs["run"]["latency"]["ms"] < 1e6


def test_a_list_of_one_is_the_study_that_it_was(store: Store, own: Path) -> None:
    """It may be stored over the other form, and Optuna's study has one direction."""
    made = stored(store, own, objective="accuracy")
    again = stored(store, own, objective=[{"metric": "accuracy"}])
    assert (made.id, made.uid) == (again.id, again.uid)
    assert len(made.optuna().directions) == 1


def test_heads_in_one_stack_tell_every_objective(store: Store, own: Path) -> None:
    """Trials that are trained and told together."""
    objective = [{"metric": "accuracy"}, {"metric": "loss"}, {"cost": "seconds"}]
    made = stored(
        store, own,
        backbones=["tiny_resnet"],
        search_space={"strategy": "linear-probe", "lr": {"low": 1e-3, "high": 1e-1, "log": True}},
        objective=objective,
        sampler="random",
    )  # fmt: skip
    serve(store.url, ["front"], device="cpu", until_done=True, on_trial=lambda _: None)
    found = trials(made)
    assert max(each.user_attrs["levers"].get("stack", 0) for each in found) > 1
    for each in found:
        last = each.user_attrs["history"][-1]
        assert each.values[:2] == [last["accuracy"], last["loss"]]
        assert each.values[2] == pytest.approx(sum(each.user_attrs["seconds"].values()), abs=1.0)
    seen = made.optuna()
    assert [each.name for each in seen.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    (front,) = results.pareto(made)
    assert {each.trial for each in front.members} == {
        each.number for each in found if not any(
            other.number != each.number and other.values[0] >= each.values[0]
            and other.values[1] <= each.values[1] and other.values[2] <= each.values[2]
            for other in found)}  # fmt: skip


def test_status_page_and_metrics(store: Store, tmp_path: Path) -> None:
    """They tell of the first objective."""
    made = stored_study(store, tmp_path, objective=OBJECTIVES[:2])
    told: list[Any] = []

    def ask(path: str, query: str = "") -> str:
        environ = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": "GET"}
        return b"".join(Live(store)(environ, lambda *said: told.extend(said))).decode()

    (shown,) = json.loads(ask("/status", "format=json"))["studies"]
    now = study.status(made)
    assert now.best is not None
    assert shown["best"] == {"trial": now.best.trial, "value": now.best.value}
    assert shown["metric"] == "accuracy"
    assert wording.value(now.best.value) in ask("/status")
    assert 'tunesvc_trials{state="complete",study="made"} 60.0' in ask("/metrics")


def test_a_study_of_one_objective_shows_two_sets_in_a_few_lines(
    store: Store, tmp_path: Path, say: Callable[..., str]
) -> None:
    """By latency and by size; by what is constrained, where something is."""
    made = stored_study(store, tmp_path, trials=0)
    add_trials(made, 60, latency_on="Xeon")
    before, _, shown = say("best", "made").partition("Pareto set: ")
    assert before
    assert len(shown.splitlines()) <= 6
    told = json.loads(say("best", "made", "--json"))["pareto"]
    assert [list(each["over"]) for each in told] == [
        ["accuracy", "latency_ms"], ["accuracy", "params_m"],
    ]  # fmt: skip
    best = study.status(made).best
    assert best is not None
    assert [each["trials"][0]["trial"] for each in told] == [best.trial] * 2
    lines = [line for line in say("status", "made").splitlines() if "Pareto" in line]
    assert len(lines) == 2
    capped = stored_study(
        store, tmp_path, name="capped", trials=0, constraints={"size_mb": "<= 100"}
    )
    add_trials(capped, 20, latency_on="Xeon")
    (one,) = json.loads(say("status", "capped", "--json"))["pareto"]
    assert list(one["over"]) == ["accuracy", "size_mb"]
