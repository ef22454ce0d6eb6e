"""Trials drawn ahead, head-only trials in one stack, and the league table, by a real worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text
from trials import CPU, run_next

from tunesvc import checkpoint, places, study
from tunesvc.interrupt import Stopped, check, stoppable
from tunesvc.leases import Leases, tell_together
from tunesvc.results import results
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.storage.artifacts import open_artifacts
from tunesvc.train import Stack, placement, precision
from tunesvc.train.probe import probe
from tunesvc.trial import AtOnce, Attempt, Desk, complete, league, retention, run_together, score
from tunesvc.trial.league import head
from tunesvc.worker import serve, serving


def stored(store: Store, folder: Path, name: str, **changed: Any) -> study.Study:
    """Heads on the pretrained tiny network, for a hundred digits."""
    made = {
        "name": name,
        "data": {"kind": "digits", "subset": 100},
        "backbones": ["tiny_resnet"],
        "search_space": {
            "strategy": "linear-probe",
            "lr": {"low": 1e-3, "high": 1e-1, "log": True},
            "weight_decay": [0.0, 0.1],
            "augmentation": ["none", "flip-crop"],
        },
        "budget": {"trials": 8, "epochs": 3},
        "sampler": "random",
        "pruner": "none",
    } | changed
    return study.create(store, StudySpec.model_validate(made), base=folder)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a cache and artifacts of its own."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path / "home"))


def work(store: Store, *names: str) -> list[int]:
    """Serve until done; return the numbers of the trials in the order in which they were told."""
    lines: list[str] = []
    serve(store.url, names, device="cpu", until_done=True, on_trial=lines.append)
    return [int(line.split()[1]) for line in lines]


def trials(made: study.Study) -> list[FrozenTrial]:
    """All trials, as anybody reads them."""
    return made.store.fresh().get_all_trials(made.id)


def left(made: study.Study) -> list[int]:
    """The numbers of the trials whose checkpoints lie there."""
    return retention.kept(open_artifacts(places.artifacts()), made)


def test_quick_trials_are_not_swept_after_each(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the trials would take as long as training; when work is over, only the best stays."""
    made, swept, told = stored(store, tmp_path, "quick", stack=1, keep="best-1"), [], []
    real = retention.forget
    monkeypatch.setattr(retention, "forget", lambda *a: (swept.append(len(told)), real(*a)))
    serve(store.url, [made.name], device="cpu", until_done=True, on_trial=told.append)
    assert left(made) == [made.optuna().best_trial.number]
    assert 1 < len(swept) < len(told) == 8


def test_a_stop_sweeps(store: Store, tmp_path: Path) -> None:
    """A worker that leaves between two trials leaves no checkpoint that is not kept."""
    made, lines = stored(store, tmp_path, "left", stack=1, keep="best-1"), []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 4:
            raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        serve(store.url, [made.name], device="cpu", until_done=True, on_trial=tell)
    assert left(made) == [made.optuna().best_trial.number]


def test_another_study_s_trial_sweeps(store: Store, tmp_path: Path) -> None:
    """What the last quick trials of a study left does not wait for the next study's end."""
    made, then = (stored(store, tmp_path, name, stack=1, keep="best-1") for name in ("a", "b"))
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        until = time.monotonic() + 20
        while len(told) == 9 and left(made) != [made.optuna().best_trial.number]:
            assert time.monotonic() < until
            time.sleep(0.05)

    serve(store.url, [made.name, then.name], device="cpu", until_done=True, on_trial=tell)
    assert len(told) == 16


