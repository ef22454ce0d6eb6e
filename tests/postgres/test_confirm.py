"""The best of a study, run again with new seeds: through ordinary workers, each run once."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from trials import CPU

from tunesvc import confirm, leases, places, space, study
from tunesvc.analysis.confirmed import Confirmation
from tunesvc.analysis.paired import Comparison
from tunesvc.analysis.table import Estimate, Unsupported
from tunesvc.cli import main
from tunesvc.confirm import Wish
from tunesvc.errors import StudyError
from tunesvc.shelf import Folder
from tunesvc.spec import GivenSampler, StudySpec, derive_seed
from tunesvc.storage import Store, open_store
from tunesvc.storage.artifacts import open_artifacts
from tunesvc.study import Study
from tunesvc.trial import Desk, score
from tunesvc.worker import serve

Done = list[tuple[str, int]]
Command = Callable[..., subprocess.Popen[str]]


def stored(store: Store, folder: Path, name: str = "digits", **changes: Any) -> Study:
    """A study of short trials; `changes` are laid over its file."""
    value = {
        "name": name,
        "data": {"kind": "digits", "subset": 60},
        "backbones": [{"name": "two_conv_cnn", "weights": "none"}],
        "search_space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "batch_size": [16, 32]},
        "budget": {"trials": 4, "epochs": 1},
        "sampler": "random",
        "pruner": "none",
    }
    return study.create(store, StudySpec.model_validate(value | changes), base=folder)


def searched(made: Study, *values: float, **params: Any) -> Study:
    """Give a study finished trials of these values, as if it had searched; its default first.

    Args:
        params: of every trial but the first, in place of a learning rate that differs.
    """
    (default,) = space.build(made.spec).defaults()
    kinds = {each.name: each.distribution for each in space.build(made.spec).parameters}
    for number, value in enumerate(values):
        others = {"lr": 0.001 * (number + 1)} | params
        add(made, value, default | (others if number else {}), kinds)
    return made


def run_all(made: Study, value: Callable[[str, int], float | None]) -> Done:
    """Tell the companion's waiting runs, as workers would: `value` of (configuration, seed).

    None: it failed. Returns those told.
    """
    held = confirm.companion(made)
    assert held is not None
    assert isinstance(held.spec.sampler, GivenSampler)
    known = {(t.user_attrs["configuration"], t.user_attrs["seed_index"]) for t in ended(held)}
    told = []
    for run in held.spec.sampler.runs:
        if (run.configuration, run.seed) in known:
            continue
        found = value(run.configuration, run.seed)
        score = {} if found is None else {"test": {"accuracy": found - 0.1}}
        held.optuna().add_trial(
            create_trial(
                state=TrialState.FAIL if found is None else TrialState.COMPLETE,
                value=found,
                user_attrs={
                    "configuration": run.configuration,
                    "seed_index": run.seed,
                    "images": {"val": 100},
                    **score,
                },
            )
        )
        told.append((run.configuration, run.seed))
    return told


def ended(held: Study) -> list[optuna.trial.FrozenTrial]:
    trials = held.optuna().get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished()]


def once(trials: list[optuna.trial.FrozenTrial]) -> set[tuple[str, int]]:
    """The runs that these trials are; no two are the same one."""
    found = [(t.user_attrs["configuration"], t.user_attrs["seed_index"]) for t in trials]
    assert len(set(found)) == len(found)
    return set(found)


def runs(made: Study) -> Done:
    """The runs that the companion holds, in order."""
    held = confirm.companion(made)
    sampler = held.spec.sampler if held else None
    assert isinstance(sampler, GivenSampler)
    return [(run.configuration, run.seed) for run in sampler.runs]


def raced(made: Study, wish: Wish, value: Callable[[str, int], float | None]) -> list[Done]:
    """Confirm to the end; return what was run in each round."""
    rounds = []
    while not confirm.advance(made, wish).is_done:
        rounds.append(run_all(made, value))
        assert rounds[-1], "nothing was ordered, and it is not done"
    return rounds


def found(made: Study) -> Confirmation:
    outcome = confirm.found(made)
    assert isinstance(outcome, Confirmation)
    return outcome


# --- through real workers -----------------------------------------------------------------------


def test_the_best_are_run_again_by_ordinary_workers(store: Store, tmp_path: Path) -> None:
    """Every configuration once with each seed, and only the seed is new: the same one for all.
    Each run names the trial that it confirms, and is scored on the test split."""
    made = stored(store, tmp_path)
    serve(store.url, ["digits"], device="cpu", until_done=True)
    wish = Wish(top=2, seeds=2)
    while not (standing := confirm.advance(made, wish)).is_done:
        serve(store.url, ["digits.confirm"], device="cpu", until_done=True)
    trials, origin = ended(standing.companion), made.optuna().get_trials()
    digest = standing.companion.spec.digest
    assert once(trials) == set(runs(made))
    assert len({name for name, _ in runs(made)}) in (2, 3)  # the default may be among the best
    assert {seed for _, seed in runs(made)} == {0, 1}
    for trial in trials:
        mark, run = trial.user_attrs, trial.user_attrs["run"]
        confirmed = origin[mark["confirms"]]
        assert trial.params == confirmed.params
        assert run["knobs"] == confirmed.user_attrs["run"]["knobs"]
        assert run["seed"] == derive_seed(digest, "seed", mark["seed_index"])
        assert run["seed"] not in {each.user_attrs["run"]["seed"] for each in origin}
        assert mark["test"]["accuracy"] > 0
        assert mark["images"]["val"] == 359
    assert all(isinstance(each.test, Estimate) for each in found(made).configurations)


def test_the_score_is_that_of_the_kept_model(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told with the end of a run is what its checkpoint gives after; stacked heads, too."""
    ranges = {"strategy": ["linear-probe", "full"], "lr": {"low": 0.001, "high": 0.2}}
    budget = {"trials": 6, "epochs": 2}
    body = [{"name": "tiny_resnet", "weights": "DEFAULT"}]
    made = stored(
        store,
        tmp_path,
        search_space=ranges,
        keep="all",
        budget=budget,
        backbones=body,
        league=False,
    )
    serve(store.url, ["digits"], device="cpu", until_done=True)
    held = confirm.advance(made, Wish(top=6, seeds=1)).companion
    serve(store.url, ["digits.confirm"], device="cpu", until_done=True)
    stacks = {trial.user_attrs["levers"].get("stack") for trial in ended(held)}
    assert None in stacks
    assert len(stacks) > 1
    told = {trial.number: study.test_metrics(held, trial.number) for trial in ended(held)}
    desk = Desk(held, places.cache(), open_artifacts(places.artifacts()))
    monkeypatch.setattr(study, "test_metrics", lambda *_: None)
    for number, metrics in told.items():
        assert score(desk, number, CPU) == pytest.approx(metrics, abs=1e-6)


