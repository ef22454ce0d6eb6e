"""A study with constraints: what breaks one costs no epoch, and what is chosen keeps them all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import FrozenTrial, TrialState, create_trial
from trials import CPU, run_next, trial

from tunesvc import space as spaces
from tunesvc import study
from tunesvc.cli import main
from tunesvc.cli.up import fruitless
from tunesvc.confirm.candidates import Origin
from tunesvc.cost import Timing
from tunesvc.errors import UsageError
from tunesvc.leases import Leases
from tunesvc.results import results, trials
from tunesvc.shelf import Folder
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.train import Epoch, Rehearsed, Run, rehearse
from tunesvc.trial import AtOnce, Attempt, Desk, retention
from tunesvc.worker import serve

# Of these, tiny_resnet has 0.446 million parameters, and two_conv_cnn 0.186.
BASE: dict[str, Any] = {
    "data": {"kind": "digits", "subset": 100},
    "backbones": [
        {"name": "tiny_resnet", "weights": "none"},
        {"name": "two_conv_cnn", "weights": "none"},
    ],
    "search_space": {"strategy": "full", "lr": {"low": 1e-3, "high": 1e-2, "log": True}},
    "budget": {"trials": 8, "epochs": 2},
    "sampler": "random",
    "pruner": "none",
    "league": False,
}
FEW = {"params_m": "<= 0.3"}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a cache and artifacts of its own."""
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path / "home"))


Make = Callable[..., study.Study]


@pytest.fixture
def make(store: Store, tmp_path: Path) -> Make:
    """Store a study."""

    def stored(name: str = "capped", **changed: Any) -> study.Study:
        spec = StudySpec.model_validate({"name": name} | BASE | changed)
        return study.create(store, spec, base=tmp_path)

    return stored


def work(made: study.Study) -> list[FrozenTrial]:
    """Have a worker serve it to its end; return its trials."""
    serve(made.store.url, (made.name,), device="cpu", until_done=True, on_trial=print)
    return made.store.fresh().get_all_trials(made.id)


def desk_of(made: study.Study, folder: Path) -> Desk:
    return Desk(made, folder / "cache", Folder(folder / "kept"))


def epochs(told: FrozenTrial) -> int:
    return len(told.user_attrs.get("history") or ())


def test_a_trial_that_breaks_a_constraint_costs_no_epoch(make: Make) -> None:
    """It is PRUNED with its reason, and has the excess; one that keeps it has it, too."""
    made = make(constraints=FEW)
    found = work(made)
    assert len(found) == 8
    large = [t for t in found if t.params["backbone"] == "tiny_resnet"]
    small = [t for t in found if t.params["backbone"] == "two_conv_cnn"]
    assert len(large) > 1
    assert len(small) > 1
    for each in large:
        assert (each.state, epochs(each), each.values) == (TrialState.PRUNED, 0, None)
        params = each.user_attrs["infeasible"]["params_m"]
        assert each.user_attrs["reason"] == f"breaks params_m <= 0.3: {params:.4g}"
        assert each.constraints["params_m"] == pytest.approx((params - 0.3) / 0.3)
        assert each.system_attrs["constraints"] == [each.constraints["params_m"]]
        assert each.user_attrs["run"]["parameters"] == params * 1e6
        assert not study.is_feasible(each)
    for each in small:
        assert (each.state, epochs(each)) == (TrialState.COMPLETE, 2)
        assert each.constraints["params_m"] < 0
        assert "infeasible" not in each.user_attrs
    now = study.status(made)
    assert now.infeasible == len(large)
    assert now.as_json()["infeasible"] == len(large)
    frame = trials(made).frame
    assert list(frame.index[~frame["feasible"]]) == [each.number for each in large]


