"""Frozen stages: their outputs known or computed anew, the numbers are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesvc import data, plugins, strategies, train
from tunesvc.backbones import build, cut
from tunesvc.data import Split
from tunesvc.spec import BackboneSpec, DigitsData, Knobs, TrialConfig
from tunesvc.train import Epoch, Placement, Run, Shared
from tunesvc.train.frozen import nothing_kept

CPU = Placement(torch.device("cpu"), autocast=False, channels_last=True, threads=1)
TINY = BackboneSpec(name="tiny_resnet")
SHARED = Path(__file__).parents[3].parent / "shared"
MOBILE = SHARED / "weights" / "mobilenet_v2_w035-keras-features-96ed9f53.pth"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    """A hundred and forty digits of 32 pixels."""
    listing = data.scan(DigitsData(kind="digits", subset=140), target="class", base=Path())
    cache = tmp_path_factory.mktemp("cache")
    names = ("train", "val")
    return {n: data.decode(listing, n, 32, on_corrupt="fail", cache=cache) for n in names}


def run_of(
    splits: dict[str, Split],
    cache: Path | None,
    spec: BackboneSpec = TINY,
    *,
    is_cached: bool = True,
    epochs: int = 3,
    **knobs: Any,
) -> Run:
    """A run whose frozen stages' outputs are kept in `cache`; None: computed at every step."""
    settings = Knobs(**{"lr": 0.01, "batch_size": 32, "augmentation": "flip-crop"} | knobs)
    train.seed(3)
    body = build(spec, 10, base=Path(), dropout=settings.dropout, image_size=32)
    stages = [(stage.name, stage.parameters) for stage in body.stages]
    plan = strategies.plan(stages, body.head.parameters, body.norm_parameters, settings, epochs)
    config = TrialConfig(spec, settings, epochs, 7, is_cached)
    body.module.to(memory_format=torch.channels_last)
    freezer = nothing_kept
    if cache is not None:
        freezer = Shared("digits", cache).freezer(lambda frozen: cut(body, frozen))
    task = plugins.load("task", "image-classification")
    return Run(body, task, splits["train"], splits["val"], config, CPU, plan, freezer)


def numbers(epochs: list[Epoch]) -> torch.Tensor:
    """The losses of training and validation after each epoch."""
    return torch.tensor([[epoch.train_loss, epoch.metrics["loss"]] for epoch in epochs])


STRATEGIES: list[dict[str, Any]] = [
    {"strategy": "linear-probe"},
    {"strategy": "linear-probe", "augmentation": "none"},
    {"strategy": "linear-probe", "augmentation": "trivial-augment", "dropout": 0.3},
    {"strategy": "last-stage"},
    {"strategy": "freeze-fraction", "freeze_fraction": 0.5, "optimizer": "sgd"},
    {"strategy": "full", "lp_ft": True, "lp_epochs": 2},
    {"strategy": "gradual-unfreeze"},
]


@pytest.mark.parametrize("knobs", STRATEGIES, ids=lambda knobs: "-".join(map(str, knobs.values())))
def test_known_outputs_change_no_number(
    digits: dict[str, Split], tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """Every loss, whatever is frozen and however images are augmented; cold, and again warm."""
    whole = run_of(digits, None, **knobs)
    expected = numbers(list(train.fit(whole)))
    for _ in ("cold", "warm"):
        run = run_of(digits, tmp_path, **knobs)
        torch.testing.assert_close(numbers(list(train.fit(run))), expected, rtol=1e-4, atol=1e-4)
        assert any(used["outputs_known"] for used in run.inputs.used)
    assert not any(used["outputs_known"] for used in whole.inputs.used)


def test_a_real_backbone_s_outputs(digits: dict[str, Split], tmp_path: Path) -> None:
    """MobileNetV2 with its ImageNet weights, its last stage trained.

    By plain SGD: AdamW makes a step of the rounding of a gradient that is nearly 0.
    """
    if not MOBILE.is_file():
        pytest.skip(f"{MOBILE} is not here")
    spec = BackboneSpec(name="mobilenet_v2", weights=str(MOBILE), kwargs={"width_mult": 0.35})
    known, whole = (
        run_of(digits, cache, spec, strategy="last-stage", optimizer="sgd", lr=1e-3)
        for cache in (tmp_path, None)
    )
    expected = numbers(list(train.fit(whole)))
    torch.testing.assert_close(numbers(list(train.fit(known))), expected, rtol=1e-4, atol=1e-4)


def test_live_augmentation_keeps_nothing(digits: dict[str, Split], tmp_path: Path) -> None:
    """With `augment: live`, or with mixed images, every image goes through the whole model."""
    live = run_of(digits, tmp_path, is_cached=False, strategy="linear-probe", epochs=1)
    mixed = run_of(digits, tmp_path, strategy="linear-probe", mixup=0.2, epochs=1)
    for run in (live, mixed):
        list(train.fit(run))
        assert run.inputs.used == []
        assert run.inputs.views == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["stage1", "stage4"])
