"""A stored study with trials that nobody trained: for what looks at many of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from tunesvc import space, study
from tunesvc.spec import StudySpec
from tunesvc.storage import Store
from tunesvc.study import Goal, Study

SPEC = {
    "data": {"kind": "digits", "subset": 100},
    "backbones": [
        {"name": "tiny_resnet", "weights": "none"},
        {"name": "two_conv_cnn", "weights": "none"},
    ],
    "search_space": {
        "strategy": ["from-scratch", "full"],
        "lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "optimizer": ["sgd", "adamw"],
        "batch_size": [16, 32],
    },
    "budget": {"trials": 500, "epochs": 3},
    "sampler": "random",
}


COSTS = {
    "tiny_resnet": {"parameters": 570_000, "gflops": 0.06, "size_mb": 2.2},
    "two_conv_cnn": {"parameters": 100_000, "gflops": 0.01, "size_mb": 0.4},
}
LATENCY = {"tiny_resnet": 4.0, "two_conv_cnn": 0.5}  # ms


def stored_study(
    store: Store, base: Path, name: str = "made", trials: int = 60, **changed: object
) -> Study:
    """Return a stored study of so many finished trials, the defaults first."""
    spec = StudySpec.model_validate({"name": name, **SPEC, **changed})
    made = study.create(store, spec, base=base)
    add_trials(made, trials, latency_on="Xeon" if len(spec.objectives) > 1 else "")
    return made


def add_trials(made: Study, count: int, latency_on: str = "", slower: float = 1.0) -> None:
    """Add finished trials, drawn at random; learning rate and backbone decide how good they are.

    Args:
        latency_on: device that the costs of inference were measured on; "": they were not.
        slower: than latency is; above 1, other work disturbed it.
    """
    stored, searched = made.optuna(), space.build(made.spec)
    first = len(stored.get_trials(deepcopy=False))
    rng = np.random.default_rng(first)
    defaults = [] if first else list(searched.defaults())
    stored.add_trials(
        [
            _trial(rng, searched, default, (latency_on, slower), study.objectives(made.spec)[1:])
            for default in [*defaults, *[None] * count][:count]
        ]
    )


def _trial(
    rng: np.random.Generator,
    searched: space.Space,
    default: dict[str, object] | None,
    measured: tuple[str, float],
    others: Sequence[Goal],
) -> optuna.trial.FrozenTrial:
    drawn = default or {each.name: _draw(rng, each.distribution) for each in searched.parameters}
    lr = float(drawn["lr"])  # type: ignore[arg-type]
    height = 0.9 if drawn["backbone"] == "tiny_resnet" else 0.7
    value = float(height - 0.1 * abs(np.log10(lr) + 2.5) + rng.normal(0, 0.01))
    _, knobs = searched.resolve(drawn)
    history = [{"epoch": e, "accuracy": value * e / 3} for e in (1, 2, 3)]
    label = str(drawn["backbone"])
    run = {"backbone": label, "knobs": knobs.model_dump(mode="json"), "parameters": 10_000}
    run |= _priced(label, *measured) if measured[0] else {}
    return optuna.create_trial(
        state=TrialState.COMPLETE,
        values=[value, *(study.quantity(goal.name, {"run": run}) for goal in others)],
        params=drawn,
        distributions={each.name: each.distribution for each in searched.parameters},
        intermediate_values={each["epoch"]: each["accuracy"] for each in history},
        user_attrs={
            "run": run,
            "history": history,
            "seconds": {"train": float(rng.uniform(1, 3))},
        }
        | ({"default": label} if default else {"drawn": "random"}),
    )


def _priced(label: str, device: str, slower: float) -> dict[str, object]:
    ms = LATENCY[label] * slower
    where = {"device_name": device, "precision": "float32", "threads": 1}
    told = {"ms": ms, "p95_ms": 2 * ms, "runs": 100, "quiet": slower == 1.0, **where}
    batch = told | {"batch": 8, "ms": 4 * ms, "p95_ms": 8 * ms, "joules": 2 * ms}
    return {**COSTS[label], "architecture": label, "latency": told, "batch_latency": batch}


def _draw(rng: np.random.Generator, distribution: optuna.distributions.BaseDistribution) -> object:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    assert isinstance(distribution, optuna.distributions.FloatDistribution)
    return float(np.exp(rng.uniform(np.log(distribution.low), np.log(distribution.high))))