def test_a_model_that_cannot_be_fitted_is_never_built(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the shapes tell needs neither weights nor data."""
    made = make(constraints=FEW, backbones=BASE["backbones"][:1])
    monkeypatch.setattr(Desk, "splits", lambda *_args, **_kw: pytest.fail("data was read"))
    monkeypatch.setattr(Desk, "training", lambda *_args: pytest.fail("a model was built"))
    assert {t.state for t in work(made)} == {TrialState.PRUNED}


def told_of(training: list[FrozenTrial]) -> list[Any]:
    """Return everything that epochs brought, but for their seconds."""
    kept = [
        [{k: v for k, v in each.items() if k != "seconds"} for each in t.user_attrs["history"]]
        for t in training
    ]
    return [(t.values, t.params, own) for t, own in zip(training, kept, strict=True)]


@pytest.mark.parametrize("strategy", ["full", "last-stage", "gradual-unfreeze", "linear-probe"])
def test_what_is_tried_first_changes_nothing_of_a_trial(
    store: Store, make: Make, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that keeps its constraints brings what it brings without them, digit for digit."""
    # Seeds derive from the digest, which constraints are part of: here they are the same.
    monkeypatch.setattr(StudySpec, "digest", "1" * 64)
    space = BASE["search_space"] | {"strategy": strategy, "dropout": 0.2, "mixup": [0.0, 0.2]}
    changed = {
        "backbones": [{"name": "tiny_mobilenet"}],
        "search_space": space,
        "budget": {"trials": 4, "epochs": 3},
    }
    bounds = {"epoch_seconds": "<= 1000", "train_memory_mb": "<= 10000", "latency_ms": "<= 10000"}
    first = work(make("plain", **changed))
    second = work(make("bounded", constraints=bounds, **changed))
    assert told_of(second) == told_of(first)
    for each in second:
        assert each.state is TrialState.COMPLETE
        assert set(bounds) <= set(each.constraints)
        assert study.is_feasible(each)


def test_a_rehearsal_leaves_no_trace(make: Make, tmp_path: Path) -> None:
    """Numbers, statistics, the optimizer, chance, gradients, what is trained: all as before."""
    made = make(backbones=[{"name": "tiny_mobilenet"}], search_space={"strategy": "last-stage"})
    desk = desk_of(made, tmp_path)
    label, knobs = desk.space.resolve(desk.space.defaults()[0])
    config = desk.config(label, knobs, 0)
    run = desk.training(config, *desk.splits(config, "train", "val"), CPU)
    run.begin_epoch()
    run.progress = None
    torch.rand(3)
    run.chance.mixing.random()

    def state(run: Run) -> list[Any]:
        named = [*run.module.named_parameters(), *run.module.named_buffers()]
        return [
            {name: tensor.detach().clone() for name, tensor in named},
            {name: (p.requires_grad, p.grad) for name, p in run.module.named_parameters()},
            [part.training for part in run.module.modules()],
            json.dumps(run.optimizer.state_dict()["state"]),
            torch.get_rng_state(),
            run.chance.mixing.getstate(),
            run.position,
            run.inputs.used,
        ]

    before = state(run)
    found = rehearse(run, lambda: None)
    after = state(run)
    assert found.epoch_seconds > 0
    for name, value in before.pop(0).items():
        assert torch.equal(after[0][name], value), name
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
               for a, b in zip(after[1:], before, strict=True))  # fmt: skip