def test_an_idle_worker_sweeps(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that stays and waits for more work."""
    made = stored(store, tmp_path, "idle", stack=1, keep="best-1")

    def look(_seconds: float) -> None:
        until = time.monotonic() + 20
        while left(made) != [made.optuna().best_trial.number]:
            assert time.monotonic() < until
            time.sleep(0.05)
        raise Stopped("SIGTERM")

    monkeypatch.setattr(serving, "time", SimpleNamespace(sleep=look))
    with pytest.raises(Stopped):
        serve(store.url, [made.name], device="cpu", until_done=False)


def test_a_stack_tells_what_each_trial_would_have_told_alone(store: Store, tmp_path: Path) -> None:
    """The same losses to rounding: 16 heads at once, one by one, or each through the whole loop."""
    together = stored(store, tmp_path, "together")
    alone = stored(store, tmp_path, "alone", stack=1)
    whole = stored(store, tmp_path, "whole")
    assert together.spec.digest == alone.spec.digest == whole.spec.digest
    for made in (together, alone):
        assert sorted(work(store, made.name)) == list(range(8))
    desk = Desk(whole, tmp_path / "cache", Folder(tmp_path / "kept"))
    for _ in range(8):
        run_next(desk)
    for others in (alone, whole):
        same(trials(together), trials(others))
    sizes = [trial.user_attrs["levers"]["stack"] for trial in trials(together)]
    assert max(sizes) > 2
    assert {trial.user_attrs["levers"]["stack"] for trial in trials(alone)} == {1}
    assert not any("stack" in trial.user_attrs["levers"] for trial in trials(whole))


def same(ones: list[FrozenTrial], others: list[FrozenTrial]) -> None:
    """The same parameters and, to rounding, losses."""
    for one, other in zip(ones, others, strict=True):
        assert one.state is other.state is TrialState.COMPLETE
        assert one.params == other.params
        assert one.intermediate_values.keys() == other.intermediate_values.keys() == {1, 2, 3}
        losses = [[e["loss"] for e in t.user_attrs["history"]] for t in (one, other)]
        torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-4, atol=1e-4)


def test_a_stacked_trial_s_model_can_be_scored(store: Store, tmp_path: Path) -> None:
    """Its checkpoint holds the head that the stack has trained."""
    made = stored(store, tmp_path, "scored", search_space={"strategy": "linear-probe", "lr": 0.05})
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    leases = Leases(store.engine)
    attempts = [attempt_of(desk, leases) for _ in range(2)]
    outcomes = [outcome for _, outcome in run_together(attempts)]
    leases.close()
    assert [outcome and outcome.state for outcome in outcomes] == [TrialState.COMPLETE] * 2
    assert trials(made)[1].user_attrs["levers"]["stack"] == 2
    kept = checkpoint.load(desk.shelf, desk.folder(1))
    assert kept is not None
    assert kept["history"][-1]["accuracy"] == trials(made)[1].value
    scored = score(desk, 1, CPU)
    assert scored is not None
    assert scored["accuracy"] > 0.5


def attempt_of(desk: Desk, leases: Leases) -> Attempt:
    """A claimed trial."""
    lease = leases.claim(desk.study.id, desk.terms)
    assert lease
    return Attempt(desk, lease, CPU, leases, AtOnce())


def test_one_that_diverges_leaves_the_others_alone(store: Store, tmp_path: Path) -> None:
    """It is pruned with its reason; its neighbours come to their end."""
    rates = {"strategy": "linear-probe", "optimizer": "sgd", "lr": [1e-2, 1e30]}
    made = stored(
        store, tmp_path, "wild", search_space=rates, sampler="grid", defaults={"lr": 1e-2},
        budget={"trials": 3, "epochs": 2},
    )  # fmt: skip
    work(store, "wild")
    told = {trial.params["lr"]: trial for trial in trials(made)}
    assert told[1e-2].state is TrialState.COMPLETE
    assert told[1e30].state is TrialState.PRUNED
    assert "diverged in epoch 1" in told[1e30].user_attrs["reason"]


def test_an_error_in_the_stack_is_each_trials_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial is then run by itself."""

    def broken(self: Stack, _tick: Callable[[], None]) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(Stack, "epoch", broken)
    made = stored(store, tmp_path, "broken", search_space={"strategy": "linear-probe"})
    desk, leases = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept")), Leases(store.engine)
    attempts = [attempt_of(desk, leases) for _ in range(3)]
    waiting = []
    for attempt, outcome in run_together(attempts):
        assert outcome
        assert outcome.state is TrialState.COMPLETE
        leases.release(attempt.lease)
        waiting.append([leases.watch(each.lease).is_waiting for each in attempts])
    assert waiting[0][1:] == [True, True]  # nobody takes them for hung
    assert waiting[1][2] is True
    leases.close()
    assert [trial.state for trial in trials(made)] == [TrialState.COMPLETE] * 3
    assert all(len(trial.user_attrs["history"]) == 3 for trial in trials(made))


def test_a_stop_signal_gives_the_whole_stack_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trial is lost and none is doubled; they run in the next worker."""
    epoch = Stack.epoch

    def stopped(self: Stack, tick: Callable[[], None]) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return epoch(self, tick)

    monkeypatch.setattr(Stack, "epoch", stopped)
    made = stored(store, tmp_path, "stopped")
    with pytest.raises(Stopped), stoppable():
        work(store, "stopped")
    before = study.status(made).trials
    assert before["running"] == 0
    assert before["waiting"] > 1
    monkeypatch.undo()
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path / "home"))
    work(store, "stopped")
    assert [trial.state for trial in trials(made)] == [TrialState.COMPLETE] * 8


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_ends_where_a_stack_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """All of its trials were told, or none: the next worker loses none and doubles none."""
    undisturbed, made = stored(store, tmp_path, "undisturbed"), stored(store, tmp_path, "ended")
    work(store, "undisturbed")
    told: list[int] = []

    def end(*given: Any) -> list[bool]:
        if when == "after":
            told.extend(tell_together(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesvc.trial.together.tell_together", end)
    with pytest.raises(KeyboardInterrupt):
        work(store, "ended")
    finished = [trial for trial in trials(made) if trial.state.is_finished()]
    assert len(finished) == len(told)
    assert len(told) > 1 or when == "before"
    assert all(trial.state is TrialState.COMPLETE for trial in finished)
    monkeypatch.undo()
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path / "home"))
    rest = work(store, "ended")
    assert sorted(rest) == [n for n in range(8) if n not in {trial.number for trial in finished}]
    same(trials(made), trials(undisturbed))


def test_one_of_a_stack_that_is_in_other_hands_leaves_the_others_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told; that one is not, nor are its checkpoints tidied away by who has lost it."""
    made = stored(store, tmp_path, "lost")
    outcomes: list[list[bool]] = []

    def take_one(engine: Any, ends: Any) -> list[bool]:
        if not outcomes:
            with engine.begin() as connection:
                take = "UPDATE tunesvc.lease SET token = nextval('tunesvc.token') WHERE trial_id = "
                connection.execute(text(f"{take} :id"), {"id": ends[1][0].lease.trial_id})
        outcomes.append(tell_together(engine, ends))
        return outcomes[-1]

    monkeypatch.setattr("tunesvc.trial.together.tell_together", take_one)
    assert sorted(work(store, "lost")) == list(range(8))
    assert outcomes[0][:3] == [True, False, True]
    assert [trial.state for trial in trials(made)] == [TrialState.COMPLETE] * 8
    assert all(len(trial.user_attrs["history"]) == 3 for trial in trials(made))


def test_one_that_is_lost_in_training_leaves_the_others_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their stack goes on; nothing is written of that one, nor kept."""
    made = stored(store, tmp_path, "lost", search_space={"strategy": "linear-probe"})
    desk, leases = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept")), Leases(store.engine)
    attempts = [attempt_of(desk, leases) for _ in range(3)]
    epoch = Stack.epoch

    def lose(self: Stack, tick: Callable[[], None]) -> Any:
        leases.watch(attempts[1].lease).is_lost = True
        return epoch(self, tick)

    monkeypatch.setattr(Stack, "epoch", lose)
    outcomes = {attempt.lease.number: outcome for attempt, outcome in run_together(attempts)}
    leases.close()
    assert [outcomes[n] and outcomes[n].state for n in range(3)] == [
        TrialState.COMPLETE, None, TrialState.COMPLETE,
    ]  # fmt: skip
    assert trials(made)[1].state is TrialState.RUNNING
    assert "history" not in trials(made)[1].user_attrs
    assert checkpoint.load(desk.shelf, desk.folder(1)) is None
    assert trials(made)[2].user_attrs["levers"]["stack"] == 3


def test_the_next_trial_is_asked_for_ahead(store: Store, tmp_path: Path) -> None:
    """While one trains, the next is claimed and drawn; the last has none after it."""
    space = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "batch_size": 32}
    changed = {"search_space": space, "budget": {"trials": 4, "epochs": 2}, "league": False}
    made = stored(store, tmp_path, "ahead", **changed)
    work(store, "ahead")
    levers = [trial.user_attrs["levers"] for trial in trials(made)]
    assert [lever.get("asked_ahead", False) for lever in levers] == [False, True, True, True]
    assert [lever["model"] for lever in levers] == ["built", "warm", "warm", "warm"]
    assert levers[0]["gap_seconds"] is None
    assert all(lever["gap_seconds"] > 0 for lever in levers[1:])
    one_by_one = stored(store, tmp_path, "one-by-one", ask_ahead=False, **changed)
    work(store, "one-by-one")
    assert [t.values for t in trials(one_by_one)] == [t.values for t in trials(made)]
    assert not any("asked_ahead" in t.user_attrs["levers"] for t in trials(one_by_one))


def test_a_worker_computes_in_the_precision_that_it_is_told(store: Store, tmp_path: Path) -> None:
    """League, stacked heads and whole nets alike; each trial tells it."""
    space = {"strategy": ["linear-probe", "full"], "augmentation": "none"}
    made = stored(
        store, tmp_path, "bits", search_space=space, sampler="grid",
        budget={"trials": 3, "epochs": 1},
    )  # fmt: skip
    serve(store.url, ["bits"], device="cpu", until_done=True, precision="bfloat16")
    assert {t.state for t in trials(made)} == {TrialState.COMPLETE}
    assert {t.user_attrs["run"]["precision"] for t in trials(made)} == {"bfloat16"}


def test_a_net_is_trained_in_what_it_is_quicker_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU that has bfloat16; its latency is that of float32, which an exported model has."""
    monkeypatch.setattr(placement, "_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "_step", lambda _, __, where: 2.0 - where.autocast)
    monkeypatch.setattr(precision, "LEAST_IMAGES", 2 * 100)
    space = {"strategy": ["linear-probe", "full"], "augmentation": "none"}
    for name, epochs in (("long", 2), ("short", 1)):
        made = stored(
            store, tmp_path, name, search_space=space, sampler="grid",
            budget={"trials": 3, "epochs": epochs},
        )  # fmt: skip
        serve(store.url, [name], device="cpu", until_done=True)
        runs = [t.user_attrs["run"] for t in trials(made)]
        assert {run["precision"] for run in runs} == {"bfloat16" if name == "long" else "float32"}
        assert {run["latency"]["precision"] for run in runs} == {"float32"}


def test_the_league_table(store: Store, tmp_path: Path) -> None:
    """Every pretrained backbone is probed once, before the first trial; `best` tells it."""
    made = stored(
        store, tmp_path, "league", backbones=["tiny_mobilenet", "tiny_resnet"],
        search_space={"strategy": "linear-probe"}, budget={"trials": 2, "epochs": 1},
    )  # fmt: skip
    work(store, "league")
    found = results(made)
    assert {entry.backbone for entry in found.league} == {"tiny_mobilenet", "tiny_resnet"}
    scores = [entry.metrics["accuracy"] for entry in found.league]
    assert scores == sorted(scores, reverse=True)
    assert all(entry.images == 100 and entry.l2 > 0 for entry in found.league)
    assert found.as_json()["league"][0]["metrics"]["accuracy"] == scores[0]


def test_workers_of_a_host_divide_the_league(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds another at a backbone does the next; in the end that one, if its prober died."""
    two = ["tiny_mobilenet", "tiny_resnet"]
    made = stored(store, tmp_path, "divided", backbones=two)
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    held = tmp_path / "cache" / "league" / f"{made.uid}-00.lock"
    held.parent.mkdir(parents=True)
    other, looks, probed = FileLock(held), list[int](), list[tuple[str, bool]]()
    other.acquire()
    own = league._probe

    def noted(desk: Desk, label: str, *more: Any) -> None:
        probed.append((label, other.is_locked))
        own(desk, label, *more)

    monkeypatch.setattr(league, "_probe", noted)
    monkeypatch.setattr("tunesvc.hostcache.making._LOOK_SECONDS", 0.05)

    def tick() -> None:
        if set(study.league(made)) == {"tiny_resnet"}:
            looks.append(1)
            if len(looks) == 3:
                other.release()  # as its death would

    complete(desk, CPU, tick)
    assert probed == [("tiny_resnet", True), ("tiny_mobilenet", False)]
    assert set(study.league(made)) == set(two)
    assert not list(held.parent.iterdir())


def test_a_league_that_cannot_be_divided_is_made_all_the_same(store: Store, tmp_path: Path) -> None:
    """Where the cache takes no lock, as on a full disk."""
    made = stored(store, tmp_path, "undivided")
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "league").write_text("in the way")
    complete(desk, CPU, check)
    assert set(study.league(made)) == {"tiny_resnet"}


def test_the_league_holds_the_other_cheap_predictors(store: Store, tmp_path: Path) -> None:
    """LogME and H-score of the probe's features, and what the weights tell of their training."""
    made = stored(store, tmp_path, "cheap", backbones=["tiny_mobilenet"])
    desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
    complete(desk, CPU, check)
    entry = study.league(made)["tiny_mobilenet"]
    assert entry.logme is not None
    assert entry.h_score is not None
    assert 0 < entry.h_score < 9
    assert entry.transfer_seconds > 0
    assert entry.pretraining == {
        "name": "tiny_mobilenet",
        "epoch": 8,
        "metric": "accuracy",
        "value": pytest.approx(0.9, abs=0.1),
    }
    assert entry.imagenet_top1 is None


def test_a_backbone_that_cannot_be_probed_holds_up_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The league says why, below those that could be; and the trials run."""
    asked: list[int] = []

    def full(*given: Any, **more: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("no room")
        return probe(*given, **more)

    monkeypatch.setattr("tunesvc.trial.league.probe", full)
    two = ["tiny_mobilenet", "tiny_resnet"]
    made = stored(store, tmp_path, "full", backbones=two, budget={"trials": 2, "epochs": 1})
    assert sorted(work(store, "full")) == [0, 1]
    best, worst = results(made).league
    assert (best.backbone, best.why) == ("tiny_resnet", "")
    assert (worst.backbone, worst.metrics) == ("tiny_mobilenet", {})
    assert "no room" in worst.why


def test_no_league_where_it_is_not_wanted(store: Store, tmp_path: Path) -> None:
    """`league: false`, or no pretrained weights."""
    off = stored(store, tmp_path, "off", league=False, budget={"trials": 1, "epochs": 1})
    random = [{"name": "tiny_resnet", "weights": "none"}]
    raw = stored(store, tmp_path, "raw", backbones=random, search_space={"lr": 1e-3})
    for made in (off, raw):
        complete(Desk(made, tmp_path / "cache", Folder(tmp_path / "kept")), CPU, check)
        assert study.league(made) == {}


def test_lp_ft_starts_from_the_probe(store: Store, tmp_path: Path) -> None:
    """Its head is the probe's; without the league it is drawn."""
    space = {"strategy": "full", "lp_ft": True, "lr": 1e-3}
    for name, is_on in (("with", True), ("without", False)):
        made = stored(store, tmp_path, name, search_space=space, league=is_on)
        desk = Desk(made, tmp_path / "cache", Folder(tmp_path / "kept"))
        complete(desk, CPU, check)
        leases = Leases(store.engine)
        training = attempt_of(desk, leases).prepare()
        leases.close()
        known = head(desk, "tiny_resnet")
        assert (known is not None) is is_on
        if known is not None:
            assert torch.equal(training.module.get_parameter("head.1.weight"), known[0])
