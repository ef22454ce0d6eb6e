"""Who runs what: exactly the budget, each trial once, and takeovers of the lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import chain
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tunesvc import leases as rooms
from tunesvc.leases import (
    MEMORY,
    Fenced,
    Given,
    Lease,
    LeaseLost,
    Leases,
    Leave,
    Limits,
    Nothing,
    Terms,
    Watch,
    Word,
    held,
    sql,
    tell_together,
)
from tunesvc.storage import Store, open_store

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]

TERMS = Terms(trials=9, seconds=30)
SHORT = Terms(trials=9, seconds=0.6)
RENEWED = Terms(trials=9, seconds=2)  # a busy machine renews it in time

# Claims one trial of study argv[1], says which, and holds it until killed.
HOLDER = """
import sys, time, optuna
from tunesvc.leases import Leases, Terms
from tunesvc.storage import open_store
with open_store() as store:
    study = optuna.load_study(study_name=sys.argv[1], storage=store.optuna)
    leases = Leases(store.engine)
    lease = leases.claim(study._study_id, Terms(trials=9, seconds=2))
    print(lease.trial_id, leases.worker_id, flush=True)
    time.sleep(600)
"""


# Holds a trial that it works on and one that waits, and hangs.
HANGER = """
import sys, time, optuna
from tunesvc.leases import Leases, Terms
from tunesvc.storage import open_store
with open_store() as store:
    study = optuna.load_study(study_name=sys.argv[1], storage=store.optuna)
    leases = Leases(store.engine)
    terms = Terms(trials=9, seconds=0.6, stall_seconds=0.5)
    leases.watch(leases.claim(study._study_id, terms)).is_training = True
    leases.claim(study._study_id, terms, spare=True)
    with store.engine.connect():  # whoever hangs may hang with the pool's only connection
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


@pytest.fixture
def others(store: Store) -> Iterator[Leases]:
    """The leases of another worker."""
    with closing(Leases(store.engine)) as made:
        yield made


@pytest.fixture
def third(store: Store) -> Iterator[Leases]:
    """The leases of a third worker."""
    with closing(Leases(store.engine)) as made:
        yield made


def fenced(store: Store, lease: Lease) -> Fenced:
    """The storage through which a leased trial is written."""
    return Fenced(store.optuna, store.engine, lease)


def claim(leases: Leases, study: optuna.Study, terms: Terms = TERMS) -> Lease:
    """Claim where there is something to claim."""
    lease = leases.claim(study._study_id, terms)
    assert isinstance(lease, Lease)
    return lease


def nothing(leases: Leases, study: optuna.Study, terms: Terms = TERMS) -> Nothing:
    """Claim where there is nothing to claim."""
    found = leases.claim(study._study_id, terms)
    assert isinstance(found, Nothing)
    return found


def fail(leases: Leases, lease: Lease, why: str) -> str | None:
    """Tell a trial FAIL at once."""
    return leases.note_attempt(lease, why, alike=why, is_final=True)


def standing(study: optuna.Study, store: Store, hours: float | None = None) -> rooms.Standing:
    """Return how the study stands with its workers."""
    found = rooms.standing(store.engine, study._study_id, Limits(hours=hours))
    assert found is not None
    return found


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return found


def attempts(leases: Leases) -> dict[int, int]:
    """Return how many attempts at each leased trial ended badly, by its number."""
    asked = text("SELECT number, attempts FROM tunesvc.lease JOIN trials USING (trial_id)")
    with leases.engine.connect() as connection:
        return {row.number: row.attempts for row in connection.execute(asked)}


def lose(leases: Leases) -> None:
    """Have a worker vanish, with all that it holds."""
    leases._renewal.end()
    rooms.expire(leases.engine, leases.worker_id)


def _work(url: str) -> list[int]:
    """Run trials until the budget of 50 is spent; return their numbers."""
    mine = []
    with open_store(url) as store, closing(Leases(store.engine)) as leases:
        study = optuna.load_study(study_name="s", storage=store.optuna)
        while lease := leases.claim(study._study_id, Terms(trials=50)):
            assert isinstance(lease, Lease)
            assert not lease.resumed
            mine.append(lease.number)
            fenced(store, lease).set_trial_state_values(lease.trial_id, TrialState.COMPLETE, [1.0])
            leases.forget(lease)
    return mine


def _eight_work_ahead(url: str) -> list[int]:
    """Be eight workers; return their numbers."""
    with ThreadPoolExecutor(8) as workers:
        return list(chain(*workers.map(_work_ahead, [url] * 8)))


