"""Studies in the database: create, open, list, pause, delete, status."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from tunesvc import study
from tunesvc.errors import DataError, StudyError, UnknownNameError
from tunesvc.leases import Lease, Leases, Terms
from tunesvc.spec import StudySpec
from tunesvc.storage import Store, open_store
from tunesvc.study import Study, creation

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]


def spec(name: str = "digits", **changes: Any) -> StudySpec:
    """A study of digits; `changes` are laid over it."""
    value = {"name": name, "data": "digits", "backbones": ["tiny_resnet"]}
    return StudySpec.model_validate(value | changes)


def make(store: Store, name: str = "digits", **changes: Any) -> Study:
    return study.create(store, spec(name, **changes), base=Path("/where"))


def finish(made: Study, state: TrialState, value: float | None = None) -> None:
    """Add a finished trial."""
    distributions = {"lr": optuna.distributions.FloatDistribution(0, 1)}
    made.optuna().add_trial(
        create_trial(state=state, value=value, params={"lr": 0.5}, distributions=distributions)
    )


def set_attribute(made: Study, key: str, value: object) -> None:
    made.store.optuna.set_study_user_attr(made.id, f"tunesvc:{key}", value)


def begin(made: Study) -> int:
    return int(made.optuna().ask()._trial_id)


def test_what_is_created_can_be_opened(store: Store) -> None:
    """The spec comes back whole, its search space in its own order, its direction in Optuna."""
    space = {"weight_decay": {"value": 0.1}, "lr": {"low": 1e-5, "high": 1.0, "log": True}}
    made = make(store, search_space=space, objective={"metric": "loss"})
    opened = study.open_study(store, "digits")
    assert opened == made
    assert opened.spec == spec(search_space=space, objective={"metric": "loss"})
    assert list(opened.spec.search_space) == ["weight_decay", "lr"]
    assert opened.base == Path("/where")
    assert opened.optuna().direction is optuna.study.StudyDirection.MINIMIZE
    assert opened.optuna().metric_names == ["loss"]
    assert opened.created.utcoffset() is not None


def test_a_score_that_is_no_number_stops_nothing(store: Store) -> None:
    """NaN comes back as NaN, and studies can still be listed."""
    made = make(store)
    study.set_test_metrics(made, 0, {"r2": float("nan"), "mse": 0.5})
    found = study.test_metrics(made, 0) or {}
    assert found["r2"] != found["r2"]
    assert found["mse"] == 0.5
    set_attribute(made, "test:1", {"r2": float("nan")})  # as an earlier version stored it
    assert study.names(store) == ["digits"]


def test_creating_again_is_opening(store: Store) -> None:
    """The same digest is the same study; where its files lie now is what counts."""
    first = make(store)
    finish(first, TrialState.COMPLETE, 0.5)
    study.pause(first)
    again = study.create(store, spec(description="moved"), base=Path("/elsewhere"))
    assert (again.id, again.uid, again.created) == (first.id, first.uid, first.created)
    assert again.base == Path("/elsewhere")
    assert again.spec.description == "moved"
    assert study.is_paused(again)


def test_a_different_study_under_this_name_is_refused(store: Store) -> None:
    """The error names every difference."""
    make(store)
    with pytest.raises(StudyError, match=r"budget.trials \(30 there, 5 here\); seed \(0 there"):
        make(store, budget={"trials": 5}, seed=1)


def test_foreign_optuna_studies_are_left_alone(store: Store) -> None:
    """A study of another program is not listed, not opened, and its name is taken."""
    optuna.create_study(storage=store.optuna, study_name="foreign", direction="maximize").ask()
    assert study.names(store) == []
    with pytest.raises(StudyError, match="no study is called 'foreign'"):
        study.open_study(store, "foreign")
    with pytest.raises(StudyError, match="taken by a study that tunesvc did not make"):
        make(store, "foreign")


def test_half_created_study_is_completed(store: Store) -> None:
    """A process that died in the middle of `create` leaves nothing that the next cannot mend."""
    optuna.create_study(storage=store.optuna, study_name="digits", direction="maximize")
    assert study.all_open(store) == []
    made = make(store)
    with store.engine.begin() as connection:
        connection.execute(
            text("DELETE FROM study_user_attributes WHERE key IN ('tunesvc:digest', 'tunesvc:uid')")
        )
    with pytest.raises(StudyError):
        study.open_study(store, "digits")
    assert make(store).id == made.id
    assert study.names(store) == ["digits"]


def _create(url_and_seconds: tuple[str, float]) -> tuple[int, str]:
    """Create the study, resting between the look at what is stored and the writing."""
    url, seconds = url_and_seconds
    attributes = creation._attributes

    def slowly(*args: Any) -> dict[str, Any]:
        time.sleep(seconds)
        return attributes(*args)

    with open_store(url) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(creation, "_attributes", slowly)
        created = make(store)
    return created.id, created.uid


def test_processes_that_create_it_at_once_get_the_same(storage_url: str, at_once: AtOnce) -> None:
    """Three processes, one study."""
    made = at_once(_create, [(storage_url, 0.2), (storage_url, 0.6), (storage_url, 1.0)])
    assert len(set(made)) == 1


def test_unknown_study_suggests_a_known_one(store: Store) -> None:
    """A misspelling is answered with the name that was meant."""
    with pytest.raises(StudyError, match="there is no study yet"):
        study.open_study(store, "digit")
    make(store)
    with pytest.raises(StudyError, match="did you mean 'digits'"):
        study.open_study(store, "digit")


def test_objective() -> None:
    """The metric's own direction unless given; the default means the task's own default."""
    assert study.objective(spec()) == ("accuracy", "maximize")
    assert study.objective(spec(objective="loss")) == ("loss", "minimize")
    given = {"metric": "loss", "direction": "maximize"}
    assert study.objective(spec(objective=given)) == ("loss", "maximize")
    assert study.objective(spec(task="image-regression")) == ("mse", "minimize")
    with pytest.raises(UnknownNameError, match="no metric 'accuracies'"):
        study.objective(spec(objective="accuracies"))


def test_objective_loads_no_torch() -> None:
    """Commands that only look at studies stay fast."""
    code = (
        "import sys; from tunesvc import study; from tunesvc.spec import StudySpec; "
        "value = {'name': 'x', 'data': 'digits', 'backbones': ['tiny_resnet']}; "
        "study.objective(StudySpec.model_validate(value)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_limit() -> None:
    """The budget's trials; a grid ends with its last point, the defaults counted."""
    assert study.limit(spec(budget={"trials": 7})) == 7
    grid = {"sampler": "grid", "search_space": {"batch_size": {"choices": [16, 32, 64]}}}
    assert study.limit(spec(**grid)) == 4
    assert study.limit(spec(**grid, budget={"trials": 2})) == 2


