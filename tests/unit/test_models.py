"""Backbones that stay built: every trial finds them as if they were new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesvc import plugins, strategies, train
from tunesvc.data import Split
from tunesvc.spec import BackboneSpec, Knobs, TrialConfig
from tunesvc.trial.models import Model, Models

TINY = BackboneSpec(name="tiny_resnet")
CPU = train.place("cpu")


def config(seed: int = 1, spec: BackboneSpec = TINY, **knobs: Any) -> TrialConfig:
    """One epoch of whatever the knobs say."""
    return TrialConfig(spec, Knobs(**{"lr": 0.1, "batch_size": 16} | knobs), 1, seed)


def values(model: Model) -> dict[str, Tensor]:
    """Everything that a model holds, copied."""
    return {name: value.clone() for name, value in model.backbone.module.state_dict().items()}


def trained(models: Models, given: TrialConfig) -> Model:
    """A model after an epoch on noise."""
    model = models.take(given)
    body = model.backbone
    stages = [(stage.name, stage.parameters) for stage in body.stages]
    plan = strategies.plan(stages, body.head.parameters, body.norm_parameters, given.knobs, 1)
    images = torch.randint(0, 255, (48, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(48) % 5)
    task = plugins.load("task", "image-classification")
    run = train.Run(body, task, split, split, given, CPU, plan)
    model.expect(run.changing)
    list(train.fit(run))
    return model


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two models hold the same, to the bit."""
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_warm_backbone_is_as_new() -> None:
    """Weights, statistics and head are bit-identical, whatever was trained before."""
    warm = Models(5, Path(), None)
    for before in ("full", "last-stage", "linear-probe", "bias-norm-only"):
        model = trained(warm, config(seed=7, strategy=before))
        changed = values(model)
        again = warm.take(config(seed=2, dropout=0.25))
        cold = Models(5, Path(), None).take(config(seed=2, dropout=0.25))
        assert again is model
        assert not same(changed, values(cold))
        assert same(values(again), values(cold)), before
        assert all(p.grad is None for p in again.backbone.module.parameters())
        dropouts = [m.p for m in again.backbone.module.modules() if isinstance(m, nn.Dropout)]
        assert dropouts == [0.25]


class Renewing(nn.Module):
    """Puts another tensor into its buffer's place at every pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("scratch", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        self.seen = self.seen + len(images)
        return self.inner(images)  # type: ignore[no-any-return]


def test_a_buffer_that_is_replaced_is_kept_and_put_back() -> None:
    """What a module holds is looked for where it hangs, not where it was."""
    models = Models(5, Path(), None)
    model = models.take(config(seed=7, strategy="full"))
    model.backbone.module.add_module("0", Renewing(nn.Identity()))
    known, body = model.backbone.tensors, model.backbone.module
    assert list(known) == list(body.state_dict())
    body.get_submodule("0")(torch.zeros(3, 1))
    assert model.backbone.tensors["0.seen"] == body.state_dict()["0.seen"] == 3
    model.expect(frozenset(known))
    body.get_submodule("0")(torch.zeros(3, 1))
    model.restore()
    assert body.state_dict()["0.seen"] == 3


def test_heads_are_drawn_from_the_seed() -> None:
    """Two seeds, two heads; one seed, one head."""
    models = Models(5, Path(), None)
    one, two, three = (values(models.take(config(seed=seed))) for seed in (1, 2, 1))
    assert not torch.equal(one["head.1.weight"], two["head.1.weight"])
    assert torch.equal(one["head.1.weight"], three["head.1.weight"])


def test_from_scratch_nothing_is_kept() -> None:
    """A random body is drawn anew for every trial, and is no trial's second one."""
    unweighted = BackboneSpec(name="tiny_resnet", weights="none")
    for scratch in (config(strategy="from-scratch"), config(spec=unweighted)):
        models = Models(5, Path(), None)
        first, second = models.take(scratch), models.take(scratch)
        assert first is not second
        assert not second.is_warm
        assert same(values(first), values(second))
        other = values(models.take(replace(scratch, seed=2)))
        assert not torch.equal(
            values(first)["stage2.shortcut.0.weight"], other["stage2.shortcut.0.weight"]
        )


def test_only_a_few_are_kept() -> None:
    """The one that was used longest ago goes first."""
    models = Models(5, Path(), None)
    specs = [BackboneSpec(name="tiny_resnet", label=f"number{n}") for n in range(5)]
    first = models.take(config(spec=specs[0]))
    for spec in specs[1:4]:
        models.take(config(spec=spec))
    assert models.take(config(spec=specs[0])) is first
    models.take(config(spec=specs[4]))
    assert models.take(config(spec=specs[0])) is first
    assert not models.take(config(spec=specs[1])).is_warm
    models.clear()
    assert models.take(config(spec=specs[0])) is not first
