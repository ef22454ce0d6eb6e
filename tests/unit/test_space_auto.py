"""The ready space and the untuned recipes."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial

from tunesvc.space import Space, auto, build
from tunesvc.spec import KNOBS, Knobs, StudySpec
from tunesvc.spec.families import family

SCRATCH = {"name": "tiny_mobilenet", "weights": "none"}
FAMILIES = ["resnet18", "mobilenet_v3_small", "vgg11", "convnext_tiny", "swin_t", "vit_b_16"]


def spec(space: Any = "auto", backbones: Any = ("resnet18",), **changes: Any) -> StudySpec:
    value = {"name": "t", "data": "digits", "backbones": backbones, "search_space": space}
    return StudySpec.model_validate(value | changes)


def draw(space: Space, seed: int) -> tuple[optuna.trial.Trial, str, Knobs]:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    label, knobs = space.suggest(trial)
    return trial, label, knobs


def names(space: Space) -> list[str]:
    return [parameter.name for parameter in space.parameters]


@pytest.mark.parametrize("seed", range(20))
def test_a_resumed_trial_gets_what_it_had(seed: int) -> None:
    """Suggest, suggest again on the same trial, a fixed trial and resolve agree."""
    space = build(spec(backbones=[*FAMILIES, SCRATCH]))
    trial, *first = draw(space, seed)
    resumed = optuna.trial.Trial(trial.study, trial._trial_id)
    assert [*space.suggest(resumed)] == first
    assert resumed.params == trial.params
    assert [*space.suggest(FixedTrial(trial.params))] == first
    assert [*space.resolve(trial.params)] == first


RATES = {
    ("resnet", "sgd"): (1e-3, 1e-1),
    ("resnet", "adamw"): (1e-4, 3e-3),
    ("mobile", "adamw"): (1e-4, 3e-3),
    ("vgg", "adamw"): (1e-4, 3e-3),
    ("convnext", "adamw"): (1e-5, 5e-4),
    ("transformer", "adamw"): (5e-6, 3e-4),
}
BY_STRATEGY = {
    "linear-probe": (1e-4, 1e-1),
    "bias-norm-only": (1e-4, 1e-2),
    "from-scratch": (1e-4, 1e-2),
}


@pytest.mark.parametrize("seed", range(5))
def test_the_ready_space_keeps_to_its_ranges(seed: int) -> None:
    """Random mixtures of families: at most ten active parameters, each with an effect."""
    choose = random.Random(seed)
    backbones = [*choose.sample(FAMILIES, choose.randint(1, 4)), SCRATCH][: choose.randint(1, 5)]
    study_spec = spec(backbones=backbones)
    space = build(study_spec)
    assert len(set(names(space))) == len(space.parameters)
    for trial, label, knobs in (draw(space, seed) for seed in range(200)):
        name = study_spec.backbone(label).name
        rates = BY_STRATEGY.get(knobs.strategy) or RATES[family(name), knobs.optimizer]
        assert rates[0] <= knobs.lr <= rates[1]
        assert len(trial.params) <= 10
        assert (knobs.strategy == "from-scratch") == (name == "tiny_mobilenet")
        _check_activity({name.partition("@")[0] for name in trial.params}, label, knobs)


def _check_activity(active: set[str], label: str, knobs: Knobs) -> None:
    body = {"last-stage", "freeze-fraction", "full", "gradual-unfreeze"}
    convolutional = family(label) in ("resnet", "mobile", "vgg")
    assert {"lr", "weight_decay", "batch_size", "augmentation"} <= active
    assert ("freeze_fraction" in active) == (knobs.strategy == "freeze-fraction")
    assert ("lp_ft" in active) == (knobs.strategy == "full")
    assert ("body_lr_multiplier" in active) == (convolutional and knobs.strategy in body)
    assert ("layer_decay" in active) == (
        not convolutional and knobs.strategy in body - {"last-stage"}
    )
    assert ("optimizer" in active) == (family(label) == "resnet" and knobs.strategy in body)
    if knobs.strategy in ("linear-probe", "from-scratch", "bias-norm-only"):
        assert (knobs.head_lr_multiplier, knobs.optimizer) == (1.0, "adamw")
    if knobs.strategy == "from-scratch":
        assert (knobs.body_lr_multiplier, knobs.layer_decay) == (1.0, 1.0)


@pytest.mark.parametrize(
    "backbones", [["resnet18"], [SCRATCH], [*FAMILIES, "two_conv_cnn", SCRATCH]]
)
def test_untuned_defaults_are_the_recipes(backbones: list[Any]) -> None:
    """They lie inside the ready space as they stand, hold active parameters only, in file order."""
    study_spec = spec(backbones=backbones)
    space = build(study_spec)
    study = optuna.create_study()
    for label, params in zip(study_spec.backbone_labels, space.defaults(), strict=True):
        study.enqueue_trial(params)
        trial = study.ask()
        found, knobs = space.suggest(trial)
        assert (found, trial.params) == (label, params)
        recipe = auto.recipe(study_spec.backbone(label))
        assert {knob: getattr(knobs, knob) for knob in recipe} == recipe


@pytest.mark.parametrize(
    ("backbone", "strategy", "augmentation"),
    [
        ("resnet18", "full", "flip-crop"),
        ("vit_b_16", "full", "flip-crop"),
        ({"name": "resnet18", "weights": "none"}, "from-scratch", "flip-crop"),
        ("tiny_resnet", "full", "none"),
        ({"name": "two_conv_cnn", "weights": "none"}, "from-scratch", "none"),
    ],
)
def test_recipes_never_flip_digits(backbone: Any, strategy: str, augmentation: str) -> None:
    """Our small backbones see unflipped images; without weights everything is trained."""
    recipe = auto.recipe(spec(backbones=[backbone]).backbones[0])
    assert (recipe["strategy"], recipe["augmentation"]) == (strategy, augmentation)
    assert set(recipe) <= set(KNOBS)


@pytest.mark.parametrize("strategy", ["full", "linear-probe", "from-scratch", "bias-norm-only"])
@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_recipe_trains_the_head_at_one_rate(backbone: str, strategy: str) -> None:
    """lr × multipliers: the head at 1e-3, a pretrained body at 1e-4 when it is trained whole."""
    knobs = Knobs.model_validate(auto.recipe(spec(backbones=[backbone]).backbones[0], strategy))
    assert knobs.lr * knobs.head_lr_multiplier == pytest.approx(1e-3)
    body = 1e-4 if strategy == "full" else 1e-3
    assert knobs.lr * knobs.body_lr_multiplier == pytest.approx(body)


@pytest.mark.parametrize("backbones", [["resnet18"], [SCRATCH], [*FAMILIES, SCRATCH]])
def test_the_ready_space_can_be_spelled_out(backbones: list[Any]) -> None:
    """A file that writes the ready space out has the same parameters as one that says auto."""
    ready = spec(backbones=backbones)
    written = {
        knob: [variant.model_dump(exclude_defaults=True) for variant in variants]
        for knob, variants in auto.space_for(ready).items()
    }
    assert build(spec(written, backbones)).parameters == build(ready).parameters
