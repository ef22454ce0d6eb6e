"""The training loop, on a toy: which half of a small picture is bright."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tunesvc import plugins, train
from tunesvc.data import Split
from tunesvc.errors import TrainingError, UsageError
from tunesvc.spec import Knobs
from tunesvc.train import Diverged, Run
from tunesvc.train.mixing import cutmix, mix, mixup
from tunesvc.train.optimization import rate_factor

ToyRun = Callable[..., Run]


def numbers(run: Run) -> list[tuple[dict[str, float], float]]:
    return [(epoch.metrics, epoch.train_loss) for epoch in train.fit(run)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.module.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def changed(run: Run) -> set[str]:
    """Train to the end; return which entries of the model are not what they were."""
    before = weights(run)
    list(train.fit(run))
    after = weights(run)
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_every_optimizer_and_schedule_learns(
    toy_run: ToyRun, optimizer: str, schedule: str
) -> None:
    """Each combination solves the toy, and every metric is a plain finite float."""
    lr = 0.05 if optimizer == "sgd" else 0.003
    *_, last = train.fit(toy_run(optimizer=optimizer, schedule=schedule, lr=lr, nesterov=True))
    assert last.index == 2
    assert last.metrics["accuracy"] > 0.9
    assert last.metrics.keys() == plugins.load("task", "image-classification").metrics.keys()
    assert all(type(value) is float and math.isfinite(value) for value in last.metrics.values())
    assert last.seconds.keys() == {"features", "train", "eval"}
    assert str(last).startswith("epoch 3: train_loss ")


def test_regression_is_learned_with_the_same_loop(toy_run: ToyRun) -> None:
    """A task with number targets trains, mixed and all, and reports its own metrics."""
    *_, last = train.fit(toy_run(task="image-regression", epochs=12, mixup=0.2, lr=0.02))
    assert last.metrics.keys() == {"mse", "mae", "r2", "loss"}
    assert last.metrics["r2"] > 0.5
    assert last.metrics["mse"] == pytest.approx(last.metrics["loss"], rel=1e-4)


def test_the_same_seed_gives_the_same_numbers(toy_run: ToyRun, lively: dict[str, Any]) -> None:
    """Two runs of one configuration agree to the last bit, and another seed differs."""
    assert numbers(toy_run(**lively)) == numbers(toy_run(**lively))
    assert numbers(toy_run(**lively)) != numbers(toy_run(**lively, seed=6))


def test_two_runs_in_one_process_do_not_disturb_each_other(
    toy_run: ToyRun, lively: dict[str, Any]
) -> None:
    """Epochs of two runs, taken in turns, are those of each run alone."""
    alone = numbers(toy_run(**lively))
    one, other = train.fit(toy_run(**lively)), train.fit(toy_run(**lively, seed=9))
    turns = [(a.metrics, a.train_loss) for a, _ in zip(one, other, strict=True)]
    assert turns == alone


def test_frozen_stages_stay_as_they_are(toy_run: ToyRun) -> None:
    """A linear probe changes the head and nothing else, batch-norm statistics included."""
    assert changed(toy_run(strategy="linear-probe")) == {"head.1.weight", "head.1.bias"}


def test_a_trained_stage_learns_its_statistics_too(toy_run: ToyRun) -> None:
    """last-stage: the second stage moves with its statistics, the first does not."""
    assert {name.split(".")[0] for name in changed(toy_run(strategy="last-stage"))} == {
        "two",
        "head",
    }


def test_frozen_bn_keeps_statistics_and_affines(toy_run: ToyRun) -> None:
    """Under `frozen_bn` every layer but the batch-norms changes."""
    moved = changed(toy_run(frozen_bn=True))
    assert moved == {f"{layer}.{part}" for layer in ("one.0", "two.0", "head.1")
                     for part in ("weight", "bias")}  # fmt: skip


def test_batch_norms_of_a_random_body_are_trained(toy_run: ToyRun) -> None:
    """From scratch, `frozen_bn` would keep statistics that were never taken."""
    moved = changed(toy_run(strategy="from-scratch", frozen_bn=True))
    assert moved == changed(toy_run(strategy="from-scratch"))


def test_rmsprop_has_torchs_own_momentum(toy_run: ToyRun) -> None:
    """`momentum` is SGD's."""
    assert toy_run(optimizer="rmsprop").optimizer.param_groups[0]["momentum"] == 0


