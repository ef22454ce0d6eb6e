"""Who runs what: exactly the budget, each trial once, and takeovers of the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import optuna
import pytest
from sqlalchemy import text

from tunesvc.leases import Leases, held
from tunesvc.storage import Store, open_store

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]

# Claims one trial of study argv[1], says which, and holds it until killed.
HOLDER = """
import sys, time, optuna
from tunesvc.leases import Leases
from tunesvc.storage import open_store
with open_store() as store:
    study = optuna.load_study(study_name=sys.argv[1], storage=store.optuna)
    leases = Leases(store.engine)
    lease = leases.claim(study._study_id, 9, lambda _: study.ask()._trial_id)
    print(lease.trial_id, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def study(store: Store) -> optuna.Study:
    """An Optuna study without trials."""
    return optuna.create_study(storage=store.optuna, study_name="s")


@pytest.fixture
def leases(store: Store) -> Iterator[Leases]:
    """The leases of a worker."""
    with closing(Leases(store.engine)) as made:
        yield made


def _work(url: str) -> list[int]:
    """Run trials until the budget of 50 is spent; return their ids."""
    mine = []
    with open_store(url) as store, closing(Leases(store.engine)) as leases:
        study = optuna.load_study(study_name="s", storage=store.optuna)
        while lease := leases.claim(study._study_id, 50, lambda _: study.ask()._trial_id):
            assert not lease.resumed
            mine.append(lease.trial_id)
            study.get_trials(deepcopy=False)
            study.tell(optuna.Trial(study, lease.trial_id), 1.0)
            leases.release(lease)
    return mine


def test_four_processes_spend_the_budget_exactly(
    study: optuna.Study, storage_url: str, at_once: AtOnce
) -> None:
    """Fifty trials of fifty, none begun twice, none left over."""
    ran = [trial for mine in at_once(_work, [storage_url] * 4) for trial in mine]
    assert len(ran) == len(set(ran)) == 50
    assert [trial.number for trial in study.trials] == list(range(50))
    assert all(trial.state.is_finished() for trial in study.trials)


def test_killed_holders_trial_is_taken_over(
    study: optuna.Study, store: Store, storage_url: str, leases: Leases
) -> None:
    """While its holder lives a trial is nobody else's; after kill -9 it is the next claim's."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "s"],
        env=os.environ | {"TUNESVC_STORAGE": storage_url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    trial_id = int(holder.stdout.readline())
    assert held(store.engine, study._study_id) == {trial_id}
    assert leases.claim(study._study_id, 1, pytest.fail) is None
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    lease = None
    while lease is None:  # until Postgres has noticed, milliseconds later
        lease = leases.claim(study._study_id, 1, pytest.fail)
    assert (lease.trial_id, lease.resumed) == (trial_id, True)
    assert held(store.engine, study._study_id) == {trial_id}


def test_oldest_orphan_first_then_new_ones(study: optuna.Study, leases: Leases) -> None:
    """Trials that nobody runs come before new ones, also when the budget is spent."""
    first, second = study.ask()._trial_id, study.ask()._trial_id
    study.enqueue_trial({})  # WAITING is not begun
    begun: list[int] = []

    def begin(count: int) -> int:
        begun.append(count)
        return int(study.ask()._trial_id)

    claimed = [leases.claim(study._study_id, 3, begin) for _ in range(4)]
    assert [lease and lease.trial_id for lease in claimed[:2]] == [first, second]
    assert [lease and lease.resumed for lease in claimed] == [True, True, False, None]
    assert begun == [2]
    assert claimed[0] is not None
    leases.release(claimed[0])
    again = leases.claim(study._study_id, 0, pytest.fail)
    assert again is not None
    assert again.trial_id == first


def test_other_studies_trials_are_theirs(store: Store, study: optuna.Study, leases: Leases) -> None:
    """A claim sees one study only."""
    other = optuna.create_study(storage=store.optuna, study_name="other")
    other.ask()
    assert leases.claim(study._study_id, 0, pytest.fail) is None
    assert leases.claim(other._study_id, 0, pytest.fail) is not None
    assert held(store.engine, study._study_id) == frozenset()


def test_trial_told_while_it_is_claimed_is_not_taken(
    study: optuna.Study, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan that turns out to be finished, once its lock is held, is let go again."""
    trial = study.ask()
    study.tell(trial, 1.0)
    stale = text(f"SELECT {trial._trial_id} AS trial_id WHERE :study_id > 0")
    monkeypatch.setattr("tunesvc.leases._Sql.ORPHANS", stale)
    assert leases.claim(study._study_id, 1, pytest.fail) is None
    assert held(leases._engine, study._study_id) == frozenset()


def test_failing_begin_leaves_the_queue_open(study: optuna.Study, leases: Leases) -> None:
    """When a trial cannot be begun the error passes, and the next claim works."""

    def fail(_: int) -> int:
        raise ValueError("no such data")

    with pytest.raises(ValueError, match="no such data"):
        leases.claim(study._study_id, 1, fail)
    assert leases.claim(study._study_id, 1, lambda _: study.ask()._trial_id) is not None


def test_lost_connection_is_a_lost_lease(store: Store, study: optuna.Study, leases: Leases) -> None:
    """When the server closes the session the lease is gone; releasing it is no error."""
    lease = leases.claim(study._study_id, 1, lambda _: study.ask()._trial_id)
    assert lease is not None
    kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
    with store.engine.connect() as connection:
        connection.execute(text(kill))
    assert held(store.engine, study._study_id) == frozenset()
    leases.release(lease)
    leases.release(lease)
    again = leases.claim(study._study_id, 1, pytest.fail)
    assert again is not None
    assert again.resumed
