"""What every measure reads: the trials of one study as a table, and the space they were drawn from.

Made of plain data: whoever has trials of another tool can fill it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

Direction = Literal["maximize", "minimize"]
Kind = Literal["float", "int", "categorical"]
Scalar = bool | int | float | str

LEVEL = 0.9  # of every interval


@dataclass(frozen=True)
class Dimension:
    """One searched parameter, as Optuna has it: a knob, in one branch of the space.

    Args:
        name: of the parameter (`lr`, or `lr@full` where branches have ranges of their own).
        knob: whose values it holds; `backbone` is one too.
        low, high: both ends belong to it; None for a categorical one.
        choices: of a categorical one, in the order of the study file.
        when: it is drawn only where each of these knobs has one of these values.
    """

    name: str
    knob: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Trials:
    """The trials of one study.

    Args:
        frame: one row a trial, by its number (the index), in ascending order:

            state       COMPLETE, PRUNED, FAIL, RUNNING or WAITING
            value       objective of a COMPLETE trial, in its own unit; else NaN
            last        objective after the last epoch that was reported; NaN before the first
            epochs      finished and reported epochs
            feasible    whether it breaks no constraint of the study; where the column is missing,
                        none does
            backbone    label                           strategy    name
            default     whether it is a backbone's untuned configuration
            drawn       "random", "sampler", or "given" (defaults, grids, what was enqueued)
            control     whether it ran without the pruner, to audit it
            stop_epoch  of a control trial: the epoch at which the pruner would have stopped it; NaN
            seconds     wall time of the whole trial, s; NaN while unknown
            epoch_seconds   wall time of one of its epochs, s; NaN while unknown
            started, ended   UTC, without a zone; NaT while it has not
            worker      "host:pid", or ""
            reason      why it was pruned or failed, or ""
            parameters, trainable   counts; NaN while unknown
            architecture    of the model; the backbone's label while unknown
            pretrained  whether it began from pretrained weights
            gflops      of one image's forward pass (a multiply-add counts as two), 1e9; NaN
            size_mb, size_bf16_mb, size_int8_mb     length of the model's file in float32 and in
                        fewer bits, MiB; NaN while unknown, or where it has no such form
            infer_memory_mb     peak of one image's inference, reckoned, MiB; NaN while unknown
            latency_ms, latency_p95_ms  of one image's inference: median and 95th percentile; NaN
            latency_on  device, precision and threads that they were measured with, or ""
            latency_quiet   whether nobody else had the cores meanwhile
            batch_latency_ms, batch_latency_p95_ms, batch_quiet     the same of a batch
            images_per_second   of inference in batches; NaN while unknown
            energy_j    of one image's inference in batches, J; NaN where nobody counts it
            memory_mb   peak of training, MiB; NaN while unknown
            memory_kind     whether that was "measured" or "estimated"; "" while unknown
            objective:NAME  of a study of several objectives: what the trial was told of each
                        but the first; NaN unless it is COMPLETE
            metric:NAME     every metric of the task after the last epoch; NaN while unknown
            param:NAME  one for each of `space`: its value; NaN or None where it was not drawn
            knob:KNOB   every knob of the configuration that acts, tuned or not; knob:backbone is
                        one too; NaN or None

        curves: trial → (epoch from 1 on, objective), in order.
        space: parents before those that depend on them.
        defaults: backbone label → its untuned configuration, by parameter name.
        epochs: of a whole trial.
        against: what the objective is weighed against, one Pareto set for each: quantities
            (objectives, costs or metrics, by name), and which way each is better.
    """

    study: str
    metric: str
    direction: Direction
    epochs: int
    space: tuple[Dimension, ...]
    frame: pd.DataFrame
    curves: Mapping[int, tuple[tuple[int, float], ...]]
    backbones: tuple[str, ...]
    defaults: Mapping[str, Mapping[str, Scalar]]
    sampler: str
    pruner: str
    against: tuple[Mapping[str, Direction], ...] = (
        {"latency_ms": "minimize"},
        {"params_m": "minimize"},
    )

    @property
    def feasible(self) -> pd.DataFrame:
        """The rows of trials that break no constraint: what others brought is no observation."""
        if "feasible" not in self.frame:
            return self.frame
        found: pd.DataFrame = self.frame[self.frame["feasible"].astype(bool)]
        return found

    @property
    def finished(self) -> pd.DataFrame:
        """The feasible rows of trials that ran to their end and have a value, a finite one."""
        return _complete(self.feasible)

    @property
    def complete(self) -> pd.DataFrame:
        """The same, those among them that break a constraint, too."""
        return _complete(self.frame)

    @property
    def sign(self) -> float:
        """1 where larger is better, else -1: `sign * value` is a score to be maximized."""
        return 1.0 if self.direction == "maximize" else -1.0


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    is_finite = np.isfinite(frame["value"].to_numpy(dtype=float))
    found: pd.DataFrame = frame[(frame["state"] == "COMPLETE") & is_finite]
    return found


@dataclass(frozen=True)
class Unsupported:
    """A measure that the data cannot support, in place of its result. It is false."""

    why: str  # "needs 40 finished trials, has 17"

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Estimate:
    """A number and how sure we are of it.

    Args:
        low, high: ends of its interval (`LEVEL`); equal to `value` only if it is known exactly.
        trials: number of trials behind it.
        unit: of all three: "share", "accuracy", "s", "points", …
    """

    value: float
    low: float
    high: float
    trials: int
    unit: str
