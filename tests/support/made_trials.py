"""A study of fine-tuning as a table of trials, made up: three backbones, four strategies."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from tunesvc.analysis.table import Dimension, Direction, Trials

BACKBONES = ("resnet18", "mobilenet_v2", "tiny_cnn")
STRATEGIES = ("full", "last-stage", "head-only", "from-scratch")
EPOCHS = 6
SPACE = (
    Dimension("backbone", "backbone", "categorical", choices=BACKBONES),
    Dimension("strategy", "strategy", "categorical", choices=STRATEGIES),
    Dimension("lr", "lr", "float", 1e-5, 1e-1, log=True),
    Dimension("optimizer", "optimizer", "categorical", choices=("adamw", "sgd")),
    Dimension("momentum", "momentum", "float", 0.8, 0.99, when={"optimizer": ("sgd",)}),
    Dimension("label_smoothing", "label_smoothing", "float", 0.0, 0.2),
)
DEFAULT = {"strategy": "full", "lr": 1e-3, "optimizer": "adamw", "label_smoothing": 0.0}

_HEIGHT = {"resnet18": 0.95, "mobilenet_v2": 0.96, "tiny_cnn": 0.82}
_GAIN = {"full": 0.0, "last-stage": 0.01, "head-only": -0.04, "from-scratch": -0.15}
_SIZES = {
    "resnet18": (11.7e6, 3.6, 900),
    "mobilenet_v2": (3.5e6, 0.6, 700),
    "tiny_cnn": (1e5, 0.1, 90),
}


def made(
    count: int,
    *,
    seed: int = 0,
    direction: Direction = "maximize",
    backbones: tuple[str, ...] = BACKBONES,
    name: str = "made",
    pruned: float = 0.35,
) -> Trials:
    """Return a study of so many trials; the first are the backbones' defaults."""
    rng = np.random.default_rng(seed)
    height = dict(zip(backbones, _HEIGHT.values(), strict=False))
    size = dict(zip(backbones, _SIZES.values(), strict=False))
    rows, curves, clock = [], {}, [datetime(2026, 11, 1, 9)] * 2
    for number in range(count):
        default = number < len(backbones)
        params = _drawn(rng, backbones, backbones[number] if default else None)
        best = height[params["backbone"]] + _GAIN[params["strategy"]]
        best -= 0.03 * abs(np.log10(params["lr"]) + 2.6) ** 1.5 + rng.normal(0, 0.01)
        best = float(np.clip(best, 0.05, 0.99))
        value = best if direction == "maximize" else 1 - best
        stops = not default and rng.random() < pruned and best < 0.93
        epochs = int(rng.integers(1, EPOCHS)) if stops else EPOCHS
        start = 0.4 if direction == "maximize" else 0.6
        curve = [
            (e, float(value + (start - value) * np.exp(-0.8 * e) + rng.normal(0, 0.004)))
            for e in range(1, epochs)
        ]
        curve.append((epochs, value + (start - value) * np.exp(-0.8 * epochs) if stops else value))
        curves[number] = tuple(curve)
        worker = number % 2
        seconds = epochs * (2 + size[params["backbone"]][0] / 4e6) * rng.uniform(0.9, 1.2)
        began = clock[worker]
        clock[worker] = began + timedelta(seconds=seconds + 1)
        rows.append(
            {
                "state": "PRUNED" if stops else "COMPLETE",
                "value": np.nan if stops else value,
                "last": curve[-1][1],
                "epochs": epochs,
                "default": default,
                "drawn": "given" if default else "random",
                "control": False,
                "stop_epoch": np.nan,
                "seconds": seconds,
                "epoch_seconds": seconds / epochs,
                "started": began,
                "ended": began + timedelta(seconds=seconds),
                "worker": f"host:{100 + worker}",
                "reason": f"after epoch {epochs} (pruner: asha)" if stops else "",
                "parameters": size[params["backbone"]][0],
                "trainable": size[params["backbone"]][0],
                "gflops": size[params["backbone"]][1],
                "memory_mb": size[params["backbone"]][2] * rng.uniform(0.9, 1.1),
                "params": params,
            }
        )
    return _trials(rows, curves, direction, backbones, name)


def _drawn(rng: np.random.Generator, backbones: tuple[str, ...], default: str | None) -> dict:
    if default is not None:
        return {"backbone": default} | DEFAULT
    params = {
        "backbone": backbones[rng.integers(len(backbones))],
        "strategy": STRATEGIES[rng.integers(len(STRATEGIES))],
        "lr": float(10 ** rng.uniform(-5, -1)),
        "optimizer": ("adamw", "sgd")[rng.integers(2)],
        "label_smoothing": float(rng.uniform(0, 0.2)),
    }
    return params | (
        {"momentum": float(rng.uniform(0.8, 0.99))} if params["optimizer"] == "sgd" else {}
    )


def _trials(
    rows: list[dict], curves: dict, direction: Direction, backbones: tuple[str, ...], name: str
) -> Trials:
    columns = ["state", "value", "last", "epochs", "default", "drawn", "control", "stop_epoch"]
    columns += ["seconds", "epoch_seconds", "started", "ended", "worker", "reason"]
    columns += ["parameters", "trainable", "gflops", "memory_mb", "params"]
    frame = pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(len(rows), name="number"))
    params = frame.pop("params")
    for dimension in SPACE:
        drawn = [each.get(dimension.name) for each in params]
        kind = object if dimension.kind == "categorical" else float
        frame[f"param:{dimension.name}"] = pd.Series(drawn, index=frame.index, dtype=kind)
        frame[f"knob:{dimension.knob}"] = frame[f"param:{dimension.name}"]
    frame["knob:weight_decay"] = 1e-4
    frame["backbone"] = frame["param:backbone"]
    frame["strategy"] = frame["param:strategy"]
    times = {"started": "datetime64[us]", "ended": "datetime64[us]"}
    numbers = dict.fromkeys(["value", "last", "stop_epoch", "seconds", "epoch_seconds"], float)
    space = (Dimension("backbone", "backbone", "categorical", choices=backbones), *SPACE[1:])
    return Trials(
        study=name,
        metric="accuracy" if direction == "maximize" else "loss",
        direction=direction,
        epochs=EPOCHS,
        space=space,
        frame=frame.astype(times | numbers),
        curves=curves,
        backbones=backbones,
        defaults={label: {"backbone": label} | DEFAULT for label in backbones},
        sampler="random",
        pruner="asha",
    )
