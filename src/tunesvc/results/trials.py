"""Optuna's trials, and what we store on them → the table that every measure reads.

Why: 2026-11: column by column, from attributes that may be absent: trials wait, run, fail before
their model was built, were told by another version, or by another program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite, nan
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from tunesvc import plugins
from tunesvc import space as spaces
from tunesvc import study as studies
from tunesvc.analysis.table import Dimension, Direction, Trials
from tunesvc.results.dimensions import dimensions
from tunesvc.space import Space
from tunesvc.spec import KNOBS, Knobs, StudySpec, knobs
from tunesvc.study import Study

Attributes = Mapping[str, Any]
Curve = tuple[tuple[int, float], ...]


def trials(study: Study) -> Trials:
    """Return the trials of a study as a table, as they are now.

    `last` and the curves hold finite numbers only. Of a knob that has several parameters, the first
    whose `when` holds is drawn. `seconds` leaves out what a trial waited for a worker.
    """
    spec, space = study.spec, spaces.build(study.spec)
    found = study.store.optuna.get_all_trials(study.id, deepcopy=False)
    found = sorted(found, key=lambda trial: trial.number)
    metric, direction = studies.objective(spec)
    searched = dimensions(space)
    curves = {trial.number: _curve(trial) for trial in found}
    return Trials(
        study=study.name,
        metric=metric,
        direction=direction,
        epochs=spec.budget.epochs,
        space=searched,
        frame=_frame(found, curves, space, searched),
        curves=curves,
        backbones=spec.backbone_labels,
        defaults=dict(zip(spec.backbone_labels, space.defaults(), strict=True)),
        sampler=spec.sampler.kind,
        pruner=spec.pruner.kind,
        against=against(spec),
    )


def against(spec: StudySpec) -> tuple[Mapping[str, Direction], ...]:
    """Return what the first objective is weighed against: further ones, what is limited, or size
    and latency, each by itself."""
    others = {goal.name: goal.direction for goal in studies.objectives(spec)[1:]}
    if others:
        return (others,)
    bounds = {cap.name: cap.sign for cap in spec.constraints.caps}
    if bounds:
        return ({name: "maximize" if ">" in sign else "minimize" for name, sign in bounds.items()},)
    return {"latency_ms": "minimize"}, {"params_m": "minimize"}


def _curve(trial: FrozenTrial) -> Curve:
    known = trial.intermediate_values.items()
    return tuple(sorted((epoch, value) for epoch, value in known if isfinite(value)))


def _frame(
    found: Sequence[FrozenTrial],
    curves: Mapping[int, Curve],
    space: Space,
    searched: Iterable[Dimension],
) -> pd.DataFrame:
    runs = [trial.user_attrs.get("run") or {} for trial in found]
    acting = [_acting(trial, run, space) for trial, run in zip(found, runs, strict=True)]
    columns = {
        **_told(found, curves),
        **_made(found, space),
        **_run(runs, acting),
        **_inference(runs),
        **_times(found),
        **_others(found, space),
        **_metrics(found, plugins.load("task", space.spec.task).metrics),
        **{f"param:{each.name}": _params(found, each) for each in searched},
        **{f"knob:{knob}": _knob(acting, knob) for knob in ("backbone", *KNOBS)},
    }
    frame = pd.DataFrame(columns)
    return frame.set_index(pd.Index([trial.number for trial in found], name="number"))


def _told(found: Sequence[FrozenTrial], curves: Mapping[int, Curve]) -> dict[str, Any]:
    """Return how each trial stands, and what it has reported."""
    own = [curves[trial.number] for trial in found]
    is_complete = [trial.state is TrialState.COMPLETE for trial in found]
    values = [trial.values[0] if trial.values else nan for trial in found]
    return {
        "state": _texts(trial.state.name for trial in found),
        "value": np.where(is_complete, np.array(values, float), nan),
        "last": _floats(curve[-1][1] if curve else None for curve in own),
        "epochs": np.array([_epochs(trial) for trial in found], int),
        "feasible": np.array([studies.is_feasible(trial) for trial in found], bool),
        "reason": _texts(trial.user_attrs.get("reason") for trial in found),
    }


def _epochs(trial: FrozenTrial) -> int:
    """Return the finished epochs; with `evaluate: rungs` not every one has a value."""
    return max(len(trial.user_attrs.get("history") or ()), *trial.intermediate_values, 0)


def _made(found: Sequence[FrozenTrial], space: Space) -> dict[str, Any]:
    """Return why each trial has its parameters, and what was done with it."""
    # Nobody noted it on this one: a trial of another version, or of another program.
    unknown = "random" if space.spec.sampler.kind in ("random", "grid") else "sampler"
    attributes = [trial.user_attrs for trial in found]
    return {
        "default": np.array(["default" in own for own in attributes], bool),
        "drawn": _texts(
            "given" if _is_given(trial) else trial.user_attrs.get("drawn", unknown)
            for trial in found
        ),
        "control": np.array([bool(own.get("control")) for own in attributes], bool),
        "stop_epoch": _floats(own.get("stop_epoch") for own in attributes),
    }


def _is_given(trial: FrozenTrial) -> bool:
    enqueued = trial.system_attrs.get("fixed_params")
    return bool(enqueued) or not trial.user_attrs.keys().isdisjoint(("default", "grid"))


def _run(runs: Sequence[Attributes], acting: Sequence[Attributes]) -> dict[str, Any]:
    """Return what each trial trained, and where."""
    labels = [knobs.get("backbone", "") for knobs in acting]
    strategies = [knobs.get("strategy", "") for knobs in acting]
    hashes = [run.get("weights_sha256") for run in runs]
    return {
        "backbone": _texts(labels),
        "strategy": _texts(strategies),
        "worker": _texts(run.get("worker") for run in runs),
        "parameters": _floats(run.get("parameters") for run in runs),
        "trainable": _floats(run.get("parameters_trainable") for run in runs),
        "gflops": _floats(run.get("gflops") for run in runs),
        "architecture": _texts(
            run.get("architecture", label) for run, label in zip(runs, labels, strict=True)
        ),
        "pretrained": np.array(
            [
                strategy != "from-scratch" if known is None else bool(known)
                for known, strategy in zip(hashes, strategies, strict=True)
            ],
            bool,
        ),
    }


def _inference(runs: Sequence[Attributes]) -> dict[str, Any]:
    """Return what each trial's model costs whoever uses it."""
    one, many = _lowest(runs, "latency"), _lowest(runs, "batch_latency")
    reckoned = ("size_mb", "size_bf16_mb", "size_int8_mb", "infer_memory_mb")
    return {
        **{name: _floats(run.get(name) for run in runs) for name in reckoned},
        "latency_ms": _floats(each.get("ms") for each in one),
        "latency_p95_ms": _floats(each.get("p95_ms") for each in one),
        "latency_on": _texts(map(_measured_on, one)),
        "latency_quiet": np.array([each.get("quiet", True) for each in one], bool),
        "batch_latency_ms": _floats(each.get("ms") for each in many),
        "batch_latency_p95_ms": _floats(each.get("p95_ms") for each in many),
        "batch_quiet": np.array([each.get("quiet", True) for each in many], bool),
        "images_per_second": _floats(e["batch"] * 1e3 / e["ms"] if e else None for e in many),
        "energy_j": _floats(e["joules"] / e["batch"] if "joules" in e else None for e in many),
    }


