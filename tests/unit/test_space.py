"""The search space: conditions, names, untuned defaults, the ready space."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from tunesvc.errors import SpecError, UsageError
from tunesvc.space import Space, build
from tunesvc.spec import Knobs, StudySpec

SCRATCH = {"name": "tiny_mobilenet", "weights": "none"}


def spec(space: Any = "auto", backbones: Any = ("resnet18",), **changes: Any) -> StudySpec:
    value = {"name": "t", "data": "digits", "backbones": backbones, "search_space": space}
    return StudySpec.model_validate(value | changes)


def draw(space: Space, seed: int) -> tuple[optuna.trial.Trial, str, Knobs]:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    label, knobs = space.suggest(trial)
    return trial, label, knobs


def names(space: Space) -> list[str]:
    return [parameter.name for parameter in space.parameters]


def test_each_form_of_range_becomes_its_distribution() -> None:
    """Scalars and one-item lists are no parameters; the rest keeps bounds, log and step."""
    space = build(
        spec(
            {
                "schedule": "linear",
                "augmentation": ["none"],
                "optimizer": ["sgd", "adamw"],
                "lr": {"low": 1e-5, "high": 1e-1, "log": True},
                "dropout": {"low": 0.0, "high": 0.4, "step": 0.1},
                "batch_size": {"low": 8, "high": 64, "log": True},
                "mixup": {"type": "int", "low": 0, "high": 2},
            }
        )
    )
    assert {p.name: p.distribution for p in space.parameters} == {
        "optimizer": CategoricalDistribution(("sgd", "adamw")),
        "lr": FloatDistribution(1e-5, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.4, step=0.1),
        "batch_size": IntDistribution(8, 64, log=True),
        "mixup": IntDistribution(0, 2),
    }
    for seed in range(20):
        trial, label, knobs = draw(space, seed)
        assert (label, knobs.schedule, knobs.augmentation) == ("resnet18", "linear", "none")
        assert knobs.lr == trial.params["lr"]
        assert isinstance(knobs.mixup, float)


def test_a_step_that_misses_the_end_stops_short_of_it() -> None:
    """0.1 to 0.35 by 0.1 is 0.1, 0.2, 0.3 and no warning of Optuna's."""
    space = build(
        spec(
            {
                "dropout": {"low": 0.1, "high": 0.35, "step": 0.1},
                "batch_size": {"low": 8, "high": 30, "step": 8},
            }
        )
    )
    dropout, batch_size = sorted(space.parameters, key=lambda p: p.knob, reverse=True)
    assert dropout.values() == pytest.approx([0.1, 0.2, 0.3])
    assert batch_size.values() == [8, 16, 24]
    assert all(d.distribution._contains(v) for d in space.parameters for v in d.values())


def test_the_backbone_is_a_parameter_only_where_there_is_a_choice() -> None:
    """One backbone: none; several: the first parameter, over labels."""
    assert names(build(spec({"lr": {"low": 1e-4, "high": 1e-2}}))) == ["lr"]
    two = [{"name": "resnet18", "weights": w} for w in ("DEFAULT", "none")]
    space = build(spec({"lr": {"low": 1e-4, "high": 1e-2}}, two))
    assert space.parameters[0].distribution == CategoricalDistribution(
        ("resnet18:DEFAULT", "resnet18:none")
    )
    assert space.resolve({"backbone": "resnet18:none", "lr": 1e-3})[1].strategy == "from-scratch"


DEEP = {
    "strategy": ["linear-probe", "full"],
    "optimizer": {"choices": ["sgd", "adamw"], "when": {"strategy": "full"}},
    "momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}},
    "nesterov": {"choices": [True, False], "when": {"momentum": [0.5, 0.9]}},
    "layer_decay": {"low": 0.5, "high": 1.0, "when": {"family": "transformer"}},
    "frozen_bn": {"choices": [True, False], "when": {"backbone": "resnet18"}},
}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {"backbone": "vit_b_16", "strategy": "linear-probe", "layer_decay": 0.6},
            {"momentum": 0.9},
        ),
        (
            {"backbone": "resnet18", "strategy": "linear-probe", "frozen_bn": True},
            {"frozen_bn": True, "optimizer": "adamw"},
        ),
        (
            {
                "backbone": "resnet18",
                "strategy": "full",
                "optimizer": "sgd",
                "momentum": 0.5,
                "nesterov": True,
                "frozen_bn": False,
            },
            {"optimizer": "sgd", "momentum": 0.5, "nesterov": True},
        ),
        (
            {
                "backbone": "resnet18",
                "strategy": "full",
                "optimizer": "sgd",
                "momentum": 0.7,
                "frozen_bn": False,
            },
            {"momentum": 0.7, "nesterov": False},
        ),
    ],
)
def test_conditions_hold_to_any_depth(params: dict[str, Any], expected: dict[str, Any]) -> None:
    """A parameter is asked for exactly when its condition, and its parents', hold."""
    space = build(spec(DEEP, ["vit_b_16", "resnet18"]))
    trial = FixedTrial(params)
    assert space.suggest(trial) == space.resolve(params)
    assert trial.params == params
    knobs = space.resolve(params)[1]
    assert {knob: getattr(knobs, knob) for knob in expected} == expected