def test_out_of_memory_in_the_frozen_part_takes_fewer_images(
    digits: dict[str, Split], tmp_path: Path, part: str
) -> None:
    """Batches of training's size fit, and are enough; the numbers are the same."""
    run = run_of(digits, tmp_path, strategy="last-stage", epochs=2)
    seen: list[int] = []

    def limited(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(given[0]))
        if len(given[0]) > 32:
            raise torch.OutOfMemoryError("no room")

    run.module.get_submodule(part).register_forward_pre_hook(limited)
    expected = numbers(list(train.fit(run_of(digits, None, strategy="last-stage", epochs=2))))
    torch.testing.assert_close(numbers(list(train.fit(run))), expected, rtol=1e-4, atol=1e-4)
    assert max(seen) > 32
    assert run.micro_batch == 32
    assert run.inputs.outputs is not None


def test_frozen_statistics_stand_still(digits: dict[str, Split], tmp_path: Path) -> None:
    """Filling the cache leaves no trace in the batch-norms that are frozen."""
    run = run_of(digits, tmp_path, strategy="last-stage", epochs=1)
    before = {name: value.clone() for name, value in run.module.named_buffers()}
    list(train.fit(run))
    after = dict(run.module.named_buffers())
    still = [name for name in before if name.startswith(("stage1", "stage2", "stage3"))]
    assert all(torch.equal(before[name], after[name]) for name in still)
    moved = [name for name in before if name.startswith("stage4") and "running" in name]
    assert not any(torch.equal(before[name], after[name]) for name in moved)


def test_a_phase_of_one_epoch_is_not_worth_it(digits: dict[str, Split], tmp_path: Path) -> None:
    """Gradual unfreezing passes through the middle of the backbone without keeping outputs."""
    run = run_of(digits, tmp_path, strategy="gradual-unfreeze", epochs=4)
    list(train.fit(run))
    known = {used["stages"]: used["outputs_known"] for used in run.inputs.used}
    assert known[4]
    assert not any(is_known for stages, is_known in known.items() if stages < 4)


def test_the_mirrored_view_is_shared(digits: dict[str, Split], tmp_path: Path) -> None:
    """Two augmentations have the image and its mirror image in common: no entry is made twice."""
    one = run_of(digits, tmp_path, strategy="linear-probe", epochs=1)
    two = run_of(
        digits, tmp_path, strategy="linear-probe", augmentation="trivial-augment", epochs=1
    )
    list(train.fit(one))
    before = entries(tmp_path)
    list(train.fit(two))
    assert before == 5  # four views and the validation split
    assert entries(tmp_path) == 7
    assert two.inputs.view_names(two.train)[:2] == one.inputs.view_names(one.train)[:2]


def test_seconds_of_computing_are_told_apart(digits: dict[str, Split], tmp_path: Path) -> None:
    """The first run computes, for later ones as well; a second finds everything."""
    for is_first in (True, False):
        run = run_of(digits, tmp_path, strategy="linear-probe")
        run.begin_epoch()
        run.freeze(lambda: None)
        (used,) = run.inputs.used
        assert (used["computing"] > 0) is is_first
        assert used["computing"] <= used["seconds"]


def entries(cache: Path) -> int:
    """How many outputs lie in the cache."""
    return len({path.stem for path in cache.rglob("*") if path.suffix == ".npy"})


def test_an_interruption_while_outputs_are_computed(
    digits: dict[str, Split], tmp_path: Path
) -> None:
    """It leaves nothing behind, and the run goes on from its beginning."""

    def stop() -> None:
        raise KeyboardInterrupt

    run = run_of(digits, tmp_path, strategy="linear-probe", epochs=1)
    with pytest.raises(KeyboardInterrupt):
        next(train.fit(run, stop))
    assert run.position == (0, 0)
    assert entries(tmp_path) == 0
    expected = numbers(list(train.fit(run_of(digits, None, strategy="linear-probe", epochs=1))))
    again = replace(run)
    again.load_state_dict(run.state_dict())
    torch.testing.assert_close(numbers(list(train.fit(again))), expected, rtol=1e-4, atol=1e-4)
