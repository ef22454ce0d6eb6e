"""What a trial costs, by name, from what it stores on itself; and whether it is measured here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesvc.errors import UsageError
from tunesvc.spec import StudySpec
from tunesvc.study.goals import objectives

Attributes = Mapping[str, Any]

VARIABLE = "TUNESVC_LATENCY"


def is_latency_off() -> bool:
    """Whether this machine is told to measure no latency."""
    return os.environ.get(VARIABLE, "").lower() in {"off", "0", "no"}


def check_machine(spec: StudySpec) -> None:
    """Make sure that this machine measures what the study's objectives and constraints want.

    Raises:
        UsageError: it does not.
    """
    named = [("objective", goal.name) for goal in objectives(spec)]
    named += [("constraint", cap.name) for cap in spec.constraints.caps]
    for kind, name in named:
        if name.startswith("latency_") and is_latency_off():
            raise UsageError(
                f"{kind} {name} of study {spec.name!r} is not measured on this machine",
                f"{VARIABLE} is off",
                f"unset {VARIABLE}, or take {name} out of the {kind}s",
            )


def quantity(name: str, attributes: Attributes) -> float | None:
    """Return a cost (`spec.objectives.COST_NAMES`) in the unit of its name; None while unknown.

    Args:
        attributes: those of the user: `run`, `memory`, `history` and `seconds`.
    """
    found = _READERS[name](attributes)
    return None if found is None else float(found)


def _of_run(*keys: str, by: float = 1.0) -> Callable[[Attributes], float | None]:
    def read(attributes: Attributes) -> float | None:
        found: Any = attributes.get("run")
        for key in keys:
            found = (found or {}).get(key)
        return None if found is None else found / by

    return read


def _memory(attributes: Attributes) -> float | None:
    return (attributes.get("memory") or {}).get("mb")


def _epoch_seconds(attributes: Attributes) -> float | None:
    history: Sequence[Attributes] = attributes.get("history") or ()
    measured = [sum(epoch["seconds"].values()) for epoch in history if "seconds" in epoch]
    return sum(measured) / len(measured) if measured else None


def _seconds(attributes: Attributes) -> float | None:
    phases = attributes.get("seconds")
    return sum(phases.values()) if phases else None


_READERS: dict[str, Callable[[Attributes], float | None]] = {
    "params_m": _of_run("parameters", by=1e6),
    "trainable_m": _of_run("parameters_trainable", by=1e6),
    "flops_g": _of_run("gflops"),
    "size_mb": _of_run("size_mb"),
    "latency_ms": _of_run("latency", "ms"),
    "latency_p95_ms": _of_run("latency", "p95_ms"),
    "infer_memory_mb": _of_run("infer_memory_mb"),
    "train_memory_mb": _memory,
    "epoch_seconds": _epoch_seconds,
    "seconds": _seconds,
}
