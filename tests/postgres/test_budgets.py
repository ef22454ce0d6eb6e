"""Budgets of a whole study: nothing is begun beyond them, and what was spent is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from tunesvc import leases as rooms
from tunesvc import study as studies
from tunesvc.errors import StudyError
from tunesvc.leases import Fenced, Lease, LeaseLost, Leases, Limits, Nothing, Terms
from tunesvc.spec import StudySpec
from tunesvc.storage import Store, open_store
from tunesvc.study import Study

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]

EPOCHS, TOTAL = 4, 21
LIMITS = Limits(epochs_total=TOTAL, epochs=EPOCHS)
TERMS = Terms(trials=None, limits=LIMITS)


@pytest.fixture
def study(store: Store) -> optuna.Study:
    """A study of Optuna's alone."""
    return optuna.create_study(storage=store.optuna, study_name="s")


@pytest.fixture
def leases(store: Store) -> Iterator[Leases]:
    """A worker."""
    with closing(Leases(store.engine)) as made:
        yield made


def claim(leases: Leases, study_id: int, terms: Terms = TERMS) -> Lease:
    """Claim a trial that there has to be."""
    lease = leases.claim(study_id, terms)
    assert isinstance(lease, Lease), lease
    return lease


def fenced(leases: Leases, lease: Lease) -> Fenced:
    """Return what the trial is written to."""
    with open_store(leases.engine.url.render_as_string(hide_password=False)) as store:
        return Fenced(store.history, leases.engine, lease)


def finish(leases: Leases, lease: Lease, epochs: int) -> None:
    """Tell the trial PRUNED after so many epochs, all but the last reported before."""
    storage = fenced(leases, lease)
    for epoch in range(1, epochs):
        storage.report(lease.trial_id, {epoch: 0.5}, {})
    storage.tell(lease.trial_id, TrialState.PRUNED, [0.5], {epochs: 0.5} if epochs else {})
    leases.forget(lease)


def spent(leases: Leases, study_id: int) -> rooms.Spent:
    """Return what the study has spent."""
    return rooms.spent(leases.engine, study_id)


def later(store: Store, hours: float) -> None:
    """Let so many hours pass, as far as devices are concerned."""
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE tunesvc.spent SET charged_at = charged_at - make_interval(secs => :s)"),
            {"s": hours * 3600},
        )


def device_hours(leases: Leases, study_id: int) -> int:
    """Return the whole hours of devices."""
    return int(spent(leases, study_id).device_seconds / 3600)