def test_phases_free_parameters_when_their_epoch_comes(toy_run: ToyRun) -> None:
    """Under LP-FT the body rests for the first epoch and moves in the second."""
    run = toy_run(lp_ft=True, epochs=2)
    epochs, before = train.fit(run), weights(run)
    next(epochs)
    after_one = weights(run)
    next(epochs)
    assert torch.equal(before["one.0.weight"], after_one["one.0.weight"])
    assert not torch.equal(before["head.1.weight"], after_one["head.1.weight"])
    assert not torch.equal(after_one["one.0.weight"], weights(run)["one.0.weight"])


def test_the_state_holds_only_what_is_trained(toy_run: ToyRun) -> None:
    """A linear probe's state has the head, nothing of the body; a last stage's, its statistics."""
    run = toy_run(strategy="linear-probe")
    kept = run.state_dict()["model"]
    assert set(kept) == {"head.1.weight", "head.1.bias"}
    last = set(toy_run(strategy="last-stage").state_dict()["model"])
    assert "two.1.running_mean" in last
    assert not any(name.startswith("one.") for name in last)
    assert run.parameters_trainable == 2 * (8 * 16) + 2
    assert run.parameters_total > run.parameters_trainable


def test_group_rates_and_decay_reach_the_optimizer(toy_run: ToyRun) -> None:
    """Head and body have their own rates, and biases and norms no decay."""
    run = toy_run(head_lr_multiplier=10.0, weight_decay=0.1, lr=0.01)
    found = {(round(g["peak_lr"], 6), g["weight_decay"]) for g in run.optimizer.param_groups}
    assert found == {(0.01, 0.1), (0.01, 0.0), (0.1, 0.1), (0.1, 0.0)}


@pytest.mark.parametrize(
    ("step", "schedule", "warmup", "expected"),
    [
        (0, "constant", 0.0, 1.0),
        (99, "constant", 0.0, 1.0),
        (0, "linear", 0.0, 1.0),
        (75, "linear", 0.0, 0.25),
        (50, "cosine", 0.0, 0.5),  # cos(π/2) = 0
        (0, "cosine", 0.1, 1 / 11),  # ten rising steps, then the peak
        (9, "cosine", 0.1, 10 / 11),
        (10, "cosine", 0.1, 1.0),
        (55, "linear", 0.1, 0.5),  # half of the remaining 90
    ],
)
def test_rate(step: int, schedule: str, warmup: float, expected: float) -> None:
    """The rate's share of its peak at some of 100 steps."""
    assert rate_factor(step, 100, schedule=schedule, warmup=warmup) == pytest.approx(expected)


def test_the_schedule_spans_the_whole_run(toy_run: ToyRun) -> None:
    """After 3 epochs of 4 steps, the rate is that of the last of 12 steps."""
    run = toy_run(schedule="linear", lr=0.12)
    list(train.fit(run))
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.12 * (1 - 11 / 12))


@pytest.mark.parametrize("count", [60, 48, 49, 33])
def test_the_schedule_counts_the_batches_that_come(toy_run: ToyRun, count: int) -> None:
    """Steps per epoch are those of the loader, which leaves out a last single image."""
    run = toy_run()
    run.train = Split(run.train.images[:count], run.train.targets[:count])
    run.inputs.train = run.train
    assert len(list(run.training_batches(run.begin_epoch()))) == run.steps_per_epoch


def test_mixup_blends_images_and_targets_alike() -> None:
    """λ = 0.75 keeps three quarters of an image and of its target."""
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    mixture = mixup(images, 0.75, random.Random(0))
    assert mixture.images[1].unique().item() == pytest.approx(0.75 * 1 + 0.25 * 0)
    mixed = mixture.targets(torch.eye(4))
    assert mixed[1].tolist() == pytest.approx([0.25, 0.75, 0, 0])


def test_cutmix_keeps_the_share_that_it_tells() -> None:
    """Targets are mixed by the area really pasted, also where the box was cut off."""
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    for attempt in range(20):
        mixture = cutmix(images, 0.6, random.Random(attempt))
        assert mixture.images[1].mean().item() == pytest.approx(mixture.share)
    assert images[1].unique().item() == 1  # the batch itself is left alone