def _work_ahead(url: str) -> list[int]:
    """Run trials until the budget of 40 is spent, and claim the next ahead; return numbers."""
    mine = []
    terms, spare = Terms(trials=40), None
    with open_store(url) as store, closing(Leases(store.engine)) as leases:
        study = optuna.load_study(study_name="s", storage=store.optuna)
        while lease := spare or leases.claim(study._study_id, terms):
            assert isinstance(lease, Lease)
            mine.append(lease.number)
            spare = leases.claim(study._study_id, terms, spare=True)
            fenced(store, lease).tell(lease.trial_id, TrialState.COMPLETE, [1.0])
            leases.forget(lease)
    return mine


def test_workers_at_once_begin_exactly_the_budget(
    store: Store, study: optuna.Study, storage_url: str, at_once: AtOnce
) -> None:
    """Six processes and a budget of 50: every number once, none more."""
    found = at_once(_work, [storage_url] * 6)
    assert sorted(number for numbers in found for number in numbers) == list(range(50))
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(50))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_a_killed_worker_s_trial_is_taken_over(
    store: Store, study: optuna.Study, storage_url: str, leases: Leases
) -> None:
    """After its lease has expired, in the same trial; nobody else runs it before."""
    environment = os.environ | {"TUNESVC_STORAGE": storage_url}
    command = [sys.executable, "-c", HOLDER, "s"]
    holder = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    trial_id, worker_id = holder.stdout.readline().split()
    assert held(store.engine, study._study_id) == {int(trial_id)}
    one = Terms(trials=1, seconds=30)
    time.sleep(3.0)  # longer than the lease: it is renewed
    assert nothing(leases, study, one) == Nothing("spent", under_way=1)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    lease = until(lambda: leases.claim(study._study_id, one))
    assert (lease.trial_id, lease.resumed) == (int(trial_id), True)
    assert standing(study, store).takeovers == 1
    holders = [each.worker_id for each in rooms.workers(store.engine) if each.trial == 0]
    assert holders == [leases.worker_id] != [worker_id]


def test_a_process_known_to_be_dead_is_not_waited_for(
    study: optuna.Study, leases: Leases, others: Leases
) -> None:
    """Who reaped it may say so, and the trial is free at once."""
    lease = claim(others, study, Terms(trials=1, seconds=3600))
    others._renewal.end()
    rooms.expire(leases.engine, others.worker_id)
    assert claim(leases, study, Terms(trials=1)).trial_id == lease.trial_id


def test_released_first_then_expired_then_new(
    study: optuna.Study, leases: Leases, others: Leases, third: Leases
) -> None:
    """What was given back comes before what was lost, and both before what is new."""
    lost, given_back = claim(others, study, SHORT), claim(third, study, SHORT)
    others._renewal.end()
    third.release(given_back)
    time.sleep(0.7)
    found = []
    for _ in range(3):
        with closing(Leases(leases.engine)) as worker:
            found.append(claim(worker, study))
            worker.worker_id = "another"  # what it holds stays held
    assert [lease.number for lease in found] == [given_back.number, lost.number, 2]
    assert [lease.resumed for lease in found] == [True, True, False]
    assert found[1].token > lost.token


def test_the_budget_holds_no_takeover_up(
    study: optuna.Study, leases: Leases, others: Leases
) -> None:
    """A trial that was begun goes on, also when no other may begin."""
    one = Terms(trials=1)
    others.release(claim(others, study, one))
    again = claim(leases, study, one)
    assert (again.number, again.resumed) == (0, True)
    assert nothing(others, study, one).why == "spent"


def test_given_configurations_come_first_and_once(store: Store, study: optuna.Study) -> None:
    """Each is fixed and marked on its trial; trials that a person enqueued displace none."""
    study.enqueue_trial({"x": 0.5})
    terms = Terms(trials=9, given=[Given({"x": 1.0}, {"default": "a"}), Given({"x": 2.0}, {})])
    with ExitStack() as stack:
        for _ in range(4):
            claim(stack.enter_context(closing(Leases(store.engine))), study, terms)
    trials = study.get_trials()
    fixed = [trial.system_attrs.get("fixed_params") for trial in trials]
    assert fixed == [{"x": 0.5}, {"x": 1.0}, {"x": 2.0}, None]
    assert [trial.user_attrs for trial in trials] == [{}, {"default": "a"}, {}, {}]
    assert all(trial.datetime_start is not None for trial in trials)


def test_whose_claim_was_committed_but_not_answered(study: optuna.Study, leases: Leases) -> None:
    """A worker finds again what it holds without knowing; no trial is begun twice, none counts."""
    first = claim(leases, study)
    leases.forget(first)  # as if it had not come
    again = claim(leases, study)
    assert again.number == first.number
    assert again.token > first.token
    assert len(study.get_trials()) == 1