def test_a_trial_reserves_its_epochs_and_gives_back_what_it_does_not_need(
    study: optuna.Study, leases: Leases
) -> None:
    """One is begun only where all its epochs fit in beside those of the trials under way."""
    begun = [claim(leases, study._study_id) for _ in range(TOTAL // EPOCHS)]
    assert leases.claim(study._study_id, TERMS) == Nothing("spent", under_way=5)
    for lease, epochs in zip(begun, (2, 3, 4, 4, 4), strict=True):
        finish(leases, lease, epochs)
        assert bool(leases.claim(study._study_id, TERMS)) == (epochs == 3)
    assert spent(leases, study._study_id).epochs == 17


def test_workers_at_once_keep_to_the_epochs(storage_url: str, at_once: AtOnce) -> None:
    """Eight processes, trials that end early or go on: not one more, and no trial's worth less."""
    with open_store(storage_url) as store:
        made = optuna.create_study(storage=store.optuna, study_name="s")
        most = max(at_once(_spend, [storage_url] * 8))
        known = rooms.spent(store.engine, made._study_id).epochs
        counted = sum(len(trial.intermediate_values) for trial in made.get_trials())
    assert known == counted
    assert 100 - EPOCHS < known <= 100
    assert most <= 100


def _spend(url: str) -> int:
    """Be a worker until the epochs are spent; return the most that were ever reported."""
    terms, most = Terms(trials=None, limits=Limits(epochs_total=100, epochs=EPOCHS)), 0
    with open_store(url) as store, closing(Leases(store.engine)) as leases:
        study_id = store.optuna.get_study_id_from_name("s")
        chance = random.Random(leases.worker_id)
        while True:
            lease = leases.claim(study_id, terms)
            if isinstance(lease, Nothing):
                if not lease.under_way:
                    return most
                continue
            finish(leases, lease, chance.randint(1, EPOCHS))
            most = max(most, spent(leases, study_id).epochs)


def test_an_epoch_that_is_repeated_counts_once(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """Whoever takes a trial over has what it has reserved."""
    lost = claim(leases, study._study_id)
    fenced(leases, lost).report(lost.trial_id, {1: 0.1, 2: 0.2}, {})
    rooms.expire(store.engine, leases.worker_id)
    with closing(Leases(store.engine)) as others:
        found = claim(others, study._study_id)
        assert (found.number, found.epoch) == (lost.number, 2)
        fenced(others, found).report(found.trial_id, {2: 0.2, 3: 0.3}, {})
        with pytest.raises(LeaseLost):
            finish(leases, lost, 4)
        finish(others, found, 4)
    assert spent(leases, study._study_id).epochs == 4


def test_epochs_without_a_value_count(study: optuna.Study, leases: Leases) -> None:
    """Where only rungs are evaluated, the trial's last word says how many there were."""
    lease = claim(leases, study._study_id)
    storage = fenced(leases, lease)
    storage.report(lease.trial_id, {1: 0.5}, {}, epoch=1)
    rooms.tell_together(
        leases.engine, [(storage, storage.end(TrialState.PRUNED, [0.5], {}, {}, epoch=3))]
    )
    assert spent(leases, study._study_id).epochs == 3


def stored(store: Store, budget: dict[str, Any]) -> Study:
    """Store a study of trials of four epochs."""
    spec = {
        "name": "tiny",
        "data": "digits",
        "backbones": [{"name": "two_conv_cnn", "weights": "none"}],
        "budget": budget | {"epochs": EPOCHS},
    }
    return studies.create(store, StudySpec.model_validate(spec), base=Path("/"))


def terms(made: Study) -> Terms:
    """Return a study's terms, as a worker has them that has read it just now."""
    return Terms(trials=studies.limit(made.spec), limits=studies.limits(made.spec))


def test_failed_trials_are_counted_and_put_back_with_what_they_had(
    store: Store, leases: Leases
) -> None:
    """They reserve their epochs anew; where these are gone, none is put back."""
    made = stored(store, {"epochs_total": 10})
    failed, other = (claim(leases, made.id, terms(made)) for _ in range(2))
    fenced(leases, failed).report(failed.trial_id, {1: 0.1}, {}, epoch=3)
    leases.note_attempt(failed, "why", alike="why", is_final=True)
    assert spent(leases, made.id).epochs == 3
    assert studies.put_back(made) == [failed.trial_id]
    again = claim(leases, made.id, terms(made))
    assert (again.number, again.epoch) == (failed.number, 3)
    assert spent(leases, made.id).epochs == 3
    leases.note_attempt(again, "why", alike="why", is_final=True)
    finish(leases, other, 2)
    finish(leases, claim(leases, made.id, terms(made)), 4)
    assert spent(leases, made.id).epochs == 9
    assert studies.put_back(made) == [failed.trial_id]
    finish(leases, claim(leases, made.id, terms(made)), 4)
    assert spent(leases, made.id).epochs == 10
    assert studies.status(made).state == "done"


def test_failed_trials_stay_where_epochs_are_too_few(store: Store, leases: Leases) -> None:
    """The error says what to raise."""
    made = stored(store, {"epochs_total": 9})
    failed = claim(leases, made.id, terms(made))
    leases.note_attempt(failed, "why", alike="why", is_final=True)
    for epochs in (4, 2):
        finish(leases, claim(leases, made.id, terms(made)), epochs)
    with pytest.raises(StudyError, match="the 9 epochs of study 'tiny' do not suffice") as caught:
        studies.put_back(made)
    assert "raise budget.epochs_total" in caught.value.fix
    assert made.optuna().get_trials()[0].state is TrialState.FAIL
    assert spent(leases, made.id).epochs == 6


def test_a_budget_that_is_lowered_counts_at_once(store: Store, leases: Leases) -> None:
    """Also for a worker that knows the file as it was; raised, more trials are begun."""
    made = stored(store, {"epochs_total": 40})
    finish(leases, claim(leases, made.id, terms(made)), 4)
    stored(store, {"epochs_total": 7})
    assert leases.claim(made.id, terms(made)) == Nothing("spent")
    more = stored(store, {"epochs_total": 8, "trials": 9})
    assert more.spec.digest == made.spec.digest
    assert leases.claim(more.id, terms(more))


@pytest.mark.parametrize("others", [1, 16])
def test_a_device_s_seconds_count_once_whatever_it_trains_at_once(
    store: Store, study: optuna.Study, leases: Leases, others: int
) -> None:
    """From a claim on, over reports and renewals, until a trial is told or given back."""
    study_id, plenty = study._study_id, Terms(trials=99)
    later(store, 1)
    first = claim(leases, study_id, plenty)
    stack = [leases.claim(study_id, plenty, spare=True) for _ in range(others)]
    assert device_hours(leases, study_id) == 0
    later(store, 1)
    assert device_hours(leases, study_id) == 1
    fenced(leases, first).report(first.trial_id, {1: 0.5}, {})
    for lease in stack:
        assert isinstance(lease, Lease)
        fenced(leases, lease).report(lease.trial_id, {1: 0.5}, {})
    assert device_hours(leases, study_id) == 1
    later(store, 1)
    for lease in (first, *stack):
        assert isinstance(lease, Lease)
        finish(leases, lease, 2)
    assert device_hours(leases, study_id) == 2
    later(store, 5)  # nothing to do meanwhile
    leases.release(claim(leases, study_id, plenty))
    assert device_hours(leases, study_id) == 2


def test_what_was_lost_and_repeated_counts(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """Up to the last sign of life of whoever had it first."""
    plenty = Terms(trials=9)
    lost = claim(leases, study._study_id, plenty)
    later(store, 2)
    with suppress(LeaseLost):
        fenced(leases, lost).report(lost.trial_id, {1: 0.5}, {})
    rooms.expire(store.engine, leases.worker_id)
    with closing(Leases(store.engine)) as others:
        again = claim(others, study._study_id, plenty)
        with store.engine.begin() as connection:
            connection.execute(
                text("UPDATE tunesvc.spent SET charged_at = charged_at - interval '3 hours' "
                     "WHERE worker_id = :mine"),
                {"mine": others.worker_id},
            )  # fmt: skip
        finish(others, again, 2)
    assert device_hours(leases, study._study_id) == 5


def test_when_the_device_hours_are_over_no_trial_is_begun(store: Store, leases: Leases) -> None:
    """What others have is told, and ends after its epoch; the status says why."""
    made = stored(store, {"gpu_hours": 2})
    lease, waiting = (claim(leases, made.id, terms(made)) for _ in range(2))
    leases.release(waiting)
    later(store, 1)
    with closing(Leases(store.engine)) as others:
        assert not claim(others, made.id, terms(made)).is_over
        later(store, 1)
        assert leases.claim(made.id, terms(made)) == Nothing("over", under_way=2)
    taken = claim(leases, made.id, terms(made))
    assert taken.over == "gpu_hours"
    for each in (lease, taken):
        finish(leases, each, 1)
    now = studies.status(made)
    assert (now.state, now.over) == ("done", "gpu_hours")
    assert now.why == "the budget's 2 device hours are over"
    assert now.as_json()["budget"] == {"trials": None, "gpu_hours": 2.0}
    assert now.spent["trials"] == 2
    assert now.spent["epochs_total"] == 2
    assert now.spent["gpu_hours"] >= 3
    with pytest.raises(StudyError, match="the 2 device hours of study 'tiny' are over"):
        studies.put_back(made)
