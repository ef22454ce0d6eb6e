"""What a report at a rung brings back: the other trials' values, whole, fresh, and no more."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import event, text

from tunesvc import leases as rooms
from tunesvc import search
from tunesvc.leases import Fenced, Lease, LeaseLost, Leases, Terms, Word, sql, writing
from tunesvc.search.hyperband import Brackets
from tunesvc.storage import Store, lean, open_store

TERMS = Terms(trials=1000)
RUNG = 1


@pytest.fixture
def study(store: Store) -> optuna.Study:
    """An Optuna study without trials."""
    return optuna.create_study(storage=store.optuna, study_name="s", direction="maximize")


@pytest.fixture
def leases(store: Store) -> Iterator[Leases]:
    """The leases of a worker."""
    with closing(Leases(store.engine)) as made:
        yield made


@pytest.fixture
def asked(store: Store) -> Iterator[list[str]]:
    """The first line of every question that readers of the study ask."""
    found: list[str] = []

    def note(*given: Any) -> None:
        if "changed.*" in given[2]:
            found.append(given[2])

    event.listen(store.engine, "before_cursor_execute", note)
    yield found
    event.remove(store.engine, "before_cursor_execute", note)


def begin(store: Store, study: optuna.Study, leases: Leases) -> Fenced:
    """Claim a trial, whose rungs are the epochs 1 and 3."""
    lease = leases.claim(study._study_id, TERMS)
    assert isinstance(lease, Lease)
    return Fenced(store.history, store.engine, lease, lambda step: step in (1, 3))


def say(trial: Fenced, step: int, value: float) -> None:
    """Report the value after an epoch."""
    trial.report(trial.lease.trial_id, {step: value}, {})


def finish(trial: Fenced, leases: Leases, **values: float) -> None:
    """Tell a trial with these steps."""
    steps = {int(name[1:]): value for name, value in values.items()}
    trial.tell(trial.lease.trial_id, TrialState.PRUNED, steps=steps)
    leases.forget(trial.lease)


def heard(trial: Fenced, step: int = RUNG) -> dict[int, float]:
    """Return what the pruner would be given now."""
    return dict(trial.values_at(trial.lease.study_id, step))


def test_a_report_at_a_rung_brings_what_all_others_have(
    store: Store, study: optuna.Study, leases: Leases, asked: list[str]
) -> None:
    """Running, told meanwhile, failed or read before; it is what a question would have brought."""
    read, failed, running, meanwhile, waiting, mine = (
        begin(store, study, leases) for _ in range(6)
    )
    finish(read, leases, s1=0.1, s2=0.9)
    assert len(store.history.get_all_trials(study._study_id)) == 6
    say(failed, 1, 0.2)
    leases.note_attempt(failed.lease, "why", alike="why", is_final=True)
    say(running, 1, -math.inf)
    finish(meanwhile, leases, s1=math.inf, s3=0.7)
    say(waiting, 2, 0.5)
    asked.clear()
    mine.report(mine.lease.trial_id, {1: 0.4, 2: 0.5, 3: 0.6}, {})
    first = {0: 0.1, 1: 0.2, 2: -math.inf, 3: math.inf, 5: 0.4}
    assert (heard(mine, 1), heard(mine, 3)) == (first, {3: 0.7, 5: 0.6})
    assert asked == []
    fresh = store.history.fresh().values_at
    assert fresh(study._study_id, 1) == first
    assert (heard(mine, 1), heard(mine, 2)) == (first, {0: 0.9, 4: 0.5, 5: 0.5})
    assert len(asked) == 3  # it answers once, and no other step


def test_any_storage_can_be_read_from(
    store: Store, study: optuna.Study, leases: Leases, asked: list[str]
) -> None:
    """Optuna's own knows nothing beforehand: it is read when the pruner asks."""
    first, second = (begin(store, study, leases) for _ in range(2))
    say(first, 1, 0.25)
    plain = Fenced(store.plain(), store.engine, second.lease, lambda step: step == 1)
    say(plain, 1, 0.5)
    assert plain._brought == {}
    assert heard(plain, 1) == {0: 0.25, 1: 0.5}
    assert asked == []


