"""Training in float16: losses are scaled, steps whose gradients overflow are left out.

A CPU imitates it here; a CUDA device does the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tunesvc import train
from tunesvc.train import Placement, Run

ToyRun = Callable[..., Run]
CPU = Placement(torch.device("cpu"), autocast=False, channels_last=True, threads=1)
HALF = replace(CPU, autocast=True, half="float16")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("micro_batch", [16, 5])
def test_it_learns_what_float32_learns(toy_run: ToyRun, optimizer: str, micro_batch: int) -> None:
    """Whatever the scale is, it is taken out again, also where a batch comes in pieces."""
    losses = []
    for where in (CPU, HALF):
        run = toy_run(where=where, optimizer=optimizer, group_norm=True, lr=1e-3)
        run.micro_batch = micro_batch
        losses.append([epoch.train_loss for epoch in train.fit(run)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert HALF.describe()["precision"] == "float16"


def test_a_step_that_overflows_is_left_out(toy_run: ToyRun) -> None:
    """The parameters stay, and the scale halves until gradients are finite again."""
    run = toy_run(where=HALF, epochs=1)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = {name: value.clone() for name, value in run.module.named_parameters()}
    list(train.fit(run))
    assert run.scaler.get_scale() == 2.0**36  # after each of the four steps
    assert all(torch.equal(value, before[n]) for n, value in run.module.named_parameters())


def test_resumed_with_the_scale_as_it_was(toy_run: ToyRun, tmp_path: Path) -> None:
    """A run whose scale has come down goes on from there; in float32 none is kept."""
    run = toy_run(where=HALF)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    next(train.fit(run))
    torch.save(run.state_dict(), tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    again = toy_run(where=HALF)
    again.load_state_dict(state)
    assert again.scaler.get_scale() == run.scaler.get_scale() == 2.0**36
    toy_run(where=CPU).load_state_dict(state)
    assert toy_run(where=CPU).state_dict()["scaler"] == {}
    earlier = {key: value for key, value in state.items() if key != "scaler"}
    toy_run(where=HALF).load_state_dict(earlier)
