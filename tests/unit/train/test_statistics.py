"""Batch-norm statistics of a mean of models: measured anew, and only where the models differ."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.optim.swa_utils import update_bn

from tunesvc import plugins, strategies, train
from tunesvc.backbones import build
from tunesvc.data import Split
from tunesvc.spec import BackboneSpec, Knobs, TrialConfig
from tunesvc.train import Run
from tunesvc.train.statistics import differing, refresh

CPU = train.place("cpu")
TINY = BackboneSpec(name="tiny_resnet")


def made(*, strategy: str = "full", epochs: int = 0, seed: int = 0) -> Run:
    """A run on noise after some epochs."""
    train.seed(seed)
    body = build(TINY, 5, base=Path())
    images = torch.randint(0, 255, (48, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    split = Split(images.to(torch.uint8), torch.arange(48) % 5)
    knobs = Knobs(strategy=strategy, lr=0.05, batch_size=16)  # type: ignore[arg-type]
    config = TrialConfig(TINY, knobs, max(1, epochs), seed)
    stages = [(stage.name, stage.parameters) for stage in body.stages]
    plan = strategies.plan(stages, body.head.parameters, body.norm_parameters, knobs, 1)
    run = Run(body, plugins.load("task", "image-classification"), split, split, config, CPU, plan)
    if epochs:
        list(train.fit(run))
    return run


def test_statistics_differ_where_the_body_was_trained() -> None:
    """A linear probe leaves them as the weights have them; full fine-tuning changes them all."""
    before = made().module.state_dict()
    probed = made(strategy="linear-probe", epochs=1).module.state_dict()
    tuned = made(epochs=1).module.state_dict()
    assert differing([before, probed]) == frozenset()
    found = differing([before, probed, tuned])
    every = {name.rpartition(".")[0] for name in before if name.endswith("running_mean")}
    assert found == every
    assert differing([]) == frozenset()


def test_refreshed_statistics_are_those_of_the_training_images() -> None:
    """As torch's own `update_bn` finds them; other modules' stay, and so does the momentum."""
    run, twin = made(epochs=1), made(epochs=1)
    names = differing([made().module.state_dict(), run.module.state_dict()])
    refresh(run, names)
    update_bn((images for images, _ in twin.evaluation_batches(twin.train)), twin.module)
    wanted, found = twin.module.state_dict(), run.module.state_dict()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, atol=1e-6), name
    assert not run.module.training
    first, *others = sorted(names)
    before = {name: value.clone() for name, value in made().module.state_dict().items()}
    part = made()
    refresh(part, {first})
    after = part.module.state_dict()
    changed = {name.rpartition(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == {first}
    assert part.module.get_submodule(first).momentum == 0.1
    assert others