def test_what_is_not_a_number_is_neither_asked_nor_brought(
    store: Store, study: optuna.Study, leases: Leases, asked: list[str]
) -> None:
    """A trial that has come to that is beaten without looking; nobody compares with it."""
    first, second = (begin(store, study, leases) for _ in range(2))
    say(first, 1, math.nan)
    assert first._brought == {}
    say(second, 1, 0.5)
    assert heard(second) == {1: 0.5}
    assert asked == []


def test_a_lost_lease_brings_nothing(
    store: Store, study: optuna.Study, leases: Leases, asked: list[str]
) -> None:
    """Nor does the word before it count any more."""
    trial = begin(store, study, leases)
    say(trial, 1, 0.5)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE tunesvc.lease SET token = nextval('tunesvc.token')"))
    with pytest.raises(LeaseLost):
        say(trial, 3, 0.5)
    assert trial._brought == {}


def test_a_word_that_was_not_answered_is_said_again(
    store: Store, study: optuna.Study, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands once, and brings what has come meanwhile."""
    mine, other = (begin(store, study, leases) for _ in range(2))
    real = writing.write

    def lost(*given: Any) -> Any:
        real(*given)
        raise ConnectionError("the reply was lost")

    with monkeypatch.context() as patch:
        patch.setattr("tunesvc.leases.fenced.write", lost)
        with pytest.raises(ConnectionError):
            say(mine, 1, 0.5)
    assert mine._brought == {}
    say(other, 1, 0.75)
    say(mine, 1, 0.5)
    assert heard(mine) == {0: 0.5, 1: 0.75}


def test_put_back_trials_are_compared_as_they_are_now(
    store: Store, study: optuna.Study, leases: Leases, asked: list[str]
) -> None:
    """Memory of finished trials ends with a put-back: the study is read anew, once."""
    failed, mine = (begin(store, study, leases) for _ in range(2))
    say(failed, 1, 0.25)
    leases.note_attempt(failed.lease, "why", alike="why", is_final=True)
    assert store.history.values_at(study._study_id, 1) == {0: 0.25}
    assert rooms.put_back(store.engine, study._study_id) == [failed.lease.trial_id]
    again = begin(store, study, leases)
    assert again.lease.number == 0
    say(again, 1, 0.75)  # it began anew, and came to something else
    asked.clear()
    say(mine, 1, 0.5)
    assert heard(mine) == {0: 0.75, 1: 0.5}
    assert len(asked) == 2  # the second reads the whole study
    say(mine, 3, 0.5)
    assert heard(mine, 3) == {1: 0.5}
    assert len(asked) == 2


def brought(monkeypatch: pytest.MonkeyPatch) -> list[writing.Answer]:
    """Note every reply."""
    real, found = writing.write, list[writing.Answer]()

    def noted(*given: Any) -> list[writing.Answer]:
        found.extend(real(*given))
        return found[-1:]

    monkeypatch.setattr("tunesvc.leases.fenced.write", noted)
    return found


def test_a_reply_is_small_however_long_the_study(
    store: Store, study: optuna.Study, leases: Leases, asked: list[str], monkeypatch: Any
) -> None:
    """Of what is known to be finished nothing comes; of too much that is not known neither."""
    monkeypatch.setattr(lean, "MOST_UNREAD", 20)
    answers = brought(monkeypatch)
    for number in range(30):
        finish(begin(store, study, leases), leases, s1=number / 100)
    mine = begin(store, study, leases)
    answers.clear()
    say(mine, 1, 0.5)
    assert answers[-1].rungs is None
    assert len(heard(mine)) == 31
    assert len(asked) == 1
    say(mine, 1, 0.5)
    assert answers[-1].rungs == {1: {30: 0.5}}
    assert len(heard(mine)) == 31
    assert len(asked) == 1


def test_two_that_report_at_one_moment_see_each_other(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """The second waits until the first's word is committed, and is compared with it."""
    first, second = (begin(store, study, leases) for _ in range(2))
    with first.writing(Word({1: 0.75})) as draft:
        said = {f"{name}_0": value for name, value in draft.said.items()}
    with (
        ThreadPoolExecutor(1) as threads,
        open_store(store.url) as another,
        another.engine.connect() as connection,
    ):
        connection.execute(sql.write(1), said)  # and not committed yet
        other = threads.submit(say, second, 1, 0.5)
        threading.Event().wait(0.3)
        is_early = other.done()
        connection.commit()
        other.result(10)
    assert not is_early
    assert heard(second) == {0: 0.75, 1: 0.5}


SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END $$;
    CREATE TRIGGER slow AFTER INSERT ON trial_intermediate_values EXECUTE FUNCTION slow()
"""


def test_of_many_at_one_moment_each_sees_those_before(
    store: Store, study: optuna.Study, leases: Leases
) -> None:
    """As if one had come after the other: the nth sees n, also where a commit takes its time."""
    with store.engine.begin() as connection:
        connection.execute(text(SLOW))
    with ExitStack() as stack:  # a store has one connection for all its threads
        stores = [stack.enter_context(open_store(store.url)) for _ in range(6)]
        trials = [begin(each, study, leases) for each in stores]
        for step in (1, 3):
            with ThreadPoolExecutor(6) as threads:
                list(threads.map(lambda t, s=step: say(t, s, t.lease.number / 100), trials))
            assert sorted(len(heard(trial, step)) for trial in trials) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["asha", "hyperband"])
def test_verdicts_are_those_of_a_question(
    store: Store, study: optuna.Study, leases: Leases, asked: list[str], kind: str
) -> None:
    """Trial for trial, epoch for epoch; between the trials' beginnings nothing is asked."""
    made: search.Asha | search.Hyperband = search.Asha(1, 2)
    if kind == "hyperband":
        made = search.Hyperband(Brackets(1, 4, 2))
    rng, verdicts, running = optuna.samplers._lazy_random_state.LazyRandomState(1).rng, [], []
    for round_ in range(60):
        if round_ % 2 == 0 or not running:
            lease = leases.claim(study._study_id, TERMS)
            assert isinstance(lease, Lease)
            is_rung = search.rungs(made, "s", lease.number)
            running.append(Fenced(store.history, store.engine, lease, is_rung))
        trial = running[rng.randint(len(running))]
        step = (trial.get_trial(trial.lease.trial_id).last_step or 0) + 1
        asked.clear()
        say(trial, step, rng.rand())
        now = trial.get_trial(trial.lease.trial_id)
        plain = optuna.load_study(study_name="s", storage=store.plain())
        viewed = optuna.load_study(study_name="s", storage=trial)
        verdicts.append(made.prune(viewed, now))
        assert asked == []
        assert verdicts[-1] == made.prune(plain, now)
        if verdicts[-1] or step == 4:
            finish(trial, leases)
            running.remove(trial)
    assert 5 < sum(verdicts) < 40


def test_only_halving_has_rungs() -> None:
    """Other pruners look at every epoch, or at none, in their own way."""
    assert not search.rungs(search.Median(5, 1, 1), "s", 0)(1)
    assert [step for step in range(1, 10) if search.rungs(search.Asha(1, 3), "s", 0)(step)] == [
        1,
        3,
        9,
    ]


def test_epochs_without_a_value_count(store: Store, study: optuna.Study, leases: Leases) -> None:
    """Between two rungs nothing is evaluated; what is kept is an advance all the same."""
    terms = Terms(trials=9, max_attempts=2)
    for epoch in (1, 2, 3):
        lease = leases.claim(study._study_id, terms)
        assert isinstance(lease, Lease)
        assert (lease.number, lease.epoch) == (0, epoch - 1)
        trial = Fenced(store.history, store.engine, lease)
        trial.report(lease.trial_id, {}, {"history": [{}] * epoch}, epoch=epoch)
        leases.note_attempt(lease, "broken", alike="broken")
    (known,) = study.get_trials()
    assert known.state is TrialState.RUNNING
    lease = leases.claim(study._study_id, terms)
    assert isinstance(lease, Lease)
    assert lease.epoch == 3
    assert leases.note_attempt(lease, "broken", alike="broken")  # no epoch since the last