def test_status_counts(store: Store) -> None:
    """Every trial is counted once: finished, held, given back, of others, and what remains."""
    made = make(store, budget={"trials": 9})
    finish(made, TrialState.COMPLETE, 0.5)
    finish(made, TrialState.COMPLETE, 0.75)
    finish(made, TrialState.PRUNED)
    finish(made, TrialState.FAIL)
    made.optuna().enqueue_trial({})
    begin(made)
    with leased(made) as (first, lease), leased(made):
        first.release(lease)
        now = study.status(made)
    assert now.trials == {
        "complete": 2, "pruned": 1, "fail": 1, "running": 1, "waiting": 1, "remaining": 2
    }  # fmt: skip
    assert now.best == study.Best(1, 0.75, {"lr": 0.5})
    assert (now.state, now.metric, now.direction) == ("open", "accuracy", "maximize")
    assert study.status(made).trials["waiting"] == 2


def test_status_as_json(store: Store) -> None:
    """It is plain data with the keys that scripts rely on."""
    shown = json.loads(json.dumps(study.status(make(store)).as_json()))
    assert shown["study"] == "digits"
    assert shown["state"] == "open"
    assert shown["budget"] == {"trials": 30}
    assert shown["trials"].keys() >= {"complete", "pruned", "fail", "running", "waiting"}
    assert shown["best"] is None
    assert shown["eta_seconds"] is None


