"""What a trial stores of its run, as plain data."""

from __future__ import annotations

import os
import socket
from typing import Any

from tunesvc.provenance import provenance
from tunesvc.spec import TrialConfig
from tunesvc.train import Epoch, Placement, Run


def of_run(label: str, training: Run, placement: Placement) -> dict[str, Any]:
    """Return what is run, and on what."""
    return {
        "backbone": label,
        "knobs": training.config.knobs.model_dump(mode="json"),
        "seed": training.config.seed,
        "parameters": training.parameters_total,
        "parameters_trainable": training.parameters_trainable,
        "weights_sha256": training.backbone.weights_sha256,
        "micro_batch": training.micro_batch,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        **placement.describe(),
        **provenance(),
    }


def of_epoch(epoch: Epoch) -> dict[str, Any]:
    """Return one epoch; `epoch` counts the finished ones, from 1."""
    return {
        "epoch": epoch.index + 1,
        "train_loss": epoch.train_loss,
        **epoch.metrics,
        "seconds": {phase: round(seconds, 4) for phase, seconds in epoch.seconds.items()},
    }


def of_levers(training: Run) -> dict[str, Any]:
    """Return what was not computed again.

    `frozen`: the leading stages that stood still from an epoch on, how many fixed views of each
    training image there were, whether the stages' outputs were known, and the seconds to have them.
    """
    return {"model": "warm" if training.is_warm else "built", "frozen": training.inputs.used}


def of_memory(config: TrialConfig, image_size: int, placement: Placement) -> dict[str, str | int]:
    """Return what decides how many images fit into a device's memory at once."""
    described = placement.describe()
    return {
        "device": f"{described['device_name']} {described['precision']}",
        "backbone": config.backbone.model_dump_json(include={"name", "kwargs"}),
        "image_size": image_size,
        "strategy": config.knobs.strategy,
    }