def _lowest(runs: Sequence[Attributes], name: str) -> list[Attributes]:
    """Return each trial's latency: the lowest that a trial of the same net and device was told.

    What disturbs a measurement only adds, and equal nets are to have equal costs.
    """
    told: list[Attributes] = [run.get(name) or {} for run in runs]
    devices = map(_measured_on, told)
    nets = [(run.get("architecture"), on) for run, on in zip(runs, devices, strict=True)]
    lowest: dict[Any, Attributes] = {}
    for net, own in zip(nets, told, strict=True):
        if own and own["ms"] <= lowest.get(net, own)["ms"]:
            lowest[net] = own
    return [lowest.get(net, {}) for net in nets]


def _measured_on(latency: Attributes) -> str:
    where = [str(latency.get(key)) for key in ("device_name", "precision", "threads")]
    return "{}, {}, threads: {}".format(*where) if latency else ""


def _others(found: Sequence[FrozenTrial], space: Space) -> dict[str, Any]:
    """Return what each trial was told of every objective but the first."""
    told = [t.values if t.state is TrialState.COMPLETE else None for t in found]
    goals = enumerate(studies.objectives(space.spec)[1:], start=1)
    return {
        f"objective:{goal.name}": _floats(None if v is None else v[place] for v in told)
        for place, goal in goals
    }