def test_the_first_variant_that_holds_counts() -> None:
    """Variants have their own names: the label, else the values of the condition."""
    space = build(
        spec(
            {
                "strategy": ["linear-probe", "full", "last-stage"],
                "lr": [
                    {"low": 1e-3, "high": 1e-1, "when": {"strategy": "linear-probe"}},
                    {"low": 1e-4, "high": 1e-2, "label": "top", "when": {"strategy": "last-stage"}},
                    {"value": 0.5, "when": {"strategy": "full", "optimizer": "sgd"}},
                    {"low": 1e-5, "high": 1e-3},
                ],
                "optimizer": ["sgd", "adam"],
            }
        )
    )
    assert names(space) == ["strategy", "optimizer", "lr@linear-probe", "lr@top", "lr@else"]
    assert space.resolve({"strategy": "full", "optimizer": "sgd"})[1].lr == 0.5
    params = {"strategy": "full", "optimizer": "adam", "lr@else": 1e-4, "lr@top": 9}
    assert space.resolve(params)[1].lr == 1e-4


def test_the_order_of_the_file_does_not_matter() -> None:
    """The digest does not see the order of keys, so the draws must not either."""
    items = [(knob, {"low": 0.1, "high": 0.9}) for knob in ("lr", "warmup", "dropout", "mixup")]
    forwards, backwards = build(spec(dict(items))), build(spec(dict(items[::-1])))
    assert names(forwards) == names(backwards)
    assert draw(forwards, 1)[2] == draw(backwards, 1)[2]


LR = {"low": 1e-4, "high": 1e-2}


@pytest.mark.parametrize(
    ("space", "changes", "says"),
    [
        ({"lr": LR | {"when": {"optimizer": "sgd"}}}, {}, "search_space.lr.when.optimizer"),
        ({"lr": LR | {"when": {"optimiser": "sgd"}}}, {}, "no knob"),
        (
            {"optimizer": ["sgd", "adam"], "lr": LR | {"when": {"optimizer": "adamw"}}},
            {},
            "optimizer is never 'adamw'",
        ),
        (
            {"optimizer": "sgd", "lr": LR | {"when": {"optimizer": "sdg"}}},
            {},
            "search_space.lr.when.optimizer: optimizer cannot be 'sdg'",
        ),
        (
            {"warmup": {"low": 0.0, "high": 0.1}, "lr": LR | {"when": {"warmup": 0.5}}},
            {},
            "warmup is never 0.5",
        ),
        ({"lr": LR | {"when": {"backbone": "resnet81"}}}, {}, "did you mean 'resnet18'"),
        ({"lr": LR | {"when": {"family": "mobil"}}}, {}, "did you mean 'mobile'"),
        (
            {"lr": LR | {"when": {"family": "mobile", "backbone": "resnet18"}}},
            {"backbones": ["resnet18", "mobilenet_v2"]},
            "never holds",
        ),
        (
            {
                "lr": LR | {"when": {"mixup": 0.5}},
                "mixup": {"low": 0.0, "high": 1.0, "when": {"cutmix": 0.5}},
                "cutmix": {"low": 0.0, "high": 1.0, "when": {"mixup": 0.5}},
            },
            {},
            "mixup → cutmix → mixup",
        ),
        ({"lr": LR | {"when": {"lr": 1e-3}}}, {}, "lr → lr"),
        ({"lr": [LR, LR | {"label": "b"}]}, {}, "search_space.lr.1: never counts"),
        (
            {
                "optimizer": ["sgd", "adam"],
                "lr": [LR | {"when": {"optimizer": "sgd"}}, LR | {"label": "sgd"}],
            },
            {},
            "two variants are called 'lr@sgd'",
        ),
        ({"lr": {"low": 0.0, "high": 1.0}}, {}, "search_space.lr: lr cannot be 0.0"),
        ({"momentum": {"low": 0.5, "high": 1.0}}, {}, "momentum cannot be 1.0"),
        ({"optimizer": ["sgd", "adamv"]}, {}, "optimizer cannot be 'adamv'"),
        ({"optimizer": "adamv"}, {}, "optimizer cannot be 'adamv'"),
        ({"batch_size": [16, 32.5]}, {}, "batch_size cannot be 32.5"),
        ({"batch_size": {"type": "float", "low": 8, "high": 64}}, {}, "batch_size cannot be 8.0"),
        ({"strategy": {"low": 0, "high": 1}}, {}, "strategy cannot be 0.0"),
        ({"dropout": {"low": 0.1, "high": 0.3, "step": 0.5}}, {}, "wider than the range"),
        ({"lr": LR}, {"defaults": {"lr": 0.5}}, "defaults.lr: 0.5 is outside"),
        ({"lr": 0.1}, {"defaults": {"lr": 0.5}}, "fixes it at 0.1"),
        (
            {"lr": LR},
            {"defaults": {"batch_size": 0}},
            "defaults.batch_size: batch_size cannot be 0",
        ),
        ("auto", {"defaults": {"strategy": "from-scratch"}}, "defaults.strategy"),
    ],
)
def test_a_space_that_contradicts_itself_is_refused(space: Any, changes: Any, says: str) -> None:
    """The error names the key and what is wrong with it."""
    with pytest.raises(SpecError) as caught:
        build(spec(space, **changes))
    assert says in str(caught.value)