def test_rate_and_eta(store: Store) -> None:
    """By how long the last finished trials took, whatever lay between; none while nothing runs."""
    made = make(store, budget={"trials": 10})
    for value in (0.1, 0.2, 0.3):
        finish(made, TrialState.COMPLETE, value)
    with store.engine.begin() as connection:  # ten seconds each, a day between two of them
        connection.execute(
            text("UPDATE trials SET datetime_start = timestamp '2026-01-01' + number * "
                 "interval '1 day', datetime_complete = timestamp '2026-01-01 00:00:10' + "
                 "number * interval '1 day'")
        )  # fmt: skip
    assert study.status(made).eta_seconds is None
    with leased(made), leased(made):
        now = study.status(made)
    assert now.rate_per_minute == pytest.approx(12)
    assert now.eta_seconds == pytest.approx(35)


def test_done_when_every_trial_has_ended(store: Store) -> None:
    """A study is done when its budget is begun and nothing runs; then it is no longer open."""
    made = make(store, budget={"trials": 2})
    finish(made, TrialState.FAIL)
    with leased(made) as (leases, lease):
        assert study.status(made).state == "open"
        assert study.all_open(store) == [made]
        leases.note_attempt(lease, "why", alike="why", is_final=True)
    study.pause(made)
    assert study.status(made).state == "done"
    study.resume(made)
    assert study.all_open(store) == []


def test_what_another_program_runs_is_not_waited_for(store: Store) -> None:
    """Its trial is counted as begun: it was asked for in this study."""
    made = make(store, budget={"trials": 1})
    begin(made)
    assert study.status(made).state == "done"
    assert study.status(made).trials["running"] == 0


def test_hours_end_a_study(store: Store) -> None:
    """They count from the first trial's start, by the server's clock."""
    made = make(store, budget={"trials": 9, "hours": 1})
    assert study.status(made).state == "open"
    with leased(made) as (leases, lease):
        with store.engine.begin() as connection:
            connection.execute(
                text("UPDATE tunesvc.study SET started_at = started_at - interval '61 minutes'")
            )
        assert study.status(made).state == "open"
        leases.note_attempt(lease, "why", alike="why", is_final=True)
    now = study.status(made)
    assert (now.state, now.why) == (
        "done",
        "the budget's 1 hours are over, and 8 trials were not begun",
    )
    assert study.all_open(store) == []


@contextmanager
def leased(made: Study) -> Iterator[tuple[Leases, Lease]]:
    """A trial of the study in the hands of a worker."""
    with closing(Leases(made.store.engine)) as leases:
        lease = leases.claim(made.id, Terms(trials=study.limit(made.spec)))
        assert lease is not None
        yield leases, lease


def test_open_studies_are_listed_oldest_first(store: Store) -> None:
    """Paused ones, and those of another version of tunesvc, are passed over."""
    made = [make(store, name) for name in ("c", "a", "b", "d")]
    study.pause(made[1])
    set_attribute(made[3], "spec", {"name": "d", "from": "the future"})
    assert study.names(store) == ["c", "a", "b", "d"]
    assert [each.name for each in study.all_open(store)] == ["c", "b"]
    study.resume(made[1])
    assert study.status(made[1]).state == "open"
    with pytest.raises(StudyError, match="another version of tunesvc stored it"):
        study.open_study(store, "d")


def test_fingerprint_binds_the_data(store: Store) -> None:
    """Whoever comes first decides what the study learns from; other data is an error."""
    made = study.create(store, spec(), base=Path("/"), fingerprint=None)
    study.set_fingerprint(made, "abc")
    study.set_fingerprint(made, "abc")
    with pytest.raises(DataError, match="has changed since it began"):
        study.set_fingerprint(made, "xyz")
    with pytest.raises(DataError):
        study.create(store, spec(), base=Path("/"), fingerprint="xyz")


def test_delete(store: Store) -> None:
    """A study that is worked on is deleted only by force; its name is free again after."""
    made = make(store)
    finish(made, TrialState.COMPLETE, 0.5)
    with leased(made):
        with pytest.raises(StudyError, match="1 of its trials are running"):
            study.delete(made)
        study.delete(made, force=True)
    with pytest.raises(StudyError, match="no study"):
        study.status(made)
    again = make(store, seed=1)
    assert again.uid != made.uid