def _metrics(found: Sequence[FrozenTrial], names: Iterable[str]) -> dict[str, Any]:
    """Return every metric of a task after each trial's last epoch."""
    last = [(trial.user_attrs.get("history") or [{}])[-1] for trial in found]
    return {f"metric:{name}": _floats(each.get(name) for each in last) for name in names}


def _times(found: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Return when each trial was worked on, for how long, and with how much memory."""
    attributes = [trial.user_attrs for trial in found]
    memory = [own.get("memory") or {} for own in attributes]
    return {
        "seconds": _floats(map(_seconds, found)),
        "epoch_seconds": _floats(_epoch_seconds(own.get("history") or ()) for own in attributes),
        "started": _moments(trial.datetime_start for trial in found),
        "ended": _moments(trial.datetime_complete for trial in found),
        "memory_mb": _floats(each.get("mb") for each in memory),
        "memory_kind": _texts(each.get("kind") for each in memory),
    }


def _seconds(trial: FrozenTrial) -> float | None:
    """Return what the phases took together; where nobody measured, from beginning to end."""
    if not trial.state.is_finished():
        return None
    if phases := trial.user_attrs.get("seconds"):
        return float(sum(phases.values()))
    return None if trial.duration is None else trial.duration.total_seconds()


def _epoch_seconds(history: Sequence[Attributes]) -> float | None:
    measured = [sum(epoch["seconds"].values()) for epoch in history if "seconds" in epoch]
    return sum(measured) / len(measured) if measured else None


def _acting(trial: FrozenTrial, run: Attributes, space: Space) -> dict[str, Any]:
    """Return a trial's backbone and the knobs that act in it; {} while they are not known."""
    try:
        if "knobs" in run:
            label = run["backbone"]
            known = {knob: value for knob, value in run["knobs"].items() if knob in KNOBS}
            made = Knobs.model_validate(known)
        else:
            label, made = space.resolve(trial.params)
    except (KeyError, ValueError):  # it has no parameters yet, or another version's
        return {}
    return {"backbone": label, **made.acting()}


def _params(found: Sequence[FrozenTrial], dimension: Dimension) -> Any:
    values = [trial.params.get(dimension.name) for trial in found]
    return _objects(values) if dimension.kind == "categorical" else _floats(values)


def _knob(acting: Sequence[Attributes], knob: str) -> Any:
    values = [own.get(knob) for own in acting]
    is_number = knob != "backbone" and knobs.kind(knob) in (float, int)
    return _floats(values) if is_number else _objects(values)


# ---- columns ------------------------------------------------------------------------------------


def _floats(values: Iterable[float | None]) -> Any:
    return np.array([nan if value is None else value for value in values], float)


def _objects(values: Iterable[Any]) -> Any:
    return pd.Series(list(values), dtype=object)  # else pandas makes NaN of None


def _texts(values: Iterable[str | None]) -> Any:
    return _objects(value or "" for value in values)


def _moments(values: Iterable[datetime | None]) -> Any:
    """Return UTC; Optuna's times are this machine's, without a zone."""
    stamps = [None if each is None else round(each.timestamp() * 1e6) for each in values]
    return np.array([np.datetime64("NaT" if s is None else s, "us") for s in stamps], "M8[us]")