def test_without_a_test_split_only_validation_is_told(store: Store, tmp_path: Path) -> None:
    """That is no error: it is said where the score would stand."""
    data = {"kind": "digits", "subset": 60, "split": {"test": 0}}
    made = stored(store, tmp_path, data=data)
    serve(store.url, ["digits"], device="cpu", until_done=True)
    confirm.advance(made, Wish(top=1, seeds=2))
    serve(store.url, ["digits.confirm"], device="cpu", until_done=True)
    best = found(made).configurations[0]
    assert isinstance(best.mean, Estimate)
    assert best.test == Unsupported("the study has no test split")


# --- rounds -------------------------------------------------------------------------------------


def test_the_clearly_worse_leave_after_three_seeds(store: Store, tmp_path: Path) -> None:
    """Who is far behind gets no fourth; equals and the default get all."""
    made = searched(stored(store, tmp_path), 0.5, 0.9, 0.91, 0.92)
    levels = {"trial 3": 0.3, "trial 2": 0.9, "trial 1": 0.9, "default of two_conv_cnn": 0.5}

    def value(name: str, seed: int) -> float:
        return levels[name] + 0.01 * seed + (0.004 if name == f"trial {seed % 3}" else 0)

    rounds = raced(made, Wish(top=3, seeds=5), value)
    assert [len(done) for done in rounds] == [12, 3, 3]
    outcome = found(made)
    by_name = {each.candidate.name: each for each in outcome.configurations}
    assert by_name["trial 3"].raced_out
    assert {name: each.seeds for name, each in by_name.items()} == {
        name: 3 if name == "trial 3" else 5 for name in levels
    }
    assert outcome.winner in ("trial 1", "trial 2")
    assert isinstance(outcome.curse, Estimate)
    assert outcome.curse.value == pytest.approx(0.61, abs=0.01)  # trial 3 had promised 0.92
    assert isinstance(outcome.bought, Comparison)
    assert outcome.bought.seeds == 5


