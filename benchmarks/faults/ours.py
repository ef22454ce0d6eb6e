"""The toy study under tunesvc: a worker is what `tunesvc worker` is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy import NullPool, create_engine, text

from faults import journal, toy
from tunesvc import study
from tunesvc.spec import StudySpec, derive_seed
from tunesvc.storage import VARIABLE, open_store

STUDY = "toy"


@dataclass(frozen=True)
class Ours:
    """One study in a database of its own, with a home of its own."""

    url: str
    folder: Path
    spec: StudySpec

    @property
    def log(self) -> Path:
        """What its workers print."""
        return self.folder / "workers.log"

    @property
    def steps(self) -> Path:
        """Its journal."""
        return self.folder / "steps"

    @property
    def artifacts(self) -> Path:
        """Its checkpoints."""
        return self.folder / "artifacts"

    @property
    def budget(self) -> int:
        """Trials to be run."""
        return self.spec.budget.trials

    @property
    def epochs(self) -> int:
        """Epochs of each."""
        return self.spec.budget.epochs

    def work(self) -> None:
        """Serve the study until it is done."""
        from tunesvc.cli import main

        os.environ |= {VARIABLE: self.url, "TUNESVC_HOME": str(self.folder)}
        os.environ.pop("TUNESVC_ARTIFACTS", None)
        journal.keep(self.steps)
        main(["worker", "--study", self.spec.name, "--device", "cpu", "--until-done"])

    def is_at_work(self, pid: int) -> bool:
        """Whether the worker has registered, which comes after its signal handlers."""
        return (self.folder / "run" / f"{pid}.json").exists()

    def is_done(self) -> bool:
        """Whether as many trials have ended as there may be."""
        ended = "SELECT count(*) FROM trials WHERE state NOT IN ('RUNNING', 'WAITING')"
        return int(self.ask(ended)[0][0]) >= self.budget

    def ask(self, query: str) -> list[Any]:
        """Return the rows of a query, over a connection of its own."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            return list(connection.execute(text(query)).all())

    def trials(self) -> list[FrozenTrial]:
        """Return every trial as Optuna reads it."""
        with open_store(self.url) as store:
            return optuna.load_study(study_name=self.spec.name, storage=store.optuna).trials

    def seed(self, trial: FrozenTrial) -> int:
        """Return the seed by which the journal knows a trial."""
        return derive_seed(self.spec.digest, "trial", trial.number)


def new(url: str, folder: Path, trials: int, epochs: int = toy.EPOCHS, **changed: Any) -> Ours:
    """Store the study; nobody works at it yet."""
    made = toy.spec(STUDY, trials, epochs, **changed)
    with open_store(url) as store:
        study.create(store, made, base=folder)
    return Ours(url, folder, made)
