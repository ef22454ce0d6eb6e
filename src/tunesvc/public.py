"""A stored study, for notebooks and scripts: read without SQL and without Optuna.

Nothing here writes. What is told is what was in the database when it was asked for: ask again.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf, isfinite
from types import TracebackType

import pandas as pd

from tunesvc import plugins, results
from tunesvc import study as studies
from tunesvc.analysis.feasible import COSTS, RATES, feasible
from tunesvc.analysis.table import Trials
from tunesvc.errors import StudyError, UnknownNameError, UsageError, suggest
from tunesvc.spec import KNOBS, Knobs, Scalar, StudySpec
from tunesvc.spec.caps import Cap
from tunesvc.storage import guard, open_store
from tunesvc.study import Direction, Status

_FRONT = ("latency_ms", "params_m")


@dataclass(frozen=True)
class Best:
    """The best finished trial of a study, or the best that fits.

    Args:
        metric: what was optimized; `value` is that of the validation split after the last epoch.
        backbone: its label in the study file.
        params: what was drawn for this trial, under Optuna's names.
        knobs: the whole configuration: every knob that acts, drawn or not.
        validation: every metric on the validation split after the last epoch.
        test: the same of the test split; None while the trial was not scored on it.
        costs: what is known of `params_m`, `trainable_m` (millions), `flops_g` (10⁹ operations of
            one image's forward pass), `size_mb`, `size_bf16_mb`, `size_int8_mb`,
            `infer_memory_mb`, `train_memory_mb` (MiB), `latency_ms`, `latency_p95_ms` (of one
            image), `batch_latency_ms`, `batch_latency_p95_ms`, `images_per_second`, `energy_j` (of
            one image), `epoch_seconds` and `seconds`.
    """

    study: str
    trial: int
    metric: str
    direction: Direction
    value: float
    backbone: str
    strategy: str
    params: Mapping[str, Scalar]
    knobs: Mapping[str, Scalar]
    validation: Mapping[str, float]
    test: Mapping[str, float] | None
    costs: Mapping[str, float]


class Study:
    """A stored study, as `open_study` returns it.

    It holds one connection, and the embedded server if that is where the study lies. Both are let
    go at the end of a `with` block, by `close`, or when nobody refers to it any more.
    """

    def __init__(self, stored: studies.Study, held: ExitStack) -> None:
        self._stored = stored
        self._let_go = weakref.finalize(self, held.close)

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"tunesvc.open_study({self.name!r})"

    def close(self) -> None:
        """Let the database go; it cannot be asked any more."""
        self._let_go()

    @property
    def name(self) -> str:
        """The study's name."""
        return self._stored.name

    @property
    def spec(self) -> StudySpec:
        """The study file, as it was stored."""
        return self._stored.spec

    @property
    def metric(self) -> str:
        """What is optimized, on the validation split."""
        return studies.objective(self.spec)[0]

    @property
    def direction(self) -> Direction:
        """Whether a larger value of the metric is better ("maximize") or a smaller one."""
        return studies.objective(self.spec)[1]

    @guard()
    def status(self) -> Status:
        """Return how far it is: trials by state, what is spent, how long it will take."""
        return studies.status(self._open())

    @guard()
    def trials_frame(self) -> pd.DataFrame:
        """Return its trials, one row each, by their number (the index `trial`).

        What is not known, or does not apply, is NaN, NaT or None.

            state       complete, pruned, fail, running or waiting
            value       the metric that is optimized, of a complete trial
            epochs      finished and reported
            backbone    its label               strategy    how it was fine-tuned
            default     whether it is a backbone's untuned configuration
            feasible    whether it keeps the study's constraints
            KNOB        lr, batch_size, optimizer, … : one column for each knob of study files, the
                        value that acted in this trial, drawn or not
            validation_METRIC       of each of the task's metrics, after the last epoch
            params_m, trainable_m   parameters of the model, and those trained, in millions
            flops_g     operations of one image's forward pass, 10⁹ (a multiply-add counts as two)
            size_mb, size_bf16_mb, size_int8_mb     of the model's file, MiB
            latency_ms, latency_p95_ms  of one image's inference: median, 95th percentile
            batch_latency_ms, batch_latency_p95_ms  the same of a batch (8 images on a CPU, else 32)
            images_per_second   of inference in such batches
            energy_j    of one image's inference in them, where the device counts it
            infer_memory_mb     one image's inference, train_memory_mb  training: peaks, MiB
            epoch_seconds       of one epoch, seconds   of the whole trial: wall time
            started, ended      UTC
            worker      host:pid                reason      why it was pruned or failed
        """
        return _frame(results.trials(self._open()))

    @guard()
    def best(self, where: str | None = None) -> Best:
        """Return the best finished trial.

        Args:
            where: caps that it is to keep within, as `tunesvc best --where` takes them:
                "latency_ms <= 3 and params_m <= 6"; on costs and on metrics.

        Raises:
            StudyError: no trial has come to its end yet.
            UsageError: no finished trial fits; the message tells the nearest cap. Or `where` is
                not of this form.
            UnknownNameError: `where` caps what is not known of a trial.
        """
        stored = self._open()
        if where is not None:
            return _best(stored, results.best_that_fits(stored, where).trial)
        status = studies.status(stored)
        if status.best is None:
            raise StudyError(
                f"{self.name!r} has no finished trial",
                f"{sum(status.trials.values()) - status.trials['remaining']} trials were begun, "
                "and none has come to its end",
                f"let it run first:  tunesvc worker --study {self.name}",
            )
        return _best(stored, status.best.trial)

    @guard()
    def pareto(self, *costs: str) -> pd.DataFrame:
        """Return the rows of `trials_frame` that no other trial beats, the best first.

        A trial beats another that it equals or betters in the metric and in every cost, and betters
        in one. Trials of which a cost is not known are left out.

        Args:
            costs: columns of `trials_frame` that are the better the smaller, with their units in
                their names, or `images_per_second`; none: `latency_ms` and `params_m`.

        Raises:
            UnknownNameError: that is not a cost.
        """
        for name in costs:
            if name not in COSTS:
                raise UnknownNameError(f"{name!r} is not a cost", suggest(name, COSTS))
        table = results.trials(self._open())
        caps = [
            Cap(name, ">=", -inf) if name in RATES else Cap(name, "<=", inf)
            for name in costs or _FRONT
        ]
        front = [fit.trial for fit in feasible(table, caps).front]
        return _frame(table).loc[front]

    def _open(self) -> studies.Study:
        if not self._let_go.alive:
            raise UsageError(
                f"the study {self.name!r} was closed",
                "its `with` block has ended, or .close() was called",
                f"open it again:  tunesvc.open_study({self.name!r})",
            )
        return self._stored


def open_study(name: str, storage: str | None = None) -> Study:
    """Open a stored study, to be read.

        with tunesvc.open_study("photos") as study:
            print(study.best().value)

    Args:
        name: as `tunesvc list` shows it.
        storage: URL of a Postgres database; None: the environment variable TUNESVC_STORAGE, else
            the embedded server of this user, which is started if need be.

    Raises:
        StudyError: there is none of this name.
        StorageError: the database cannot be reached, started, or used.
        UsageError: `storage` holds a password.
    """
    with ExitStack() as held:
        stored = studies.open_study(held.enter_context(open_store(storage)), name)
        return Study(stored, held.pop_all())


def _frame(table: Trials) -> pd.DataFrame:
    own = table.frame
    metrics = [str(name) for name in own.columns if str(name).startswith("metric:")]
    columns = {
        "state": own["state"].str.lower(),
        **{name: own[name] for name in ("value", "epochs", "backbone", "strategy", "default")},
        "feasible": own["feasible"],
        **{knob: own[f"knob:{knob}"] for knob in KNOBS if knob != "strategy"},
        **{f"validation_{name.removeprefix('metric:')}": own[name] for name in metrics},
        **{name: own[column] / by for name, (column, by) in COSTS.items()},
        **{name: own[name].dt.tz_localize("UTC") for name in ("started", "ended")},
        **{name: own[name].replace("", None) for name in ("worker", "reason")},
    }
    return pd.DataFrame(columns).rename_axis("trial")


def _best(stored: studies.Study, number: int) -> Best:
    """Return a finished trial as the best."""
    metric, direction = studies.objective(stored.spec)
    trials = stored.store.optuna.get_all_trials(stored.id, deepcopy=False)
    (trial,) = (each for each in trials if each.number == number)
    run, last = trial.user_attrs["run"], trial.user_attrs["history"][-1]
    metrics = plugins.load("task", stored.spec.task).metrics
    knobs = {key: value for key, value in run["knobs"].items() if key in KNOBS}
    acting = Knobs.model_validate(knobs).acting()
    return Best(
        study=stored.name,
        trial=number,
        metric=metric,
        direction=direction,
        value=float(trial.values[0]),
        backbone=run["backbone"],
        strategy=str(acting["strategy"]),
        params=dict(trial.params),
        knobs=acting,
        validation={name: last[name] for name in metrics if name in last},
        test=studies.test_metrics(stored, number),
        costs=_costs(results.trials(stored).frame, number),
    )


def _costs(frame: pd.DataFrame, number: int) -> dict[str, float]:
    """Return what is known of a trial's costs."""
    told = {name: float(frame[column][number]) / by for name, (column, by) in COSTS.items()}
    return {name: value for name, value in told.items() if isfinite(value)}
