"""Constraints as the study file has them, what breaks them, and who knows of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from made_trials import made
from optuna.trial import TrialState

from tunesvc import search
from tunesvc import space as spaces
from tunesvc.analysis.endings import by_pruner, diverged
from tunesvc.analysis.feasible import feasible
from tunesvc.analysis.stages import stages
from tunesvc.check.fitting import unfit
from tunesvc.errors import SpecError
from tunesvc.results.trials import against
from tunesvc.spec import StudySpec, load, parse, yaml_file
from tunesvc.spec.caps import Cap
from tunesvc.spec.constraints import NAMES, broken, excess, told
from tunesvc.study import is_feasible

QUICKSTART = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
STUDY = """\
data: digits
backbones: [{name: tiny_resnet, weights: none}, {name: two_conv_cnn, weights: none}]
"""


def read(text: str) -> StudySpec:
    return parse(yaml_file.parse(text, "study.yaml"), "study.yaml", stem="study")


def test_a_study_without_constraints_is_the_one_it_was() -> None:
    """Its digest, from which every seed derives, is that of before there were any."""
    quick = load(QUICKSTART)
    assert not quick.constraints
    assert quick.digest == "fa2171d4902ec6e33fdb2e12919d58541cdee8ccb7c159b3c42821d9f5b43b39"
    assert load(QUICKSTART, settings=["constraints={}"]).digest == quick.digest
    capped = [
        load(QUICKSTART, settings=[f"constraints.params_m='{bound}'"]).digest
        for bound in ("<= 1", "<=1.0", "<= 2")
    ]
    assert capped[0] == capped[1]
    assert len({*capped, quick.digest}) == 3


def test_caps_are_read_in_one_order() -> None:
    """Whatever the order of the file, and as it was stored."""
    caps = read(STUDY + 'constraints: {latency_ms: "<5", params_m: "<= 12"}\n').constraints.caps
    assert caps == (Cap("params_m", "<=", 12), Cap("latency_ms", "<", 5))
    every = dict.fromkeys(NAMES, "<= 1")
    spec = StudySpec.model_validate(
        {"name": "x", "data": "digits", "backbones": ["a"], "constraints": every}
    )
    assert [cap.name for cap in spec.constraints.caps] == list(NAMES)
    assert StudySpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("{params: '<= 1'}", "3:15: constraints.params: unknown key, did you mean 'params_m'?"),
        ("{params_m: 12}", '3:15: constraints.params_m: must be a bound such as "<= 12"'),
        ("{params_m: '<= many'}", "and is '<= many'"),
        ("{params_m: '<= 1 and'}", "and is '<= 1 and'"),
        ("[params_m]", "3:1: constraints: must be a mapping of keys to values"),
    ],
)
def test_mistakes_have_their_place(written: str, line: str) -> None:
    """Line and column, what is expected, and what stands there."""
    with pytest.raises(SpecError) as caught:
        read(f"{STUDY}constraints: {written}\n")
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("sign", "bound", "value", "expected"),
    [
        ("<=", 12.0, 18.0, 0.5),  # (18 - 12) / 12
        ("<=", 12.0, 12.0, 0.0),
        ("<=", 12.0, 6.0, -0.5),
        ("<", 12.0, 12.0, 1e-9),  # broken at its very bound
        (">=", 4.0, 3.0, 0.25),
        (">", 4.0, 5.0, -0.25),
        ("==", 2.0, 3.0, 0.5),
        ("==", 2.0, 2.0, 0.0),
        ("<=", 0.0, 0.3, 0.3),  # relative to 1 where the cap is 0
        ("<=", 12.0, None, 1.0),  # nobody can tell
        ("<=", 12.0, nan, 1.0),
    ],
)
def test_excess(sign: Any, bound: float, value: float | None, expected: float) -> None:
    """Relative to the cap; above 0 exactly where it does not hold."""
    cap = Cap("params_m", sign, bound)
    assert excess(cap, value) == pytest.approx(expected, abs=1e-12)
    holds = value is not None and cap.holds(value)
    assert (excess(cap, value) > 0) == (not holds)
    assert broken((cap,), {"params_m": value}) == (() if holds else (cap,))
    assert broken((cap,), {}) == ()


def test_what_is_broken_is_told() -> None:
    """With the number, if anybody knows it."""
    cap = Cap("flops_g", "<=", 1.5)
    assert told(cap, 2.34567) == "flops_g <= 1.5: 2.346"
    assert told(cap, None) == "flops_g <= 1.5: not known"


# ---- backbones that cannot fit -------------------------------------------------------------------


def fit(tmp_path: Path, **bounds: str) -> dict[str, str]:
    lines = ", ".join(f'{name}: "{bound}"' for name, bound in bounds.items())
    return unfit(read(f"{STUDY}constraints: {{{lines}}}\n"), tmp_path, 10)


def test_backbones_that_cannot_fit_are_named(tmp_path: Path) -> None:
    """By what hangs on the model alone; what hangs on a trial or on a worker, trials tell."""
    assert fit(tmp_path, params_m="<= 0.3") == {"tiny_resnet": "params_m <= 0.3: 0.4457"}
    assert fit(tmp_path, params_m="<= 1", latency_ms="<= 1e-9", epoch_seconds="<= 0") == {}
    assert set(fit(tmp_path, params_m=">= 0.3")) == {"two_conv_cnn"}
    assert fit(tmp_path, trainable_m="<= 0.3") == {}  # its head alone may be trained
    assert fit(tmp_path, trainable_m="== 0.3") == {}
    assert set(fit(tmp_path, trainable_m=">= 0.3")) == {"two_conv_cnn"}


def test_where_none_can_fit_the_nearest_is_named(tmp_path: Path) -> None:
    """With the cap that would let it in."""
    with pytest.raises(SpecError) as caught:
        fit(tmp_path, params_m="<= 0.1", size_mb="<= 100")
    assert "tiny_resnet (params_m <= 0.1: 0.4457)" in str(caught.value)
    assert "nearest is two_conv_cnn: with params_m <= 0.1862 it would fit" in str(caught.value)
    assert set(fit(tmp_path, params_m="<= 0.1862")) == {"tiny_resnet"}


def test_those_that_stay_keep_their_labels() -> None:
    """Also where the name alone would now do: seeds and parameters hang on the label."""
    two = {"name": "mobilenet_v2", "kwargs": {"width_mult": 0.35}, "weights": "none"}
    spec = StudySpec.model_validate(
        {"name": "x", "data": "digits", "backbones": ["mobilenet_v2", two]}
    )
    assert spec.backbone_labels == ("mobilenet_v2:DEFAULT", "mobilenet_v2:none")
    left = spec.without(["mobilenet_v2:DEFAULT"])
    assert left.backbone_labels == ("mobilenet_v2:none",)
    assert left.backbone("mobilenet_v2:none").kwargs == {"width_mult": 0.35}
    assert spec.without(["nobody"]) is spec


# ---- samplers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tpe", "random", "gp", "cmaes", "grid", "qmc"])
def test_samplers_go_on_beside_infeasible_trials(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them draw, silently, whether most trials or none are feasible; TPE learns to."""
    backbones = [{"name": n, "weights": "none"} for n in ("tiny_resnet", "two_conv_cnn")]
    space = {"strategy": "full", "lr": {"low": 1e-4, "high": 1e-1, "step": 0.01}}
    spec = StudySpec.model_validate(
        {"name": "t", "data": "digits", "backbones": backbones, "search_space": space}
        | {"sampler": kind}
    )
    caplog.set_level(logging.WARNING)
    for is_all in (False, True):
        study, drawn = optuna.create_study(direction="maximize"), []
        for number in range(40):
            study.sampler = search.sampler(spec, number)
            trial = study.ask()
            label = trial.suggest_categorical("backbone", ["tiny_resnet", "two_conv_cnn"])
            rate = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
            is_lost = is_all or label == "tiny_resnet"
            drawn.append(is_lost)
            trial.set_constraint("params_m", 0.5 if is_lost else -0.5)
            trial.storage.set_trial_system_attr(
                trial._trial_id, "constraints", [0.5 if is_lost else -0.5]
            )
            state = TrialState.PRUNED if is_lost else TrialState.COMPLETE
            values = None if is_lost else [-rate]  # as trials are told: no sampler is asked then
            trial.storage.set_trial_state_values(trial._trial_id, state, values)
        assert [is_feasible(t) for t in study.trials] == [not lost for lost in drawn]
        if kind == "tpe" and not is_all:
            assert sum(drawn[:10]) >= 3
            assert sum(drawn[20:]) <= 6  # of 20; at random 10
    assert not [r for r in caplog.records if "optuna" in r.name]


