"""The search space as dimensions: what they say is drawn is what is drawn."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from tunesvc.analysis.table import Dimension
from tunesvc.results.dimensions import dimensions
from tunesvc.space import Space, build
from tunesvc.spec import StudySpec

FAMILIES = [
    "resnet18",
    "mobilenet_v2",
    "vit_b_16",
    "convnext_tiny",
    {"name": "tiny_resnet", "weights": "none"},
]
FIXED_FIRST = {
    "optimizer": ["sgd", "adamw"],
    "momentum": [
        {"value": 0.9, "when": {"optimizer": "adamw"}},
        {"low": 0.5, "high": 0.99, "label": "searched"},
    ],
    "nesterov": {"choices": [True, False], "when": {"optimizer": "sgd"}},
}
ON_A_CONSTANT = {
    "strategy": [
        {"value": "linear-probe", "when": {"backbone": "vit_b_16"}},
        {"choices": ["full", "linear-probe"]},
    ],
    "lr": [
        {
            "low": 1e-3,
            "high": 1e-1,
            "log": True,
            "label": "head",
            "when": {"strategy": "linear-probe"},
        },
        {"low": 1e-5, "high": 1e-3, "log": True, "label": "rest"},
    ],
}


def space(search_space: Any) -> Space:
    return build(
        StudySpec.model_validate(
            {"name": "s", "data": "digits", "backbones": FAMILIES, "search_space": search_space}
        )
    )


def said(found: tuple[Dimension, ...], params: dict[str, Any]) -> set[str]:
    """Return the parameters that a trial has, by the dimensions' words alone."""
    values: dict[str, Any] = {}
    drawn = set()
    for each in found:
        if each.knob not in values and all(
            values.get(knob) in wanted for knob, wanted in each.when.items()
        ):
            values[each.knob] = params.get(each.name)
            drawn.add(each.name)
    return drawn


@pytest.mark.parametrize("written", ["auto", FIXED_FIRST, ON_A_CONSTANT])
def test_dimensions_tell_what_is_drawn(written: Any) -> None:
    """In 300 random trials: also where a condition rests on a knob that is fixed in a branch."""
    built = space(written)
    found = dimensions(built)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(300):
        trial = study.ask()
        built.suggest(trial)
        assert said(found, trial.params) == set(trial.params)


def test_conditions_that_are_clear_stay_as_written() -> None:
    """A branch is told by what its author wrote."""
    found = {each.name: each for each in dimensions(space("auto"))}
    assert found["lr@sgd"].when == {"optimizer": ("sgd",)}
    assert found["freeze_fraction"].when == {"strategy": ("freeze-fraction",)}
    assert found["lr@scratch"].when == {"backbone": ("tiny_resnet",)}  # no trial draws from-scratch
    assert found["batch_size"].when == {}


def test_a_dimension_is_its_parameter() -> None:
    """Kind, ends, scale, step and choices; the labels of backbones are choices too."""
    written = {"batch_size": {"low": 16, "high": 128, "log": True}, "lp_ft": [True, False]}
    backbone, lp_ft, batch = dimensions(space(written))
    assert (backbone.name, backbone.knob, backbone.kind) == ("backbone", "backbone", "categorical")
    assert backbone.choices[0] == "resnet18"
    assert (lp_ft.choices, lp_ft.low) == ((True, False), None)
    assert (batch.kind, batch.low, batch.high, batch.log, batch.step) == ("int", 16, 128, True, 1)
    stepped = dimensions(space({"freeze_fraction": {"low": 0, "high": 1, "step": 0.25}}))[1]
    assert (stepped.kind, stepped.step) == ("float", 0.25)