def test_a_family_that_the_study_lacks_is_no_mistake() -> None:
    """Its variants never hold, and are no parameters; the others keep their names."""
    lr = [LR | {"when": {"family": "convnext"}}, LR | {"label": "b"}]
    space = build(spec({"lr": lr, "layer_decay": LR | {"when": {"family": "transformer"}}}))
    assert names(space) == ["lr@b"]
    assert draw(space, 0)[2].layer_decay == 1.0


def test_knobs_outside_the_space_have_their_untuned_value() -> None:
    """File before recipe before the knob's own; the recipe follows the trial's strategy."""
    space = build(
        spec({"strategy": ["full", "linear-probe", "from-scratch"]}, defaults={"weight_decay": 0.5})
    )
    full, probe, scratch = (
        space.resolve({"strategy": s})[1] for s in ("full", "linear-probe", "from-scratch")
    )
    assert {knobs.weight_decay for knobs in (full, probe, scratch)} == {0.5}
    assert (full.lr, full.body_lr_multiplier, full.head_lr_multiplier) == (1e-3, 0.1, 1.0)
    assert scratch.body_lr_multiplier == 1.0
    assert full.mixup == 0.0


def test_defaults_come_from_the_file_or_the_nearest_value_of_the_recipe() -> None:
    """A recipe moves into the range; the file's own value is taken as it is."""
    space = build(
        spec(
            {
                "lr": {"low": 1e-2, "high": 1e-1, "log": True},
                "batch_size": [8, 64, 128],
                "optimizer": ["sgd", "rmsprop"],
                "dropout": {"low": 0.1, "high": 0.3, "step": 0.1},
                "momentum": {"low": 0.1, "high": 0.95, "when": {"optimizer": "sgd"}},
                "warmup": {"low": 0.0, "high": 0.2},
            },
            defaults={"momentum": 0.8, "dropout": 0.3},
        )
    )
    assert space.defaults() == (
        {
            "optimizer": "sgd",
            "lr": 1e-2,
            "momentum": 0.8,
            "batch_size": 8,
            "warmup": 0.1,
            "dropout": 0.3,
        },
    )


def test_a_file_default_yields_to_what_is_fixed_under_a_condition() -> None:
    """Untrained backbones stay from-scratch though the file's default says linear-probe."""
    space = build(spec(backbones=["resnet18", SCRATCH], defaults={"strategy": "linear-probe"}))
    resolved = [space.resolve(params)[1].strategy for params in space.defaults()]
    assert resolved == ["linear-probe", "from-scratch"]


def test_a_grid_holds_every_distinct_configuration_once() -> None:
    """Conditional knobs multiply their own branch only: 2 × (1 + 2 × 2) = 10."""
    space = build(
        spec(
            {
                "optimizer": ["adamw", "sgd"],
                "nesterov": {"choices": [True, False], "when": {"optimizer": "sgd"}},
                "warmup": {"low": 0.0, "high": 0.1, "step": 0.1, "when": {"optimizer": "sgd"}},
                "lp_epochs": {"low": 1, "high": 2, "when": {"schedule": "cosine"}},
                "schedule": "cosine",
            }
        )
    )
    grid = space.grid()
    assert len(grid) == 10
    assert len({str(space.resolve(params)) for params in grid}) == 10
    for params in grid:
        trial = FixedTrial(params)
        space.suggest(trial)
        assert trial.params == params


def test_a_grid_over_real_numbers_is_refused() -> None:
    """The error names the knob without a step."""
    with pytest.raises(UsageError, match=r"search_space\.lr: a grid"):
        build(spec({"lr": LR, "optimizer": ["sgd", "adam"]})).grid()


def test_ranges_in_words() -> None:
    """As `check` prints them."""
    space = build(
        spec(
            {
                "lr": LR | {"log": True},
                "optimizer": ["sgd", "adam"],
                "batch_size": {"low": 8, "high": 64, "step": 8},
                "dropout": {"low": 0.0, "high": 0.5},
            }
        )
    )
    assert {p.name: p.in_words() for p in space.parameters} == {
        "lr": "0.0001 … 0.01 (log)",
        "optimizer": "choices: sgd, adam",
        "batch_size": "8 … 64 (in steps of 8)",
        "dropout": "0 … 0.5",
    }