def test_a_stack_of_heads_obeys(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that keep the constraints are trained together, though others of the study do not."""
    heads = {"strategy": "linear-probe", "lr": {"low": 1e-3, "high": 1e-1, "log": True}}
    made = make(
        backbones=[{"name": "tiny_resnet"}, {"name": "tiny_mobilenet"}],
        search_space=heads,
        budget={"trials": 16, "epochs": 2},
        constraints={"params_m": "<= 0.3", "epoch_seconds": "<= 100"},
    )
    tried: list[Run] = []
    monkeypatch.setattr(
        "tunesvc.train.rehearse", lambda run, tick: (tried.append(run), rehearse(run, tick))[1]
    )
    found = work(made)
    small = [t for t in found if t.params["backbone"] == "tiny_mobilenet"]
    large = [t for t in found if t.params["backbone"] == "tiny_resnet"]
    assert {t.state for t in small} == {TrialState.COMPLETE}
    assert {(t.state, epochs(t)) for t in large} == {(TrialState.PRUNED, 0)}
    sizes = [t.user_attrs["levers"]["stack"] for t in small]
    assert max(sizes) > 1
    assert all({"params_m", "epoch_seconds"} <= set(t.constraints) for t in small)
    stacks = sum(1 / size for size in sizes)
    assert len(tried) == pytest.approx(stacks)  # once for each stack


def test_a_stack_that_is_too_slow_is_told_so_at_once(make: Make) -> None:
    """No head of it is trained, and one step was tried for all."""
    made = make(
        backbones=[{"name": "tiny_mobilenet"}],
        search_space={"strategy": "linear-probe", "lr": [1e-3, 1e-2]},
        budget={"trials": 6, "epochs": 2},
        constraints={"epoch_seconds": "<= 1e-6"},
    )
    found = work(made)
    assert {(t.state, epochs(t)) for t in found} == {(TrialState.PRUNED, 0)}
    told = {t.number: t.user_attrs["infeasible"]["epoch_seconds"] for t in found}
    assert len(set(told.values())) < len(told)


def test_nothing_is_lost_with_a_worker_that_dies_before_the_end(
    make: Make, store: Store, tmp_path: Path
) -> None:
    """The constraint and the end are one write: until it, the trial runs; after it, all is told."""
    made = make(constraints=FEW, backbones=BASE["backbones"][:1])
    desk = desk_of(made, tmp_path)
    leases = Leases(store.engine)
    lease = leases.claim(made.id, desk.terms)
    attempt = Attempt(desk, lease, CPU, leases, AtOnce())
    label, knobs = attempt.draw()
    ending = attempt.constraints.drawn(label, desk.config(label, knobs, 0))
    assert ending is not None
    killed = trial(desk)  # as kill -9 leaves it
    assert (killed.state, killed.constraints) == (TrialState.RUNNING, {})
    assert "infeasible" not in killed.user_attrs
    leases.release(lease)
    leases.close()
    run_next(desk)
    told = trial(desk)
    assert (told.state, told.user_attrs["reason"]) == ending
    assert told.params == killed.params
    assert told.constraints["params_m"] > 0
    assert told.user_attrs["infeasible"]


def test_what_a_trial_took_has_the_last_word(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that turns out to break a constraint is complete, and no longer feasible."""
    monkeypatch.setattr("tunesvc.train.rehearse", lambda *_: Rehearsed(1e-9, None))
    made = make(constraints={"epoch_seconds": "<= 1e-6"}, budget={"trials": 3, "epochs": 2})
    found = work(made)
    assert {t.state for t in found} == {TrialState.COMPLETE}
    assert all(t.constraints["epoch_seconds"] > 0 for t in found)
    assert study.status(made).infeasible == 3
    assert study.status(made).best is None


def test_a_slow_first_epoch_ends_no_trial_that_is_taken_over(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a trial says nothing of the whole: it is judged at its beginning and at its end."""
    made = make(constraints={"epoch_seconds": "<= 10"}, budget={"trials": 1, "epochs": 6})
    note, tick = Attempt.note, Attempt.tick

    def disturbed(self: Attempt, epoch: Epoch) -> None:
        is_first = epoch.index == 0
        note(self, replace(epoch, seconds={**epoch.seconds, "train": 25.0}) if is_first else epoch)

    def killed(self: Attempt) -> None:
        if len(self.history) == 2:
            raise KeyboardInterrupt
        tick(self)

    monkeypatch.setattr(Attempt, "note", disturbed)
    monkeypatch.setattr(Attempt, "tick", killed)
    with pytest.raises(KeyboardInterrupt):
        run_next(desk_of(made, tmp_path))
    monkeypatch.setattr(Attempt, "tick", tick)
    run_next(desk_of(made, tmp_path))
    told = trial(desk_of(made, tmp_path))
    assert (told.state, epochs(told)) == (TrialState.COMPLETE, 6)
    assert told.constraints["epoch_seconds"] <= 0


def test_a_stack_that_is_too_slow_to_use_tells_its_latency(make: Make) -> None:
    """What was measured of the model stays on each of its trials, for any other cap."""
    made = make(
        backbones=[{"name": "tiny_mobilenet"}],
        search_space={"strategy": "linear-probe", "lr": [1e-3, 1e-2]},
        budget={"trials": 4, "epochs": 2},
        constraints={"latency_ms": "<= 1e-6"},
    )
    for told in work(made):
        assert told.user_attrs["infeasible"]["latency_ms"] > 0
        assert told.user_attrs["run"]["latency"]["ms"] > 0


# ---- chosen --------------------------------------------------------------------------------------


Say = Callable[..., str]


@pytest.fixture
def say(store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run a command on the store; return what it prints."""
    monkeypatch.setenv("TUNESVC_STORAGE", store.url)

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told
        return " ".join((told.out + told.err).split())

    return run


def finished(made: study.Study, value: float, excess: float, seen: float = 0.5) -> FrozenTrial:
    """A trial that came to its end, and by how much it breaks its constraint."""
    space = {"backbone": "two_conv_cnn", "lr": value / 100}
    searched = {p.name: p.distribution for p in spaces.build(made.spec).parameters}
    return create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params=space,
        distributions={name: searched[name] for name in space},
        user_attrs={
            "history": [{"epoch": 1, "accuracy": value, "loss": 1.0}],
            "run": {"backbone": "two_conv_cnn", "knobs": {"strategy": "full", "lr": value / 100}},
        }
        | ({"infeasible": {"epoch_seconds": seen}} if excess > 0 else {}),
        system_attrs={"constraints:epoch_seconds": excess, "constraints": [excess]},
    )


def test_the_best_is_the_best_that_is_feasible(make: Make, say: Say) -> None:
    """In status and best, among the models that are kept, in what is run again, in the measures."""
    made = make(constraints={"epoch_seconds": "<= 0.1"}, keep="best-2")
    told = [(0.9, 4.0), (0.7, -0.5), (0.8, 0.0), (0.95, 0.1), (0.6, -0.2)]
    made.optuna().add_trials([finished(made, *each) for each in told])
    now = study.status(made)
    assert (now.best and now.best.trial, now.infeasible) == (2, 2)
    assert study.Census(made.store).outcomes()[made.id].trial == 2
    assert json.loads(say("best", made.name, "--json"))["best"]["trial"] == 2
    assert json.loads(say("status", made.name, "--json"))["infeasible"] == 2
    assert "5 complete, 2 of them infeasible" in say("status", made.name)
    assert retention.best(made.optuna(), 5) == [2, 1, 4, 3, 0]
    assert [c.candidate.trial for c in Origin(made).best(5)] == [2, 1, 4]
    assert list(trials(made).finished.index) == [1, 2, 4]
    asked = json.loads(say("best", made.name, "--json", "--where", "accuracy >= 0.85"))
    assert asked["best"]["trial"] == 3  # the cap that is asked for is the only one


def test_where_no_trial_is_feasible_the_nearest_is_told(make: Make, say: Say) -> None:
    """By best, status and up; so does the JSON."""
    made = make(constraints={"epoch_seconds": "<= 0.1"})
    assert "no trial has ended yet" in say("best", made.name)
    made.optuna().add_trials([finished(made, 0.9, 4.0, 0.5), finished(made, 0.8, 1.0, 0.2)])
    plain = say("best", made.name)
    assert "no trial keeps the constraints, of 2 that were measured by them" in plain
    assert "nearest trial 1, epoch_seconds <= 0.1: 0.2" in plain
    assert "no trial keeps the constraints" in say("status", made.name)
    told = json.loads(say("best", made.name, "--json"))
    assert told["best"] is None
    assert told["nearest"] == {
        "trial": 1, "values": {"epoch_seconds": 0.2}, "excess": pytest.approx(1.0),
        "told": "epoch_seconds <= 0.1: 0.2",
    }  # fmt: skip
    assert "trial 1 comes nearest: epoch_seconds <= 0.1: 0.2" in str(fruitless(results(made)))


FILE = """\
data: {kind: digits, subset: 60}
backbones: [{name: tiny_resnet, weights: none}, {name: two_conv_cnn, weights: none}]
search_space: {lr: [1e-3, 1e-2]}
budget: {trials: 2, epochs: 1}
constraints: {params_m: "<= 0.3"}
league: false
"""


def test_backbones_that_cannot_fit_are_left_out(say: Say, store: Store, tmp_path: Path) -> None:
    """With a line that says so; the same file again is the same study, checked or not."""
    file = tmp_path / "small.yaml"
    file.write_text(FILE)
    line = "backbone tiny_resnet is left out: whatever its knobs are, it breaks params_m <= 0.3"
    said = say("new-study", str(file), "--no-estimate")
    assert line in said
    assert "2 trials on 1 backbone(s)" in said
    stored = study.open_study(store, "small")
    assert stored.spec.backbone_labels == ("two_conv_cnn",)
    for again in ((), ("--no-check",)):
        say("new-study", str(file), "--no-estimate", *again)
        assert study.open_study(store, "small").uid == stored.uid
    facts = json.loads(say("check", str(file), "--json", "--no-estimate"))["facts"]
    assert facts["dropped"] == {"tiny_resnet": "params_m <= 0.3: 0.4457"}
    assert list(facts["backbones"]) == ["two_conv_cnn"]
    assert facts["study"]["digest"] == stored.spec.digest
    assert line in say("up", str(file), "--until-done", "--no-dashboard", "--workers", "1")
    assert study.status(study.open_study(store, "small")).trials["complete"] == 2
    file.write_text(FILE.replace("0.3", "0.4"))
    assert "constraints" in say("new-study", str(file), "--no-estimate", code=2)
    file.write_text(FILE.replace("0.3", "0.1"))
    said = say("new-study", str(file), "--name", "none", code=2)
    assert "nearest is two_conv_cnn: with params_m <= 0.1862 it would fit" in said


def test_unchecked_first_all_backbones_stay(say: Say, store: Store, tmp_path: Path) -> None:
    """Nobody could tell where the data is not; trials tell, and the file stays the same study."""
    file = tmp_path / "small.yaml"
    file.write_text(FILE)
    say("new-study", str(file), "--no-check")
    say("new-study", str(file), "--no-estimate")
    assert len(study.open_study(store, "small").spec.backbones) == 2


def test_a_machine_that_measures_no_latency_takes_no_such_study(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, before a trial is touched."""
    monkeypatch.setenv("TUNESVC_LATENCY", "off")
    made = make(constraints={"latency_ms": "<= 100"})
    with pytest.raises(UsageError, match="constraint latency_ms"):
        work(made)
    assert study.status(made).trials["remaining"] == 8


def test_confirming_runs_are_bound_by_nothing(make: Make) -> None:
    """The best kept the constraints; a default beside them may cost what it likes."""
    made = make(constraints=FEW, budget={"trials": 4, "epochs": 1}, confirm={"top": 1, "seeds": 2})
    work(made)
    companion = study.open_study(made.store, f"{made.name}.confirm")
    assert not companion.spec.constraints
    assert study.status(companion).trials["pruned"] == 0


SHARED = Path(__file__).parents[2] / "../shared"
PHOTOS = SHARED / "data" / "hymenoptera"
WEIGHTS = {
    "mobilenet_v2": ("mobilenet_v2", {}, "mobilenet_v2-tf2ptq-82f7e551.pth"),
    "small": (
        "mobilenet_v2",
        {"width_mult": 0.35},
        "mobilenet_v2_w035-keras-features-96ed9f53.pth",
    ),
    "squeezenet": ("squeezenet1_1", {}, "squeezenet1_1-caffe-features-49c38fe8.pth"),
}


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.exists(), reason="needs ants and bees, and weights, in ../shared")
def test_the_best_that_fits_is_found(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a space that was enumerated; the search trains nothing that breaks the cap."""
    monkeypatch.setattr("tunesvc.trial.desk.trial_seed", lambda *_: 1)  # a value for each point
    bodies = [
        {"name": name, "label": label, "kwargs": kwargs, "weights": str(SHARED / "weights" / file)}
        for label, (name, kwargs, file) in WEIGHTS.items()
    ]
    space = {
        "strategy": ["bias-norm-only", "last-stage", "full"],
        "lr": [1e-4, 1e-3, 1e-2],
        "augmentation": "none",
    }
    same = {
        "data": {"kind": "folder", "path": str(PHOTOS), "image_size": 64, "subset": 120},
        "backbones": bodies,
        "search_space": space,
        "defaults": {"strategy": "full", "lr": 1e-4, "augmentation": "none"},
        "objective": "loss",
    }
    budget = {"trials": 60, "epochs": 2}
    truth = {
        json.dumps(t.params, sort_keys=True): (t.values[0], t.user_attrs["run"])
        for t in work(make("truth", sampler="grid", **same | {"budget": budget}))
    }
    value, winner = min(truth.values(), key=lambda each: each[0])
    cap = 0.9 * winner["parameters_trainable"] / 1e6
    fits = {key: v for key, (v, run) in truth.items() if run["parameters_trainable"] / 1e6 <= cap}
    made = make(
        "search",
        sampler={"kind": "tpe", "n_startup_trials": 12},
        constraints={"trainable_m": f"<= {cap:.4f}"},
        **same | {"budget": {"trials": 70, "epochs": 2}},  # 45 miss it with one seed in ten
    )
    found = work(made)
    lost = [t for t in found if not study.is_feasible(t)]
    assert lost
    assert {epochs(t) for t in lost} == {0}
    spent = {t.number: sum(t.user_attrs["seconds"].values()) for t in found}
    share = sum(spent[t.number] for t in lost) / sum(spent.values())
    best = study.status(made).best
    assert best is not None
    print(
        f"{len(truth)} points, {len(fits)} of them have trainable_m <= {cap:.4f}; "
        f"best of all {value:.4f}, best that fits {min(fits.values()):.4f}, found {best.value:.4f} "
        f"in {len(found)} trials; {len(lost)} infeasible, the last is trial {lost[-1].number}; "
        f"{share:.2%} of {sum(spent.values()):.1f} s on them"
    )
    assert value < min(fits.values())
    assert best.value == min(fits.values())
    assert fits[json.dumps(best.params, sort_keys=True)] == best.value


def test_a_latency_that_others_disturbed_is_measured_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a trial is ended for it: the lowest counts. One that was quiet stands."""
    told = [Timing(50.0, 60.0, 9, 0.4), Timing(30.0, 60.0, 9, 0.4), Timing(5.0, 6.0, 9, 0.4)]
    measured = iter([*told, Timing(50.0, 60.0, 9, 0.0)])
    monkeypatch.setattr("tunesvc.cost.inference", lambda *_, **__: next(measured))
    for size, state in ((40, TrialState.COMPLETE), (44, TrialState.PRUNED)):
        made = make(
            f"timed-{size}",
            data=BASE["data"] | {"image_size": size},  # no other test measures these
            backbones=BASE["backbones"][1:],
            budget={"trials": 1, "epochs": 1},
            constraints={"latency_ms": "<= 10"},
        )
        (found,) = work(made)
        assert found.state is state
        assert (found.constraints["latency_ms"] <= 0) == (state is TrialState.COMPLETE)
    assert next(measured, None) is None


def test_trials_that_were_pruned_are_not_said_to_break_constraints(make: Make, say: Say) -> None:
    """One infeasible trial beside feasible ones that the pruner has stopped."""
    made = make(constraints={"epoch_seconds": "<= 0.1"})
    stopped = finished(made, 0.5, -0.5)
    stopped.state, stopped.intermediate_values = TrialState.PRUNED, {1: 0.5}
    made.optuna().add_trials([finished(made, 0.9, 4.0), stopped])
    told = say("best", made.name)
    assert "no trial that keeps the constraints has ended yet (1 break them)" in told
    assert "nearest" not in told


def test_a_study_without_a_feasible_trial_says_so(make: Make, say: Say, tmp_path: Path) -> None:
    """In its report, to whoever wants to confirm it, and in the table of best."""
    made = make(constraints={"epoch_seconds": "<= 0.1"})
    made.optuna().add_trials([finished(made, value, 4.0) for value in (0.8, 0.9)])
    page = say("report", made.name, "--format", "md", "-o", str(tmp_path))
    assert page
    text = next(tmp_path.glob("*.md")).read_text()
    assert "No trial of capped keeps its constraints; 2 trials came to their end." in text
    assert "no finished trial of 'capped' keeps its constraints" in say("confirm", "capped", code=2)
    (row,) = json.loads(say("best", made.name, "--json"))["strategies"]
    assert (row["best"], row["finished"]) == (None, 0)


def test_a_study_that_was_stored_unchecked_keeps_its_backbones(say: Say, tmp_path: Path) -> None:
    """What is printed is what holds."""
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(BASE | {"constraints": FEW}))
    assert "on 2 backbone(s)" in say("new-study", str(file), "--no-check")
    told = say("new-study", str(file), "--no-estimate")
    assert "backbone tiny_resnet stays, as the study was stored with it" in told
    assert "on 2 backbone(s)" in told
