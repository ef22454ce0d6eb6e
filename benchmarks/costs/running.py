"""Studies run by a real worker on a Postgres of their own; their trials read back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faults.ground import Ground
from optuna.trial import FrozenTrial, TrialState

from tunesvc import study
from tunesvc.spec import StudySpec
from tunesvc.storage import VARIABLE, open_store

LIMIT_SECONDS = 3600.0  # for one study
# A worker whose clock is its own processor time: what else the machine does is not in it.
_BY_PROCESSOR = """
import time
time.perf_counter = time.process_time
from tunesvc.cli import main
main()
"""
METRIC = "accuracy"


@dataclass(frozen=True)
class Ran:
    """A finished trial.

    Args:
        before: seconds until its first epoch began: images, model, outputs of frozen stages.
        epochs: (value, seconds) of each.
        ended: seconds after the study's first trial had begun.
    """

    params: dict[str, Any]
    before: float
    epochs: tuple[tuple[float, float], ...]
    ended: float
    is_complete: bool = True

    @property
    def seconds(self) -> float:
        """What the whole trial took."""
        return self.before + sum(seconds for _, seconds in self.epochs)


def run(ground: Ground, spec: StudySpec, *, by_processor: bool = False) -> list[Ran]:
    """Let one worker run the study from an empty home; return its trials as they ended.

    Args:
        by_processor: seconds of epochs and trials are those of the processor.

    Raises:
        RuntimeError: the worker failed.
    """
    home, url = ground.new_folder("home"), ground.database()
    with open_store(url) as store:
        study.create(store, spec, base=home)
    command = ["-c", _BY_PROCESSOR] if by_processor else ["-m", "tunesvc"]
    command += ["worker", f"--study={spec.name}", "--device=cpu", "--compile=off", "--until-done"]
    environment = os.environ | {VARIABLE: url, "TUNESVC_HOME": str(home), "OMP_NUM_THREADS": "1"}
    log = home / "worker.log"
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, *command],
            env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"the worker ended with {done.returncode}:\n{tail}")
    return _trials(url, spec)


def _trials(url: str, spec: StudySpec) -> list[Ran]:
    with open_store(url) as store:
        opened = study.open_study(store, spec.name)
        found = store.optuna.get_all_trials(opened.id, deepcopy=False)
    ended = [t for t in found if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    begun = min(t.datetime_start for t in ended if t.datetime_start)
    made = [_read(t, (t.datetime_complete - begun).total_seconds()) for t in ended]
    return sorted(made, key=lambda each: each.ended)


def _read(trial: FrozenTrial, ended: float) -> Ran:
    history: Sequence[dict[str, Any]] = trial.user_attrs.get("history") or ()
    epochs = tuple((float(e[METRIC]), round(sum(e["seconds"].values()), 4)) for e in history)
    whole = sum(trial.user_attrs["seconds"].values())
    before = max(0.0, round(whole - sum(seconds for _, seconds in epochs), 4))
    return Ran(trial.params, before, epochs, ended, trial.state is TrialState.COMPLETE)
