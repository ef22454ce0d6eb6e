"""Which checkpoints are kept: those of trials that may go on, and of the best that have ended.

The artifacts of a study:

    {study}-{uid}/owner.json                  which database it is a study of
    {study}-{uid}/trial-00003/{mark}.ckpt     a running trial's newest two, an ended one's newest

Why: 2026-11: several workers tidy at once and need no lock. Which trials have ended only grows,
and a trial that some others beat stays beaten, in one objective or in all: what one of them may
delete, all may, at any time.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunesvc import checkpoint
from tunesvc.analysis.front import front
from tunesvc.errors import StorageError
from tunesvc.shelf import Shelf
from tunesvc.study import Study, artifact_folder, is_feasible

OWNER = "owner.json"

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)  # a failed trial may be put back, and go on
_TRIAL = re.compile(r"trial-(\d+)")


def folder(study: Study, number: int) -> str:
    """Return the folder of one trial."""
    return f"{artifact_folder(study)}/trial-{number:05d}"


def claim_folder(shelf: Shelf, study: Study, installation: str) -> None:
    """Note in the study's folder which database it belongs to.

    Raises:
        StorageError: it belongs to another, which trains a study of the same name and uid.
    """
    known = owner(shelf, f"{artifact_folder(study)}/")
    if known is None:
        facts = {"installation": installation, "study": study.name, "uid": study.uid}
        shelf.write(f"{artifact_folder(study)}/{OWNER}", f"{json.dumps(facts)}\n".encode())
    elif known != installation:
        raise StorageError(
            f"{artifact_folder(study)} in {shelf.location} belongs to another database",
            "a copy of this database trains the study there, and two would mix their checkpoints",
            "choose another place (TUNESVC_ARTIFACTS); if the other database is gone, delete "
            f"{artifact_folder(study)}/{OWNER} there",
        )


def owner(shelf: Shelf, prefix: str) -> str | None:
    """Return the installation that a study's folder belongs to; None where it does not say."""
    try:
        return str(json.loads(shelf.read(prefix + OWNER))["installation"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def kept(shelf: Shelf, study: Study) -> list[int]:
    """Return the numbers of the trials of which a checkpoint lies there, ascending."""
    found = _by_trial(shelf.names(f"{artifact_folder(study)}/"))
    return sorted(number for number, files in found.items() if checkpoint.marked(files))


def best(study: optuna.Study, count: int) -> list[int]:
    """Return the numbers of the best finished trials, best first; of equal ones the earlier."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return _ranked(study, done)[:count]


def forget(shelf: Shelf, study: Study, trials: optuna.Study) -> None:
    """Delete the checkpoints that the study's rule does not keep."""
    names = shelf.names(f"{artifact_folder(study)}/")
    for name in surplus(names, study, trials):
        shelf.remove(name)


def surplus(names: Iterable[str], study: Study, trials: optuna.Study) -> dict[str, str]:
    """Return those of a study's names that its rule does not keep, each with the reason.

    The names are to be listed before, so that the trials are the newer knowledge.
    """
    known = trials.get_trials(deepcopy=False)
    states = {trial.number: trial.state for trial in known}
    kept = _kept(study, trials, known) if study.spec.keep != "all" else set(states)
    found = {}
    for number, files in _by_trial(names).items():
        if states.get(number) not in _ENDED:
            continue
        if number not in kept:
            reason = f"trial {number} has ended and is not kept ({study.spec.keep})"
            found.update(dict.fromkeys(files, reason))
        else:
            reason = f"trial {number} has ended; its newest checkpoint is kept"
            found.update((name, reason) for _, name in checkpoint.marked(files)[:-1])
    return found


def _kept(study: Study, trials: optuna.Study, known: list[FrozenTrial]) -> set[int]:
    """Return the best by the first objective; of several, the trials that none beats in all."""
    return {*_ranked(trials, known)[: _count(study)], *_unbeaten(trials, known)}


def _unbeaten(study: optuna.Study, trials: list[FrozenTrial]) -> list[int]:
    if len(study.directions) == 1:
        return []
    done = [trial for trial in _finished(trials) if is_feasible(trial)]
    points = [[-s * value for s, value in zip(_signs(study), t.values, strict=True)] for t in done]
    return [done[row].number for row in front(points)]


def _ranked(study: optuna.Study, trials: list[FrozenTrial]) -> list[int]:
    """Return the finished trials' numbers, best first; those that break a constraint come last."""
    sign = _signs(study)[0]
    places = ((not is_feasible(t), sign * t.values[0], t.number) for t in _finished(trials))
    return [number for *_, number in sorted(places)]


def _finished(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.values]


def _signs(study: optuna.Study) -> list[int]:
    """Return for each objective what its values are sorted by, best first."""
    return [1 if each is StudyDirection.MINIMIZE else -1 for each in study.directions]


def _count(study: Study) -> int:
    return int(study.spec.keep.removeprefix("best-"))


def _by_trial(names: Iterable[str]) -> dict[int, list[str]]:
    found = defaultdict(list)
    for name in names:
        match = _TRIAL.fullmatch(name.split("/")[1])
        if match:
            found[int(match[1])].append(name)
    return found