def test_mixing_follows_the_knobs() -> None:
    """None when both are off; both kinds are met when both are on."""
    images = torch.rand(4, 3, 8, 8)
    assert mix(images, Knobs(), random.Random(0)) is None
    both = Knobs(mixup=1.0, cutmix=1.0)
    rng = random.Random(0)
    mixtures = [mix(images, both, rng) for _ in range(30)]
    pasted = [torch.isin(mixture.images, images).all().item() for mixture in mixtures if mixture]
    assert 5 < sum(pasted) < 25


def test_a_diverged_run_says_so(toy_run: ToyRun) -> None:
    """A loss that is no number ends the run, with the epoch in the error; it survives pickling."""
    with pytest.raises(Diverged, match="epoch 1") as caught:
        list(train.fit(toy_run(optimizer="sgd", lr=1e30)))
    assert isinstance(caught.value, TrainingError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.epoch, str(again)) == (0, str(caught.value))


def test_a_model_broken_by_its_last_step_diverged_too(toy_run: ToyRun) -> None:
    """Where the train loss is still finite and the validation loss is not, the run ends as well."""
    run = toy_run(batch_size=60, optimizer="sgd", lr=1e30)  # one step per epoch
    with pytest.raises(Diverged, match="validation"):
        list(train.fit(run))


def test_epochs_that_nobody_wants_to_see_are_not_evaluated(toy_run: ToyRun) -> None:
    """Their metrics are empty; the others, and the last, are what they would have been."""
    every, some = toy_run(epochs=4), toy_run(epochs=4)
    some.config = replace(some.config, evaluated=frozenset({2}))
    shown = {epoch.index: epoch.metrics for epoch in train.fit(every)}
    seen = {epoch.index: epoch.metrics for epoch in train.fit(some)}
    assert seen == {0: {}, 1: shown[1], 2: {}, 3: shown[3]}


def test_evaluation_is_the_models_alone(toy_run: ToyRun) -> None:
    """Evaluating twice gives the same, changes no weight, and equals the definition."""
    run = toy_run(dropout=0.5)
    list(train.fit(run))
    before = weights(run)
    metrics = train.evaluate(run, run.val)
    assert metrics == train.evaluate(run, run.val)
    assert same(before, weights(run))
    images = (run.val.images.float() / 255 - 0.5) / 0.25
    outputs = run.module(images)
    expected = (outputs.argmax(1) == run.val.targets).float().mean().item()
    assert metrics["accuracy"] == pytest.approx(expected)
    loss = nn.functional.cross_entropy(outputs, run.val.targets).item()
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("side", "expected"), [(8, [30]), (128, [16, 14]), (256, [8, 8, 8, 6])])
def test_large_images_are_evaluated_in_smaller_batches(
    toy_run: ToyRun, side: int, expected: list[int]
) -> None:
    """On the CPU a batch has 2**18 pixels, 16 images of 128×128; or 8 images, if that is more."""
    run = toy_run()
    large = replace(run.backbone.transform, resize=side, crop=side)
    run.inputs.backbone = replace(run.backbone, transform=large)
    images = torch.zeros(30, 3, side, side, dtype=torch.uint8)
    batches = run.evaluation_batches(Split(images, torch.zeros(30, dtype=torch.long), ()))
    assert [len(targets) for _, targets in batches] == expected


def test_place_names_the_devices_that_there_are() -> None:
    """ "cpu" is placed and described; an absent device is a usage error that lists the known."""
    placement = train.place("cpu")
    assert placement.device == torch.device("cpu")
    assert not placement.autocast
    assert placement.threads == torch.get_num_threads() >= 1
    assert placement.describe()["precision"] == "float32"
    assert train.place(None).device.type in {"cuda", "mps", "cpu"}
    with pytest.raises(UsageError, match="cuda:99") as caught:
        train.place("cuda:99")
    assert "cpu" in str(caught.value)


def test_peak_memory_is_known(toy_run: ToyRun) -> None:
    """A process with torch in it uses between 50 MB and 100 GB."""
    assert 50 < toy_run().peak_memory_mb < 100_000