# ---- measures ------------------------------------------------------------------------------------


def test_measures_leave_infeasible_trials_out() -> None:
    """As observations of the objective; caps that are asked for later are on all that finished."""
    trials = made(60)
    best = int((trials.sign * trials.finished["value"]).idxmax())
    lost = [best, int(by_pruner(trials).index[0])]
    broken_down = trials.frame.index[trials.frame["state"] == "PRUNED"][1]
    reasons = trials.frame["reason"].mask(trials.frame.index == broken_down, "diverged in epoch 1")
    frame = trials.frame.assign(reason=reasons)
    before = replace(trials, frame=frame)
    after = replace(trials, frame=frame.assign(feasible=~frame.index.isin([*lost, broken_down])))
    assert best in before.finished.index
    assert best not in after.finished.index
    assert len(after.finished) == len(before.finished) - 1
    assert broken_down in diverged(before).index
    assert broken_down not in diverged(after).index
    assert not set(lost) & set(by_pruner(after).index)
    assert not set(lost) & set(stages(after).rows.index)
    assert (
        feasible(after, [Cap("params_m", "<=", 1e9)]).best
        == feasible(before, [Cap("params_m", "<=", 1e9)]).best
    )
    assert np.array_equal(after.complete.index, before.finished.index)


def test_conditions_on_a_backbone_that_is_left_out_go_with_it() -> None:
    """The others' variants stay; the study can be read again as it is stored."""
    written = STUDY + (
        "search_space:\n"
        "  lr:\n"
        "    - {low: 1e-3, high: 1e-2, when: {backbone: [tiny_resnet]}}\n"
        "    - {low: 1e-4, high: 1e-2, when: {backbone: [two_conv_cnn, tiny_resnet]}}\n"
    )
    left = read(written).without(["tiny_resnet"])
    assert [each.when["backbone"] for each in left.search_space["lr"]] == [[], ["two_conv_cnn"]]
    assert [p.name for p in spaces.build(left).parameters if p.name.startswith("lr")]
    stored = StudySpec.model_validate(left.model_dump(mode="json"))
    assert stored.digest == left.digest


def test_no_backbone_fits_and_two_constraints_are_broken_alike() -> None:
    """One error, though neither constraint is the nearer one."""
    spec = read(STUDY + 'constraints: {params_m: ">= 50", trainable_m: ">= 50"}\n')
    with pytest.raises(SpecError, match="no backbone can keep them"):
        unfit(spec, Path(), 10)


def test_a_bound_is_a_finite_number() -> None:
    """What overflows could not be read again from the database."""
    with pytest.raises(SpecError, match="must be a bound"):
        read(STUDY + 'constraints: {params_m: "<= 1e400"}\n')


def test_what_must_be_met_exactly_is_weighed_as_a_cost() -> None:
    """The Pareto set does not take the larger ones for the better ones."""
    spec = read(STUDY + 'constraints: {size_mb: "== 3", params_m: "<= 5", flops_g: ">= 1"}\n')
    weighed = {"params_m": "minimize", "flops_g": "maximize", "size_mb": "minimize"}
    assert against(spec) == (weighed,)
