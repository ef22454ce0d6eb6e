"""The study that holds a study's confirming runs: found, made, added to."""

from __future__ import annotations

from collections.abc import Sequence

from tunesvc import study as studies
from tunesvc.confirm.candidates import Chosen
from tunesvc.errors import StudyError
from tunesvc.spec import GivenRun, GivenSampler, StudySpec
from tunesvc.study import Study

SUFFIX = ".confirm"
_LONGEST = 200  # characters of a study's name


def companion(study: Study) -> Study | None:
    """Return the study that confirms this one; None where there is none yet."""
    found = _named(study)
    return found if found is not None and _is_of(found, study) else None


def check(study: Study) -> None:
    """Make sure that a study can have a companion.

    Raises:
        StudyError: it confirms another itself, its name is too long, or the companion's name
            belongs to another study.
    """
    sampler = listed(study)
    if sampler and sampler.of:
        raise StudyError(
            f"{study.name!r} confirms another study itself",
            "its trials are the best of that one, run again",
            f"tunesvc confirm {study.name.removesuffix(SUFFIX)}; --seeds gives it more of them",
        )
    name = study.name + SUFFIX
    if len(name) > _LONGEST:
        raise StudyError(
            f"the name of {study.name!r} is too long to be confirmed",
            f"{name!r} would have {len(name)} characters, and {_LONGEST} is the most",
            "store the study file under a shorter name (--name)",
        )
    found = _named(study)
    if found is not None and not _is_of(found, study):
        raise StudyError(
            f"the name {name!r} is taken",
            f"it belongs to a study that does not confirm this {study.name!r}",
            f"tunesvc delete {name}, if nobody needs it; or store that study under another name",
        )


def listed(study: Study | None) -> GivenSampler | None:
    """Return what a study is given to run; None where it searches by itself."""
    sampler = study.spec.sampler if study is not None else None
    return sampler if isinstance(sampler, GivenSampler) else None


def write(study: Study, chosen: Sequence[Chosen], runs: Sequence[GivenRun]) -> Study:
    """Store the companion, in one statement: these configurations, and these runs after its own.

    Whoever calls it is the only one who does.
    """
    found = companion(study)
    before = listed(found)
    runs = (*(before.runs if before else ()), *runs)
    spec = study.spec.model_dump(mode="json") | {
        "name": study.name + SUFFIX,
        "description": f"the best of {study.name}, run again with new seeds",
        "objective": study.spec.objectives[0],  # costs of a configuration do not hang on its seed
        "pruner": {"kind": "none"},
        "confirm": False,
        "constraints": {},  # the best kept them; a default is told beside them, whatever it costs
        "sampler": {
            "kind": "given",
            "configurations": {each.candidate.name: each.written() for each in chosen},
            "runs": runs,
            "of": studies.artifact_folder(study),
            "score": True,
        },
        "budget": {
            "epochs": study.spec.budget.epochs,
            "trials": len(runs) + (_strangers(found) if found else 0),
        },
    }
    return studies.create(
        study.store,
        StudySpec.model_validate(spec),
        base=study.base,
        fingerprint=study.store.optuna.get_study_user_attrs(study.id).get("tunesvc:fingerprint"),
    )


def is_crowded(found: Study) -> bool:
    """Whether trials that somebody else put there leave too few for its own."""
    own = listed(found)
    allowed = studies.limit(found.spec)  # always given: see `write`
    return own is not None and (allowed or 0) < len(own.runs) + _strangers(found)


def _named(study: Study) -> Study | None:
    name = study.name + SUFFIX
    return studies.open_study(study.store, name) if name in studies.names(study.store) else None


def _is_of(found: Study, study: Study) -> bool:
    sampler = listed(found)
    return sampler is not None and sampler.of == studies.artifact_folder(study)


def _strangers(found: Study) -> int:
    """Return how many trials somebody else has put there."""
    trials = found.optuna().get_trials(deepcopy=False)
    return sum("configuration" not in trial.user_attrs for trial in trials)