def test_a_round_is_ordered_once(store: Store, tmp_path: Path) -> None:
    """However often it is asked for, by several commands at once."""
    made = searched(stored(store, tmp_path), 0.5, 0.9, 0.91)
    wish = Wish(top=2, seeds=4)
    for _ in range(3):
        assert not confirm.advance(made, wish).is_done
    with open_store(store.url) as other:
        confirm.advance(study.open_study(other, "digits"), wish)
    assert len(runs(made)) == 9
    run_all(made, lambda *_: 0.9)
    confirm.advance(made, wish)
    assert len(runs(made)) == 12
    assert set(Counter(runs(made)).values()) == {1}


def test_more_can_be_asked_for_later(store: Store, tmp_path: Path) -> None:
    """More seeds, and more configurations: what is there stays, and only the rest is run."""
    made = searched(stored(store, tmp_path), 0.5, 0.9, 0.91, 0.92)
    raced(made, Wish(top=1, seeds=2), lambda *_: 0.9)
    first = runs(made)
    assert Counter(name for name, _ in first) == {"trial 3": 2, "default of two_conv_cnn": 2}
    raced(made, Wish(top=2, seeds=4), lambda *_: 0.9)
    assert runs(made)[: len(first)] == first
    assert Counter(name for name, _ in runs(made)) == dict.fromkeys(
        ("trial 3", "trial 2", "default of two_conv_cnn"), 4
    )
    assert confirm.advance(made, Wish(top=1, seeds=2)).is_done


def test_equal_configurations_are_one(store: Store, tmp_path: Path) -> None:
    """A choice that was drawn twice is confirmed once, under its better trial; a default, too."""
    made = searched(stored(store, tmp_path), 0.95, 0.9, 0.91, lr=0.005)
    raced(made, Wish(top=5, seeds=2), lambda name, _: 0.9 if name == "trial 2" else 0.8)
    assert {name for name, _ in runs(made)} == {"trial 0", "trial 2"}
    assert isinstance(found(made).bought, Comparison)  # the default is among the best


def test_a_lost_run_is_told_and_not_waited_for(store: Store, tmp_path: Path) -> None:
    """Its configuration goes on, behind those that lost none."""
    made = searched(stored(store, tmp_path), 0.5, 0.9, 0.91)

    def value(name: str, seed: int) -> float | None:
        known = {"trial 1": 0.9, "trial 2": 0.901}
        return None if (name, seed) == ("trial 2", 1) else known.get(name, 0.8)

    raced(made, Wish(top=2, seeds=4), value)
    outcome = found(made)
    assert outcome.winner == "trial 1"
    lost = next(each for each in outcome.configurations if each.candidate.name == "trial 2")
    assert (lost.seeds, lost.failed) == (3, 1)


def test_the_winner_of_another_backbone_gets_its_own_default(store: Store, tmp_path: Path) -> None:
    """What tuning bought is told of the backbone that wins, though another had promised more."""
    two = [{"name": "two_conv_cnn", "weights": "none"}, {"name": "tiny_resnet", "weights": "none"}]
    made = stored(store, tmp_path, backbones=two)
    kinds = {each.name: each.distribution for each in space.build(made.spec).parameters}
    for label, promised in (("two_conv_cnn", 0.95), ("tiny_resnet", 0.94)):
        params = {"backbone": label, "lr": 0.005, "batch_size": 16}
        add(made, promised, params, kinds)
    raced(made, Wish(top=2, seeds=3), lambda name, _: 0.9 if name == "trial 1" else 0.8)
    bought = found(made).bought
    assert found(made).winner == "trial 1"
    assert isinstance(bought, Comparison)
    assert bought.second == "default of tiny_resnet"


