"""The work: digits, a two-convolution network, a learning rate to choose.

It is the real path at its smallest: on an idle core an epoch takes about 50 ms.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tunesvc.backbones import build, input_transform
from tunesvc.data import Split, decode, scan
from tunesvc.plugins import load
from tunesvc.spec import Knobs, StudySpec, TrialConfig
from tunesvc.strategies import plan
from tunesvc.train import Run, place, seed

EPOCHS = 10
LEASES = {"seconds": 2, "stall_seconds": 10, "max_attempts": 50}  # kills are no trial's fault


def spec(name: str, trials: int, epochs: int = EPOCHS, **changed: Any) -> StudySpec:
    """Return the study: its values depend on a trial's number alone, not on who runs it or when."""
    return StudySpec.model_validate(
        {
            "name": name,
            "data": {"kind": "digits", "subset": 60, "split": {"val": 0.1, "test": 0.2}},
            "backbones": [{"name": "two_conv_cnn", "weights": "none"}],
            "search_space": {
                "lr": {"low": 1e-4, "high": 1e-2, "log": True},
                "dropout": 0.1,
                "batch_size": 8,
            },
            "budget": {"trials": trials, "epochs": epochs},
            "sampler": "random",
            "pruner": "none",
            **({"leases": LEASES} if "leases" in StudySpec.model_fields else {}),
        }
        | changed
    )


def training(lr: float, epochs: int, chance: int, cache: Path) -> Run:
    """Return one run of the same work without a study, for `study.optimize`."""
    made = spec("plain", 1, epochs)
    backbone, base = made.backbones[0], Path()
    seed(chance)
    knobs = Knobs(lr=lr, dropout=0.1, batch_size=8)
    body = build(backbone, 10, base=base, dropout=knobs.dropout)
    stages = [(stage.name, stage.parameters) for stage in body.stages]
    chosen = plan(stages, body.head.parameters, body.norm_parameters, knobs, epochs)
    first, second = _splits(cache)
    config = TrialConfig(backbone, knobs, epochs, chance)
    task = load("task", made.task)
    return Run(body, task, first, second, config, place("cpu"), chosen)


@lru_cache
def _splits(cache: Path) -> tuple[Split, Split]:
    made = spec("plain", 1)
    listing = scan(made.data, target="class", base=Path())
    size = input_transform(made.backbones[0], base=Path()).resize
    first, second = (
        decode(listing, split, size, on_corrupt="fail", cache=cache) for split in ("train", "val")
    )
    return first, second
