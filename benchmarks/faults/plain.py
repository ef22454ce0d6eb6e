"""The same work under plain Optuna, with the best that its documentation has to offer.

A heartbeat each second and a grace period of three; stale trials are retried with the values so far
(`RetryHeartbeatStaleTrialCallback`, until 4.9 `RetryFailedTrialCallback`); a checkpoint after every
epoch, from which a retried trial goes on, as in Optuna's example `pytorch_checkpoint.py`; the
connection is tested before use; `MaxTrialsCallback` ends the study, and no worker begins when it
has ended.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import NullPool, create_engine, text

from faults import journal, toy
from tunesvc.spec import derive_seed
from tunesvc.train import fit

STUDY = "toy"

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats are


@dataclass(frozen=True)
class Plain:
    """One study in a database of its own."""

    url: str
    folder: Path
    budget: int
    epochs: int

    @property
    def log(self) -> Path:
        """What its workers print."""
        return self.folder / "workers.log"

    @property
    def steps(self) -> Path:
        """Its journal."""
        return self.folder / "steps"

    def work(self) -> None:
        """Optimize until the study has its trials."""
        journal.keep(self.steps)
        found = optuna.load_study(
            study_name=STUDY, storage=self.storage(), sampler=optuna.samplers.RandomSampler()
        )
        enough = MaxTrialsCallback(self.budget, states=(TrialState.COMPLETE,))
        if not self.is_done():
            found.optimize(self.objective, callbacks=[enough])

    def objective(self, trial: optuna.Trial) -> float:
        """Train, report and save after each epoch; go on from the checkpoint of a dead trial."""
        lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        # Given the Trial itself, as in the example, Optuna 5.0 raises AttributeError.
        number = first_number(trial.storage.get_trial(trial._trial_id))
        path = self.folder / "checkpoints" / f"{number}.pt"
        run = toy.training(lr, self.epochs, derive_seed("plain", number), self.folder / "cache")
        accuracy = 0.0
        if path.exists():
            state = torch.load(path, weights_only=True)
            run.load_state_dict(state["run"])
            accuracy = state["accuracy"]
        for epoch in fit(run):
            accuracy = epoch.metrics["accuracy"]
            trial.report(accuracy, epoch.index + 1)
            draft = path.with_suffix(f".{trial.number}")
            torch.save({"run": run.state_dict(), "accuracy": accuracy}, draft)
            draft.replace(path)
        return accuracy

    def storage(self) -> RDBStorage:
        """Open the database as a worker does."""
        return RDBStorage(
            self.url,
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=1,
            grace_period=3,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(
                inherit_intermediate_values=True
            ),
        )

    def is_at_work(self, pid: int) -> bool:
        """Whether the worker has trained, or trains: it has no signal handlers to wait for."""
        return any(step.pid == pid for step in journal.read(self.steps))

    def is_done(self) -> bool:
        """Whether as many trials are complete as there may be."""
        complete = "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            return int(connection.execute(text(complete)).scalar_one()) >= self.budget

    def trials(self) -> list[FrozenTrial]:
        """Return every trial."""
        return optuna.load_study(
            study_name=STUDY, storage=RDBStorage(self.url, {"poolclass": NullPool})
        ).trials

    def seed(self, trial: FrozenTrial) -> int:
        """Return the seed by which the journal knows a trial and its retries."""
        return derive_seed("plain", first_number(trial))


def first_number(trial: FrozenTrial) -> int:
    """Return the number of the trial that this one retries, or its own."""
    first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def new(url: str, folder: Path, budget: int, epochs: int = toy.EPOCHS) -> Plain:
    """Create the tables and the study in one process; nobody works at it yet."""
    optuna.create_study(
        storage=RDBStorage(url, {"poolclass": NullPool}), study_name=STUDY, direction="maximize"
    )
    (folder / "checkpoints").mkdir(exist_ok=True)
    return Plain(url, folder, budget, epochs)