def test_the_way_from_the_default_is_run_last(store: Store, tmp_path: Path) -> None:
    """Each step once; one that is a candidate already is not run again."""
    made = stored(
        store,
        tmp_path,
        search_space={
            "lr": {"low": 0.001, "high": 0.1},
            "label_smoothing": {"low": 0.0, "high": 0.3},
            "momentum": {"low": 0.0, "high": 0.9},
        },
        defaults={"lr": 0.01, "label_smoothing": 0.3, "momentum": 0.0},
    )
    (default,) = space.build(made.spec).defaults()
    kinds = {each.name: each.distribution for each in space.build(made.spec).parameters}
    rng = np.random.default_rng(0)
    for number in range(60):
        drawn = {name: float(rng.uniform(kind.low, kind.high)) for name, kind in kinds.items()}
        params = drawn if number else default
        value = 0.5 + 4 * params["lr"] - params["label_smoothing"]
        add(made, value + rng.normal(0, 0.005), params, kinds)
    rounds = raced(made, Wish(top=1, seeds=2, ablation=1), lambda *_: 0.7)
    first, *later = rounds
    assert {role(name) for name, _ in first} == {"trial", "default"}
    assert {(role(name), seed) for done in later for name, seed in done} == {("step", 0)}
    path = found(made).path
    assert len(path) >= 2
    assert {step.candidate.name for step in path if not step.candidate.same_as} == {
        name for done in later for name, _ in done
    }
    assert confirm.advance(made, Wish(top=1, seeds=2, ablation=1)).is_done


def test_a_way_that_cannot_be_known_is_said(store: Store, tmp_path: Path) -> None:
    """Three trials tell no surface."""
    made = searched(stored(store, tmp_path), 0.5, 0.9, 0.91)
    raced(made, Wish(top=1, seeds=2, ablation=1), lambda *_: 0.9)
    (note,) = [n for n in confirm.advance(made, Wish(1, 2, 1)).notes if "is run" in n]
    assert "needs" in note


# --- asked for by the study file -----------------------------------------------------------------


@pytest.mark.parametrize("names", [["digits"], []])
def test_workers_confirm_what_the_file_asks_for(
    store: Store, tmp_path: Path, names: list[str]
) -> None:
    """One that was named the study, or none: they go on when it is done, and leave after."""
    asked = {"top": 1, "seeds": 4, "ablation": False}
    made = stored(store, tmp_path, confirm=asked, budget={"trials": 2, "epochs": 1})
    serve(store.url, names, device="cpu", until_done=True)
    held = confirm.companion(made)
    assert held is not None
    assert held.spec.confirmation is None
    assert once(ended(held)) == set(runs(made))
    assert {seed for _, seed in runs(made)} == {0, 1, 2, 3}
    assert isinstance(found(made), Confirmation)
    before = runs(made)
    serve(store.url, names, device="cpu", until_done=True)
    assert runs(made) == before


def test_another_worker_goes_on_with_it(store: Store, tmp_path: Path) -> None:
    """Whoever ordered the runs is gone: the next orders what is left, and none twice. What was
    asked for later is done later."""
    made = searched(stored(store, tmp_path, confirm={"seeds": 4}), 0.5, 0.9, 0.91, 0.92)
    first = confirm.Asked().advance(made)
    assert first is not None
    assert not first.is_done
    run_all(made, lambda *_: 0.9)
    second = confirm.Asked()

    def is_over(asking: Study) -> bool:
        standing = second.advance(asking)
        assert standing is not None
        return standing.is_done

    assert not is_over(made)
    assert {seed for _, seed in runs(made)} == {0, 1, 2, 3}
    assert not is_over(made)  # they are under way
    run_all(made, lambda *_: 0.9)
    assert is_over(made)
    more = stored(store, tmp_path, confirm={"seeds": 5})
    assert more.id == made.id
    assert not is_over(more)
    assert {seed for _, seed in runs(made)} == {0, 1, 2, 3, 4}


def test_nothing_is_confirmed_that_is_not_asked_for(store: Store, tmp_path: Path) -> None:
    """Nor before the study is done; nor, without a second word, where no trial came to its end."""
    plain = searched(stored(store, tmp_path), 0.5, 0.9, 0.91, 0.92)
    begun = searched(stored(store, tmp_path, "begun", confirm=True), 0.5, 0.9)
    lost = stored(store, tmp_path, "lost", confirm=True, budget={"trials": 1, "epochs": 1})
    lost.optuna().add_trial(create_trial(state=TrialState.FAIL))
    asked = confirm.Asked()
    asked.order([plain, begun, lost])
    assert [asked.advance(each) for each in (plain, begun, lost)] == [None, None, None]
    assert study.names(store) == ["digits", "begun", "lost"]
    assert [each.name for each in study.to_confirm(store)] == ["lost"]