def test_a_lost_lease_writes_nothing(
    store: Store, study: optuna.Study, leases: Leases, others: Leases
) -> None:
    """No parameter, report, attribute or state of whoever lost it is stored."""
    lost = claim(others, study, SHORT)
    others._renewal.end()
    time.sleep(0.7)
    claim(leases, study)
    storage, trial_id = fenced(store, lost), lost.trial_id
    storage.set_trial_param(trial_id, "x", 0.5, optuna.distributions.FloatDistribution(0, 1))
    storage.set_trial_system_attr(trial_id, "a", 1)
    for write in (
        lambda: storage.set_trial_intermediate_value(trial_id, 1, 0.5),
        lambda: storage.set_trial_user_attr(trial_id, "a", 1),
        lambda: storage.tell(trial_id, TrialState.PRUNED, steps={1: 0.5}),
        lambda: storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0]),
        lambda: leases.note_attempt(lost, "why", alike="why"),
    ):
        with pytest.raises(LeaseLost):
            write()
    (trial,) = study.get_trials()
    assert (trial.params, trial.intermediate_values, trial.user_attrs) == ({}, {}, {})
    assert trial.state is TrialState.RUNNING


def test_the_holder_writes_what_optuna_reads(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """Parameters, steps, attributes, state and value come back through Optuna's own storage."""
    lease = claim(leases, study)
    trial = optuna.Trial(
        optuna.load_study(study_name="s", storage=fenced(store, lease)), lease.trial_id
    )
    x = trial.suggest_float("x", 1e-4, 1, log=True)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    trial.report(0.25, 1)
    trial.report(float("inf"), 2)
    trial.set_user_attr("note", {"a": [1, "ü"]})
    trial.set_constraint("size", -1.0)
    trial.study.tell(trial, 0.75)
    (read,) = store.fresh().get_all_trials(study._study_id)
    assert read.params == {"x": x, "kind": kind}
    assert read.intermediate_values == {1: 0.25, 2: float("inf")}
    assert read.user_attrs == {"note": {"a": [1, "ü"]}}
    assert read.constraints == {"size": -1.0}
    assert (read.state, read.value) == (TrialState.COMPLETE, 0.75)
    assert read.datetime_complete is not None
    assert read.datetime_start is not None
    assert 0 <= (read.datetime_complete - read.datetime_start).total_seconds() < 60


def test_parameters_are_stored_together(store: Store, study: optuna.Study, leases: Leases) -> None:
    """With the first other word; a trial is never seen half drawn."""
    lease = claim(leases, study)
    storage = fenced(store, lease)
    viewed = optuna.Trial(optuna.load_study(study_name="s", storage=storage), lease.trial_id)
    drawn = {name: viewed.suggest_float(name, 0, 1) for name in "abc"}
    assert store.fresh().get_all_trials(study._study_id)[0].params == {}
    storage.report(lease.trial_id, {}, {})
    assert store.fresh().get_all_trials(study._study_id)[0].params == drawn


def test_a_word_may_be_repeated(store: Store, study: optuna.Study, leases: Leases) -> None:
    """What was committed without an answer is said again, and stands once."""
    lease = claim(leases, study)
    storage = fenced(store, lease)
    for _ in range(2):
        storage.report(lease.trial_id, {1: 0.5}, {"a": 1})
    for _ in range(2):
        storage.set_trial_state_values(lease.trial_id, TrialState.COMPLETE, [0.5])
    (trial,) = study.get_trials()
    assert (trial.value, trial.intermediate_values) == (0.5, {1: 0.5})
    with pytest.raises(LeaseLost):  # but not said otherwise
        storage.set_trial_state_values(lease.trial_id, TrialState.FAIL)


def test_attempts_end_in_a_failure_with_every_reason(
    study: optuna.Study, leases: Leases, others: Leases
) -> None:
    """Two of its workers vanish, the third attempt raises: FAIL, and why each time."""
    for worker in (others, leases):
        claim(worker, study, SHORT)
        for watch in worker._renewal.watches():
            worker._renewal.let_go(watch.lease)
        time.sleep(0.7)
        with worker.engine.begin() as connection:
            connection.execute(text("UPDATE tunesvc.lease SET worker_id = 'gone'"))
    lease = claim(leases, study, SHORT)
    told = leases.note_attempt(
        lease, "Traceback\nRuntimeError: broken", alike="RuntimeError: broken"
    )
    assert told is not None
    (trial,) = study.get_trials()
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["reason"] == told
    assert told.count("gave no sign of life for 0.6 seconds") == 2
    assert told.endswith("RuntimeError: broken")


def test_a_trial_whose_workers_all_vanish_is_told_by_the_next(
    study: optuna.Study, leases: Leases
) -> None:
    """Nobody is left to tell it but whoever asks for work."""
    last: Lease | Nothing = claim(leases, study, SHORT)
    leases._renewal.end()
    for _ in range(3):
        assert isinstance(last, Lease)
        leases.forget(last)
        with leases.engine.begin() as connection:
            connection.execute(
                text("UPDATE tunesvc.lease SET worker_id = 'gone', expires_at = '-infinity'")
            )
        last = leases.claim(study._study_id, Terms(trials=1, seconds=0.6))
    assert last == Nothing("spent")
    assert study.get_trials()[0].state is TrialState.FAIL


def test_trials_that_fail_alike_pause_the_study(store: Store, study: optuna.Study) -> None:
    """Three in a row, numbers in the message aside; resuming begins the count anew."""
    with closing(Leases(store.engine)) as leases:
        for number in range(3):
            assert not standing(study, store).paused
            fail(leases, claim(leases, study), f"RuntimeError: no file {number}")
        now = standing(study, store)
        assert now.paused
        assert "3 trials in a row failed alike: RuntimeError: no file 2" in now.why
        assert nothing(leases, study).why == "paused"
        rooms.resume(store.engine, study._study_id)
        fail(leases, claim(leases, study), "RuntimeError: no file 4")
        assert not standing(study, store).paused


def test_what_is_the_configuration_s_fault_pauses_nothing(
    store: Store, study: optuna.Study
) -> None:
    """However many models in a row fit into no memory."""
    with closing(Leases(store.engine)) as leases:
        for _ in range(4):
            leases.note_attempt(claim(leases, study), "too large", alike=None, is_final=True)
    assert not standing(study, store).paused


def test_a_failure_may_be_noted_twice(study: optuna.Study, leases: Leases) -> None:
    """Its first reply was lost: it counts once, and is told alike."""
    lease = claim(leases, study)
    for _ in range(2):
        assert leases.note_attempt(lease, "broken", alike="broken") is None
    leases.release(lease)
    lease = claim(leases, study)
    with leases.engine.connect() as connection:
        assert connection.scalar(text("SELECT attempts FROM tunesvc.lease")) == 1
    for _ in range(2):
        assert fail(leases, lease, "broken again") is not None


def test_falling_back_resets_no_attempts(store: Store, study: optuna.Study, leases: Leases) -> None:
    """Only an epoch further than ever is progress."""
    lease = claim(leases, study)
    fenced(store, lease).report(lease.trial_id, {1: 0.1, 2: 0.2, 3: 0.3}, {})
    leases.note_attempt(lease, "broken", alike="broken")
    leases.release(lease)
    lease = claim(leases, study)
    for step in (1, 2, 3):
        fenced(store, lease).report(lease.trial_id, {step: 0.1}, {})
    with leases.engine.connect() as connection:
        assert connection.scalar(text("SELECT attempts FROM tunesvc.lease")) == 1
    fenced(store, lease).report(lease.trial_id, {4: 0.1}, {})
    with leases.engine.connect() as connection:
        assert connection.scalar(text("SELECT attempts FROM tunesvc.lease")) == 0


def test_other_failures_between_do_not_pause(store: Store, study: optuna.Study) -> None:
    """Only what fails alike has one cause."""
    with closing(Leases(store.engine)) as leases:
        for why in ("A", "B", "A", "A", "B"):
            fail(leases, claim(leases, study), why)
    assert not standing(study, store).paused


def test_failed_trials_are_put_back(store: Store, study: optuna.Study, leases: Leases) -> None:
    """They run again under their numbers, with what they had reported."""
    lease = claim(leases, study)
    fenced(store, lease).report(lease.trial_id, {1: 0.5}, {})
    fail(leases, lease, "why")
    leases.release(lease)
    (known,) = store.history.get_all_trials(study._study_id)
    assert known.state is TrialState.FAIL
    assert rooms.put_back(store.engine, study._study_id) == [lease.trial_id]
    again = claim(leases, study)
    assert (again.number, again.resumed) == (0, True)
    (known,) = store.history.get_all_trials(study._study_id)  # ended trials are read once, else
    assert known.state is TrialState.RUNNING
    (trial,) = store.fresh().get_all_trials(study._study_id)
    assert (trial.state, trial.user_attrs) == (TrialState.RUNNING, {})
    assert trial.intermediate_values == {1: 0.5}
    assert rooms.put_back(store.engine, study._study_id) == []


@pytest.mark.parametrize("order", [rooms.pause, rooms.stop])
def test_orders_reach_whoever_trains(
    store: Store, study: optuna.Study, leases: Leases, order: Callable[..., None]
) -> None:
    """Within a third of the lease, at the next batch."""
    watch = leases.watch(claim(leases, study, SHORT))
    watch.tick()
    order(store.engine, study._study_id)
    until(lambda: watch.leave)
    with pytest.raises(Leave):
        watch.tick()


def test_a_stopped_study_is_served_by_later_workers(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """Those that run at the moment leave it for good."""
    rooms.stop(store.engine, study._study_id)
    assert leases.is_stopped(study._study_id)
    assert nothing(leases, study).why == "stopped"
    with closing(Leases(store.engine)) as later:
        assert not later.is_stopped(study._study_id)
        assert claim(later, study)


def test_who_lost_its_lease_learns_it(store: Store, study: optuna.Study, leases: Leases) -> None:
    """The thread that renews finds another's token, and the next batch is the last."""
    watch = leases.watch(claim(leases, study, SHORT))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE tunesvc.lease SET token = nextval('tunesvc.token')"))
    until(lambda: watch.is_lost)
    with pytest.raises(LeaseLost):
        watch.tick()


def test_the_hours_are_the_server_s(store: Store, study: optuna.Study, leases: Leases) -> None:
    """From the first trial on; after them none begins, and those under way are told."""
    terms = Terms(trials=9, limits=Limits(hours=1), seconds=0.6)
    lease = claim(leases, study, terms)
    watch = leases.watch(lease)
    assert not watch.is_over
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE tunesvc.study SET started_at = now() - interval '61 minutes'")
        )
    until(lambda: watch.is_over)
    with closing(Leases(store.engine)) as others:
        assert nothing(others, study, terms).why == "over"
        leases.release(lease)
        assert claim(others, study, terms).is_over
    assert standing(study, store, 1).is_over


def test_renewal_outlives_its_connection(store: Store, study: optuna.Study, leases: Leases) -> None:
    """Sessions that the server ends are replaced, and the lease is never seen as free."""
    watch = leases.watch(claim(leases, study, RENEWED))
    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()")  # fmt: skip
    for _ in range(4):
        with store.engine.connect() as connection:
            connection.execute(kill)
        time.sleep(1.0)
        assert len(held(store.engine, study._study_id)) == 1
    watch.tick()


def test_a_failure_for_want_of_memory_is_seen_by_samplers(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """As a pruned trial that breaks a constraint; everybody else sees the failure."""
    lease = claim(leases, study)
    storage = fenced(store, lease)
    viewed = optuna.load_study(study_name="s", storage=storage)
    optuna.Trial(viewed, lease.trial_id).set_constraint(MEMORY, 1.0)
    storage.report(lease.trial_id, {}, {})
    fail(leases, lease, "out of memory")
    (shown,) = viewed.get_trials(states=(TrialState.PRUNED,))
    assert shown.constraints == {MEMORY: 1.0}
    assert store.fresh().get_all_trials(study._study_id)[0].state is TrialState.FAIL


def test_other_studies_trials_are_theirs(store: Store, study: optuna.Study, leases: Leases) -> None:
    """A claim sees one study only, and a deleted study has nothing to run."""
    other = optuna.create_study(storage=store.optuna, study_name="other")
    leases.release(claim(leases, other))
    assert claim(leases, study).resumed is False
    assert held(store.engine, other._study_id) == frozenset()
    optuna.delete_study(storage=store.optuna, study_name="other")
    assert nothing(leases, other).why == "gone"


def test_workers_are_listed(store: Store, study: optuna.Study) -> None:
    """Who, where, on what (not what waits for its turn), as long as they have not left."""
    with closing(Leases(store.engine, device="cpu", studies=["s"])) as leases:
        given_back, lease = claim(leases, study), claim(leases, study)
        leases.release(given_back)
        assert leases.claim(study._study_id, TERMS, spare=True)
        fenced(store, lease).report(lease.trial_id, {1: 0.5, 2: 0.6}, {})
        (worker,) = rooms.workers(store.engine)
        assert (worker.pid, worker.device, worker.studies) == (os.getpid(), "cpu", ("s",))
        assert (worker.study, worker.trial, worker.epoch) == ("s", 1, 2)
        assert not worker.is_lost
    assert rooms.workers(store.engine) == []


def test_what_fitted_is_remembered(leases: Leases) -> None:
    """The smallest, for each device, backbone, resolution and strategy."""
    place: dict[str, Any] = {"device": "d", "backbone": "b", "image_size": 64, "strategy": "full"}
    assert leases.fitted(**place) is None
    for size in (32, 8, 16):
        leases.note_fitted(size, **place)
    assert leases.fitted(**place) == 8
    with closing(Leases(leases.engine)) as others:
        assert others.fitted(**place) == 8
        leases.note_fitted(4, **place)
        assert others.fitted(**place) == 8  # until its own memory was too small
        assert others.fitted(anew=True, **place) == 4
    assert leases.fitted(**place | {"image_size": 32}) is None


def test_thirty_two_workers_begin_exactly_the_budget(
    study: optuna.Study, storage_url: str, at_once: AtOnce
) -> None:
    """Each claims its next trial while it runs one: 40 trials, every number once."""
    found = at_once(_eight_work_ahead, [storage_url] * 4)
    assert sorted(number for numbers in found for number in numbers) == list(range(40))
    assert {trial.state for trial in study.get_trials()} == {TrialState.COMPLETE}
    assert len(study.get_trials()) == 40


def test_a_budget_that_was_lowered_binds_who_has_not_read_it(
    study: optuna.Study, leases: Leases
) -> None:
    """The stored file counts, for a worker that knows an older one; a raised one it has to read."""
    study.set_user_attr("tunesvc:spec", {"budget": {"trials": 2}})
    found = []
    for _ in range(3):
        found.append(leases.claim(study._study_id, TERMS))
    assert [bool(each) for each in found] == [True, True, False]
    assert found[-1] == Nothing("spent", under_way=2)
    study.set_user_attr("tunesvc:spec", {"budget": {"trials": 100}})
    assert nothing(leases, study, Terms(trials=2)).why == "spent"
    assert claim(leases, study, Terms(trials=3)).number == 2


def test_many_given_configurations(store: Store, study: optuna.Study, leases: Leases) -> None:
    """More than travel with one claim, and others begin them meanwhile: each in its turn, once."""
    given = [Given({"x": float(index)}, {"grid": index}) for index in range(140)]
    terms = Terms(trials=150, given=given)
    first = claim(leases, study, terms)
    with closing(Leases(store.engine)) as others:
        for _ in range(100):
            claim(others, study, terms)
        for _ in range(40):
            claim(leases, study, terms)
    trials = study.get_trials()
    assert first.given is given[0]
    assert [trial.user_attrs.get("grid") for trial in trials] == [*range(140), None]
    assert trials[139].system_attrs == {"fixed_params": {"x": 139.0}}


def test_a_worker_holds_several(study: optuna.Study, leases: Leases, store: Store) -> None:
    """Each is renewed, judged, ordered, written and given back for itself."""
    one, two, three = (claim(leases, study, RENEWED) for _ in range(3))
    time.sleep(3.0)  # longer than a lease
    assert held(store.engine, study._study_id) == {one.trial_id}  # the others wait for their turn
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE tunesvc.lease SET token = nextval('tunesvc.token') WHERE trial_id = :id"),
            {"id": two.trial_id},
        )
    until(lambda: leases.watch(two).is_lost)
    assert not leases.watch(one).is_lost
    assert leases.note_attempt(three, "broken", alike="broken") is None
    assert attempts(leases) == {0: 0, 1: 0, 2: 1}
    fenced(store, one).report(one.trial_id, {1: 0.5}, {})
    assert [leases.holds(lease) for lease in (one, two, three)] == [True, False, True]
    leases.release(one)
    assert leases.watch(one) is not leases.watch(one)  # stand-ins


def test_what_is_claimed_ahead_leaves_enough_for_others(
    study: optuna.Study, leases: Leases, others: Leases, third: Leases
) -> None:
    """Of five trials, with two other workers, one may have two more; with none left, the rest."""
    five = Terms(trials=5)
    claim(leases, study, five)
    ahead = [leases.claim(study._study_id, five, spare=True) for _ in range(3)]
    assert [bool(each) for each in ahead] == [True, True, False]
    assert ahead[-1] == Nothing("spare", under_way=3)
    assert isinstance(ahead[0], Lease)
    assert leases.watch(ahead[0]).is_waiting
    third.close()
    assert claim(others, study, five).number == 3
    assert leases.claim(study._study_id, five, spare=True) == Nothing("spare", under_way=4)
    others.close()
    assert leases.claim(study._study_id, five, spare=True)
    assert leases.claim(study._study_id, five, spare=True)
    assert leases.claim(study._study_id, five, spare=True) == Nothing("spent", under_way=5)


def test_what_was_given_back_may_be_spare_too(
    study: optuna.Study, leases: Leases, others: Leases
) -> None:
    """It counts among what is left, and goes first."""
    two = Terms(trials=2)
    claim(leases, study, two)
    given_back = claim(others, study, two)
    others.release(given_back)
    assert leases.claim(study._study_id, two, spare=True) == Nothing("spare", under_way=2)
    others.close()
    ahead = leases.claim(study._study_id, two, spare=True)
    assert isinstance(ahead, Lease)
    assert ahead.trial_id == given_back.trial_id


def test_what_waited_with_a_lost_worker_costs_no_attempt(
    store: Store, study: optuna.Study, leases: Leases, others: Leases
) -> None:
    """It was at most drawn; what was reported on, or begun for as long as a renewal, was begun."""
    for each in range(4):
        assert others.claim(study._study_id, SHORT, spare=each > 0)
    waiting = [watch for watch in others._renewal.watches() if watch.is_waiting]
    assert [watch.lease.number for watch in waiting] == [1, 2, 3]
    fenced(store, waiting[0].lease).report(waiting[0].lease.trial_id, {}, {"run": 1})
    waiting[1].begin()
    drawn, storage = waiting[2].lease.trial_id, fenced(store, waiting[2].lease)
    storage.set_trial_param(drawn, "x", 0.5, optuna.distributions.FloatDistribution(0, 1))
    storage.report(drawn, {}, {"drawn": "independently"}, is_begun=False)
    asked = text("SELECT count(*) FROM tunesvc.lease WHERE waits")
    with store.engine.connect() as connection:
        until(lambda: connection.scalar(asked) == 1)
    lose(others)
    assert [claim(leases, study).resumed for _ in range(4)] == [True] * 4
    assert attempts(leases) == {0: 1, 1: 1, 2: 1, 3: 0}


def test_a_hung_worker_gives_back_what_waited(
    store: Store, study: optuna.Study, storage_url: str, leases: Leases
) -> None:
    """At once, without an attempt; the trial that it worked on has one more."""
    environment = os.environ | {"TUNESVC_STORAGE": storage_url}
    command = [sys.executable, "-c", HANGER, "s"]
    done = subprocess.run(command, env=environment, timeout=300, check=False, capture_output=True)
    assert done.returncode == 70, done.stderr
    assert held(store.engine, study._study_id) == frozenset()
    assert attempts(leases) == {0: 1, 1: 0}


def test_who_waits_is_not_judged_but_keeps_nobody_alive(store: Store) -> None:
    """As long as another trial advances; when none is worked on, not for ever."""
    lease = Lease(1, 1, 0, 1, resumed=False)
    terms = Terms(trials=9, seconds=1000, stall_seconds=10)
    waiting = Watch(lease, terms, is_training=True, is_waiting=True)
    assert [waiting.is_stalled(9) for _ in range(5)] == [False] * 5
    waiting.begin()
    assert [waiting.is_stalled(9) for _ in range(3)] == [False, False, True]
    with closing(Leases(store.engine)) as leases:
        ahead, now = Watch(lease, terms, is_waiting=True), Watch(lease, terms)
        forgets = leases._renewal._has_forgotten
        assert [forgets([ahead, now], 800), forgets([ahead, now], 800)] == [False, False]
        assert [forgets([ahead], 800), forgets([ahead], 800)] == [False, True]


def test_a_trial_is_known_without_reading_it(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """What Fenced says of it is what stands in the database, however it began."""
    study.enqueue_trial({"x": 0.5}, user_attrs={"why": "a person"})
    terms = Terms(trials=9, given=[Given({"x": 0.25}, {"default": "a"})])
    enqueued, given, new = (claim(leases, study, terms) for _ in range(3))
    leases.release(new)
    for lease in (enqueued, given, claim(leases, study, terms)):
        storage = fenced(store, lease)
        trial = optuna.Trial(optuna.load_study(study_name="s", storage=storage), lease.trial_id)
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("kind", ["a", None, 1.5])
        trial.set_constraint("size", -1.0)
        storage.report(lease.trial_id, {1: 0.5, 2: float("-inf")}, {"history": [{"a": (1, 2)}]})
        assert storage.get_trial(lease.trial_id) == store.fresh().get_trial(lease.trial_id)
        storage.tell(lease.trial_id, TrialState.PRUNED, steps={3: 0.75})
        assert storage.get_trial(lease.trial_id) == store.fresh().get_trial(lease.trial_id)
        assert storage.get_trial(lease.trial_id).value == 0.75


# Who waits for this session.
WAITING = text(
    "SELECT min(pid) FROM pg_locks WHERE NOT granted "
    "AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
)


def ending(store: Store, lease: Lease) -> tuple[Fenced, Word]:
    """How a trial ends, with its number for its value."""
    storage, value = fenced(store, lease), float(lease.number)
    storage.set_trial_param(
        lease.trial_id, "x", value / 10, optuna.distributions.FloatDistribution(0, 1)
    )
    return storage, storage.end(TrialState.COMPLETE, [value], {1: value / 2}, {"a": lease.number})


def test_several_are_told_together(
    store: Store, study: optuna.Study, leases: Leases, others: Leases
) -> None:
    """Each as if alone; one that is in other hands is left out, and whoever tells learns it."""
    mine = [claim(leases, study) for _ in range(4)]
    ends = [ending(store, lease) for lease in mine]
    with store.engine.begin() as connection:
        lost = {"id": mine[2].trial_id}
        connection.execute(
            text("UPDATE tunesvc.lease SET token = nextval('tunesvc.token') WHERE trial_id = :id"),
            lost,
        )
    ends[0], ends[3] = ends[3], ends[0]  # in whatever order
    for _ in range(2):  # the reply to the first may be lost
        assert tell_together(store.engine, ends) == [True, True, False, True]
    trials = study.get_trials()
    told = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert [(t.number, t.value, t.params, t.intermediate_values, t.user_attrs) for t in told] == [
        (n, float(n), {"x": n / 10}, {1: n / 2}, {"a": n}) for n in (0, 1, 3)
    ]
    assert trials[2].state is TrialState.RUNNING
    assert (trials[2].params, trials[2].user_attrs, trials[2].values) == ({}, {}, None)
    assert ends[0][0].get_trial(mine[3].trial_id) == store.fresh().get_trial(mine[3].trial_id)
    assert list(attempts(leases)) == [2]  # the others' leases have ended


def test_all_are_told_or_none(store: Store, study: optuna.Study, leases: Leases) -> None:
    """Of a session that ends before its commit nothing stands, and it is told again."""
    mine = [claim(leases, study) for _ in range(3)]
    ends = [ending(store, lease) for lease in mine]
    with open_store(store.url) as another, another.engine.connect() as blocker:
        held_back = text("SELECT FROM tunesvc.lease WHERE trial_id = :id FOR UPDATE")
        blocker.execute(held_back, {"id": mine[2].trial_id})
        with ThreadPoolExecutor(1) as threads:
            telling = threads.submit(tell_together, store.engine, ends)
            pid = until(lambda: blocker.scalar(WAITING))
            blocker.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            with pytest.raises(DBAPIError):
                telling.result(10)
    assert {trial.state for trial in study.get_trials()} == {TrialState.RUNNING}
    assert study.get_trials()[0].params == {}
    assert tell_together(store.engine, ends) == [True] * 3
    assert [trial.value for trial in study.get_trials()] == [0.0, 1.0, 2.0]


def test_a_renewal_and_a_telling_wait_for_each_other_in_one_order(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """By the trial's id: who waits for one holds none that comes after it."""
    first, second = (claim(leases, study) for _ in range(2))
    which = {"worker_id": leases.worker_id, "trials": [second.trial_id, first.trial_id]}
    which |= {"tokens": [second.token, first.token], "waits": [False] * 2}
    which |= {name: [None] * 2 for name in Limits().arguments()}
    ends = [ending(store, second), ending(store, first)]
    row = "SELECT FROM tunesvc.lease WHERE trial_id = :id FOR UPDATE"

    def renew() -> list[Any]:
        with open_store(store.url) as mine, mine.engine.begin() as connection:
            return list(connection.execute(sql.RENEW, which))

    for act in (renew, lambda: tell_together(store.engine, ends)):
        with (
            ThreadPoolExecutor(1) as threads,
            open_store(store.url) as another,
            another.engine.begin() as blocker,
        ):
            blocker.execute(text(row), {"id": first.trial_id})
            acting = threads.submit(act)
            until(lambda b=blocker: b.scalar(WAITING))
            blocker.execute(text(f"{row} NOWAIT"), {"id": second.trial_id})
            blocker.rollback()
            assert len(acting.result(10)) == 2


def test_whose_turn_has_come_is_known_soon(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """Long before its next renewal is due: whoever takes it over counts an attempt."""
    long = Terms(trials=9, seconds=3600)
    claim(leases, study, long)
    ahead = leases.claim(study._study_id, long, spare=True)
    assert isinstance(ahead, Lease)
    asked = text("SELECT count(*) FROM tunesvc.lease WHERE waits")
    with store.engine.connect() as connection:
        assert connection.scalar(asked) == 1
        leases.watch(ahead).begin()
        until(lambda: connection.scalar(asked) == 0, 5)
