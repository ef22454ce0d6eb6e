"""Micro-batches, and memory that does not suffice, on a toy; the allocator's errors are real."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesvc import train
from tunesvc.train import OutOfMemory, Run
from tunesvc.train.fit import pieces

ToyRun = Callable[..., Run]


def need_memory(run: Run, most: int, *, training: bool = True) -> list[int]:
    """Make the model ask for an exabyte when it is given more than `most` images.

    Returns:
        The sizes of all batches that it is given, in training or else in evaluation.
    """
    sizes: list[int] = []

    def ask(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training == training:
            sizes.append(len(inputs[0]))
            if len(inputs[0]) > most:
                torch.empty(2**60)

    run.module.register_forward_pre_hook(ask)
    return sizes


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [
        (16, 16, [16]),
        (12, 16, [12]),
        (16, 8, [8, 8]),
        (12, 8, [6, 6]),
        (10, 4, [3, 3, 4]),  # not 4, 4, 2
        (5, 4, [2, 3]),  # not 4, 1
        (5, 2, [1, 2, 2]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_pieces(count: int, most: int, sizes: list[int]) -> None:
    """As few as can be, as equal as can be, all images once and in order."""
    divided = [list(range(count))[piece] for piece in pieces(count, most)]
    assert sorted(len(piece) for piece in divided) == sizes
    assert [image for piece in divided for image in piece] == list(range(count))


@pytest.mark.parametrize("micro_batch", [1, 5, 8, 15])
@pytest.mark.parametrize("task", ["image-classification", "image-regression"])
@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1}])
def test_pieces_teach_what_the_batch_does(
    toy_run: ToyRun, micro_batch: int, task: str, mixing: dict[str, Any]
) -> None:
    """Without batch-norm, weights and metrics are those of whole batches, mixed as a whole."""
    knobs = {"task": task, "optimizer": "sgd", "lr": 0.02, "momentum": 0.9, **mixing}
    whole, divided = (toy_run(group_norm=True, epochs=2, **knobs) for _ in range(2))
    divided.micro_batch = micro_batch
    for one, other in zip(train.fit(whole), train.fit(divided), strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, abs=1e-5)
        assert other.metrics == pytest.approx(one.metrics, abs=1e-5)
    state = divided.module.state_dict()
    for name, value in whole.module.state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-5, rtol=0)


def test_no_piece_is_larger_than_the_micro_batch(toy_run: ToyRun) -> None:
    """Neither in training nor in evaluation; batch-norm counts the pieces."""
    run = toy_run(epochs=1)
    run.micro_batch = 6
    learned, measured = need_memory(run, 6), need_memory(run, 6, training=False)
    list(train.fit(run))
    assert sorted(learned) == [5] * 6 + [6] * 5  # 16, 16, 16 and 12 images
    assert measured == [6] * 5
    assert run.module.get_buffer("one.1.num_batches_tracked") == 11


@pytest.mark.parametrize("micro_batch", [16, 1000])
def test_a_micro_batch_that_holds_the_batch_changes_nothing(
    toy_run: ToyRun, lively: dict[str, Any], micro_batch: int
) -> None:
    """The numbers are those of whole batches, to the last bit."""
    run = toy_run(**lively)
    run.micro_batch = micro_batch
    found = [(epoch.metrics, epoch.train_loss) for epoch in train.fit(run)]
    assert found == [(epoch.metrics, epoch.train_loss) for epoch in train.fit(toy_run(**lively))]


@pytest.mark.parametrize(("batch_size", "micro_batch", "told"), [(16, 16, 16), (100, 100, 60)])
def test_out_of_memory_in_training(
    toy_run: ToyRun, batch_size: int, micro_batch: int, told: int
) -> None:
    """The error tells how many images did not fit, and when; it survives pickling."""
    run = toy_run(batch_size=batch_size)
    run.micro_batch = micro_batch
    need_memory(run, 7)
    with pytest.raises(OutOfMemory, match=f"a batch of {told}, at 8 pixels") as caught:
        list(train.fit(run))
    assert isinstance(caught.value.__cause__, RuntimeError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.micro_batch, again.epoch, str(again)) == (told, 0, str(caught.value))


def test_torchs_own_class_is_known(toy_run: ToyRun) -> None:
    """CUDA's allocator raises it."""
    run = toy_run()

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 20.00 MiB")

    run.module.register_forward_pre_hook(full)
    with pytest.raises(OutOfMemory):
        list(train.fit(run))


def test_other_errors_pass(toy_run: ToyRun) -> None:
    """A bug is not mended by smaller batches."""
    run = toy_run()
    run.module.register_forward_pre_hook(lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size") as caught:
        list(train.fit(run))
    assert not isinstance(caught.value, OutOfMemory)


def test_memory_is_given_back(toy_run: ToyRun) -> None:
    """While the error is looked at, no activation and no gradient of the failed step is left."""
    run = toy_run()
    run.micro_batch = 8
    kept: list[weakref.ref[Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.extend(weakref.ref(tensor) for tensor in (*inputs, output))
        if len(kept) == 2 * 4:  # in the first batch's second piece, after its activations
            torch.empty(2**60)

    for part in ("one", "two"):
        run.module.get_submodule(part).register_forward_hook(note)
    with pytest.raises(OutOfMemory) as caught:
        list(train.fit(run))
    assert caught.value.micro_batch == 8
    assert [reference() for reference in kept] == [None] * 8
    assert all(parameter.grad is None for parameter in run.module.parameters())


def test_halving_ends_where_it_fits(toy_run: ToyRun, lively: dict[str, Any]) -> None:
    """A run built anew with the halved micro-batch is the run that had it from the beginning."""
    micro_batch, tried = 16, []
    while True:
        tried.append(micro_batch)
        run = toy_run(**lively)
        run.micro_batch = micro_batch
        need_memory(run, 5)
        try:
            found = [(epoch.metrics, epoch.train_loss) for epoch in train.fit(run)]
            break
        except OutOfMemory as error:
            micro_batch = error.micro_batch // 2
    assert tried == [16, 8, 4]
    known = toy_run(**lively)
    known.micro_batch = 4
    assert found == [(epoch.metrics, epoch.train_loss) for epoch in train.fit(known)]


def test_evaluation_falls_back_to_trainings_size(toy_run: ToyRun) -> None:
    """Where 30 images do not fit, 16 are evaluated, now and later, with the same metrics."""
    run, ample = toy_run(epochs=2), toy_run(epochs=2)
    sizes = need_memory(run, 16, training=False)
    for one, other in zip(train.fit(ample), train.fit(run), strict=True):
        assert other.metrics == pytest.approx(one.metrics, abs=1e-6)
    assert sizes == [30, 16, 14, 16, 14]


def test_out_of_memory_in_evaluation(toy_run: ToyRun) -> None:
    """Where training's size does not fit either, the error tells it."""
    run = toy_run()
    sizes = need_memory(run, 9, training=False)
    with pytest.raises(OutOfMemory) as caught:
        list(train.fit(run))
    assert (caught.value.micro_batch, caught.value.epoch) == (16, 0)
    assert sizes == [30, 16]