# --- what cannot be confirmed --------------------------------------------------------------------


def test_a_study_without_a_finished_trial_is_refused(store: Store, tmp_path: Path) -> None:
    """Nothing is stored."""
    made = stored(store, tmp_path)
    with pytest.raises(StudyError, match="has no finished trial"):
        confirm.advance(made, Wish())
    assert study.names(store) == ["digits"]
    assert not confirm.found(made)


def test_a_name_that_is_taken_is_refused(store: Store, tmp_path: Path) -> None:
    """By a study of one's own, or by what confirmed a study that is gone; a companion is no study
    to confirm, and a name may be too long."""
    made = searched(stored(store, tmp_path), 0.5, 0.9)
    other = stored(store, tmp_path, "digits.confirm")
    with pytest.raises(StudyError, match=r"'digits\.confirm' is taken"):
        confirm.advance(made, Wish())
    assert confirm.companion(made) is None
    study.delete(other)
    held = confirm.advance(made, Wish()).companion
    with pytest.raises(StudyError, match="confirms another study itself"):
        confirm.advance(held, Wish())
    study.delete(made)
    again = searched(stored(store, tmp_path), 0.5, 0.9)
    with pytest.raises(StudyError, match=r"'digits\.confirm' is taken"):
        confirm.advance(again, Wish())
    long = searched(stored(store, tmp_path, "x" * 195), 0.5, 0.9)
    with pytest.raises(StudyError, match="too long to be confirmed"):
        confirm.advance(long, Wish())


def test_a_study_under_way_can_be_confirmed(store: Store, tmp_path: Path) -> None:
    """It is said, and what it finds meanwhile is confirmed, too."""
    made = searched(stored(store, tmp_path), 0.5, 0.9)
    standing = confirm.advance(made, Wish(top=1, seeds=2))
    assert "is not done (2 of 4 trials" in standing.notes[0]
    searched_on = made.optuna().get_trials()[1]
    add(made, 0.99, searched_on.params | {"lr": 0.009}, searched_on.distributions)
    raced(made, Wish(top=1, seeds=2), lambda *_: 0.9)
    assert {name for name, _ in runs(made)} == {"trial 1", "trial 2", "default of two_conv_cnn"}


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def command(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`tunesvc …` in a process of its own."""
    monkeypatch.setenv("TUNESVC_STORAGE", store.url)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    begun: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "tunesvc", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_a_killed_command_goes_on(store: Store, tmp_path: Path, command: Command) -> None:
    """Killed with its worker in the middle: the same command, served by another worker, ends with
    every wanted run there, once."""
    made = stored(store, tmp_path, budget={"trials": 2, "epochs": 3}, leases={"seconds": 1})
    searched(made, 0.5, 0.9)
    order = ("confirm", "digits", "--top", "1", "--seeds", "4")
    killed = command(*order, "--workers", "1")
    wait_for(lambda: (held := confirm.companion(made)) and ended(held))
    killed.kill()
    killed.communicate()
    with served(store, "digits.confirm"):
        told, errors = command(*order, "--no-worker", "--json").communicate(timeout=600)
    outcome = json.loads(told or f'"{errors}"')
    trials = ended(confirm.companion(made) or made)
    assert once(trials) == set(runs(made))
    assert all(trial.state is TrialState.COMPLETE for trial in trials)
    assert {each["candidate"]["name"]: each["seeds"] for each in outcome["configurations"]} == {
        "trial 1": 4,
        "default of two_conv_cnn": 4,
    }


def test_ctrl_c_stops_cleanly(store: Store, tmp_path: Path, command: Command) -> None:
    """It says how to go on, and leaves no worker."""
    made = stored(store, tmp_path, budget={"trials": 2, "epochs": 2000})
    searched(made, 0.5, 0.9)
    begun = command("confirm", "digits", "--workers", "1")
    wait_for(lambda: (h := confirm.companion(made)) and study.status(h).trials["running"])
    begun.send_signal(signal.SIGINT)
    told, errors = begun.communicate(timeout=600)
    assert begun.returncode == 130, told + errors
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    wait_for(lambda: not leases.workers(store.engine))


def test_no_worker_is_started_where_one_serves_it(
    store: Store, tmp_path: Path, command: Command
) -> None:
    """An ordinary one, anywhere; and with --no-worker the command only says how to start one."""
    made = searched(stored(store, tmp_path), 0.5, 0.9)
    begun = command("confirm", "digits", "--top", "1", "--seeds", "2", "--no-worker")
    wait_for(lambda: confirm.companion(made))
    with served(store, "digits.confirm"):
        told, errors = begun.communicate(timeout=600)
    assert begun.returncode == 0, errors
    assert "tunesvc worker --study digits.confirm" in errors
    assert "started here" not in told + errors
    assert "winner: trial 1" in told
    assert "winner's curse: trial 1, the study's best, had promised too " in told
    assert "noise: a run varies by" in told


def test_the_list_says_what_a_companion_is(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It stands beneath its study, though others were made between; `--json` names that, too. One
    that has only the name of a companion is a study like others."""
    monkeypatch.setenv("TUNESVC_STORAGE", store.url)
    made = searched(stored(store, tmp_path), 0.5, 0.9)
    stored(store, tmp_path, "other")
    stored(store, tmp_path, "other.confirm")
    confirm.advance(made, Wish())

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            main(list(arguments))
        return capsys.readouterr().out

    rows = said("list").splitlines()[1:]
    assert [row.split()[0] for row in rows] == [
        "digits",
        "digits.confirm",
        "other",
        "other.confirm",
    ]
    assert rows[1].startswith("  digits.confirm")
    assert rows[1].rstrip().endswith("confirms digits")
    assert not rows[3].startswith(" ")
    told = json.loads(said("list", "--json"))
    assert [each["confirms"] for each in told] == ["", "digits", "", ""]
    assert "it runs the best of digits again" in said("status", "digits.confirm")
    study.delete(made)
    assert json.loads(said("list", "--json"))[-1]["study"] == "digits.confirm"


def test_a_study_is_deleted_with_its_companion(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither is left, and both are named; a stranger's study of that name stays."""
    monkeypatch.setenv("TUNESVC_STORAGE", store.url)
    made = searched(stored(store, tmp_path), 0.5, 0.9)
    confirm.advance(made, Wish())
    with pytest.raises(SystemExit, match="0"):
        main(["delete", "digits", "--yes"])
    assert study.names(store) == []
    assert "digits.confirm is deleted" in capsys.readouterr().out
    searched(stored(store, tmp_path), 0.5, 0.9)
    stored(store, tmp_path, "digits.confirm")
    with pytest.raises(SystemExit, match="0"):
        main(["delete", "digits", "--yes"])
    assert study.names(store) == ["digits.confirm"]


@contextmanager
def served(store: Store, name: str) -> Iterator[None]:
    """An ordinary worker beside, which comes back for every round."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            serve(store.url, [name], device="cpu", until_done=True)
            time.sleep(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


def role(name: str) -> str:
    return name.partition(" ")[0]


def add(made: Study, value: float, params: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Add a finished trial, as if the study had found it."""
    label, knobs = space.build(made.spec).resolve(params)
    run = {"backbone": label, "knobs": knobs.model_dump(mode="json")}
    distributions = {name: kinds[name] for name in params}
    made.optuna().add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            value=value,
            params=params,
            distributions=distributions,
            user_attrs={"run": run},
        )
    )


def wait_for(happens: Callable[[], object]) -> None:
    for _ in range(6000):
        if happens():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within ten minutes")


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of these tests alone."""
    monkeypatch.setenv("TUNESVC_ARTIFACTS", str(tmp_path / "artifacts"))


def test_a_stranger_s_trial_takes_no_run_s_place(store: Store, tmp_path: Path) -> None:
    """Somebody adds trials of his own to the companion: all that were ordered still run."""
    made = searched(stored(store, tmp_path), 0.5, 0.6, 0.7)
    wish = Wish(top=2, seeds=3)
    held = confirm.advance(made, wish).companion
    for _ in range(2):
        held.optuna().add_trial(create_trial(state=TrialState.COMPLETE, value=0.99))
    held = confirm.advance(made, wish).companion
    assert isinstance(held.spec.sampler, GivenSampler)
    begun = 0
    with contextlib.closing(leases.Leases(store.engine)) as mine:
        terms = Desk(held, tmp_path / "cache", Folder(tmp_path / "kept")).terms
        while mine.claim(held.id, terms):
            begun += 1
    assert begun == len(held.spec.sampler.runs)
