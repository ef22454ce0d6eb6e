"""The lean storage: equal to Optuna's view, in few round trips, whoever writes meanwhile."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from speed.wire import Wire
from sqlalchemy import event, text

from tunesvc import leases
from tunesvc.leases import Leases, Terms
from tunesvc.storage import Lean, Store, lean, open_store

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SPACE = {
    "float": FloatDistribution(-1.5, 2.5),
    "log": FloatDistribution(1e-6, 1e-1, log=True),
    "stepped": FloatDistribution(0.0, 1.0, step=0.25),
    "whole": IntDistribution(1, 64, log=True),
    "even": IntDistribution(0, 10, step=2),
    "kind": CategoricalDistribution(["ä", "b {x}", None, True, 3, 2.5, math.inf]),
    'näme "quoted", \\ {and} ☃': FloatDistribution(0, 1),
}


@pytest.fixture
def study(store: Store) -> Study:
    return optuna.create_study(storage=store.optuna, study_name="s", direction="minimize")


def plain(store: Store) -> RDBStorage:
    return store.optuna._plain


def shown(trials: list[FrozenTrial]) -> list[str]:
    """Every field of trials as text: NaN is equal to itself; of dicts the order counts only where
    Optuna keeps one."""
    fields = [vars(trial) for trial in trials]
    kept = ("_params",)
    return [
        repr([
            (k, sorted(v.items(), key=repr) if isinstance(v, dict) and k not in kept else v)
            for k, v in sorted(each.items())
        ])
        for each in fields
    ]  # fmt: skip


def same(store: Store, study_id: int) -> None:
    """Both views are Optuna's; that of samplers without what they do not look at."""
    expected = sorted(plain(store).get_all_trials(study_id), key=lambda trial: trial.number)
    for each in (store.optuna, store.optuna.fresh()):
        assert shown(each.get_all_trials(study_id, deepcopy=False)) == shown(expected)
        assert shown(each.get_all_trials(study_id)) == shown(expected)
    for trial in expected:
        got = store.history.get_trial(trial._trial_id)
        assert shown([got]) == shown([trial])
        trial._user_attrs = {}
        if not trial.state.is_finished():
            trial.intermediate_values = {}
    for each in (store.history, store.history.fresh()):
        assert shown(each.get_all_trials(study_id, deepcopy=False)) == shown(expected)


def fill(study: Study) -> Iterator[None]:
    """Do everything that can be done to trials, one thing after another."""
    for index in range(4):
        trial = study.ask(SPACE)
        yield
        trial.set_user_attr("schlüssel", {"a": [1, None, "ü"], "nan": math.nan})
        study._storage.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.5)
        yield
        for step, value in enumerate([0.25, math.nan, math.inf, -math.inf, 1e-300, 1 / 3]):
            study._storage.set_trial_intermediate_value(trial._trial_id, step * 3, value)
        yield
        trial.set_constraint("memory", float(index - 1))
        values = [float(index)] * len(study.directions)
        study.tell(trial, values if index else [math.inf] * len(values))
        yield
    study.ask({"float": SPACE["float"]})
    yield
    study.tell(study.ask(), state=TrialState.FAIL)
    pruned = study.ask({"even": SPACE["even"]})
    yield
    if len(study.directions) == 1:
        pruned.report(-1.0, 7)
        study.tell(pruned, state=TrialState.PRUNED)
    study.enqueue_trial({"float": 0.5}, user_attrs={"default": "resnet"})
    yield
    values = [-math.inf] * len(study.directions)
    study.add_trial(optuna.create_trial(params={"x": 1}, distributions={"x": IntDistribution(0, 1)},
                                        values=values, intermediate_values={0: 1.0}))  # fmt: skip
    yield


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns"])
@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_equal_to_optunas_view(
    store: Store, directions: list[str], zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of many changes, read anew or only what changed: every field of every trial."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        study = optuna.create_study(storage=store.optuna, study_name="s", directions=directions)
        for _ in fill(study):
            same(store, study._study_id)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert {trial.state for trial in study.trials} >= set(TrialState) - {TrialState.PRUNED}


def test_long_histories_are_read_in_parts(
    store: Store, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the length of a part, and whatever has not finished in it."""
    for _ in fill(study):
        pass
    for most in (1, 2, 3, 9, 10):
        monkeypatch.setattr(lean, "MOST", most)
        same(store, study._study_id)


def test_studies_read_as_optuna_reads_them(store: Store) -> None:
    """Names, ids, directions and attributes; what is not there is a KeyError, as with Optuna's."""
    view, own = store.optuna, plain(store)
    study = optuna.create_study(storage=view, study_name="ä", directions=["maximize", "minimize"])
    study.set_user_attr("k", {"ü": 1})
    study.set_metric_names(["a", "b"])
    id_ = study._study_id
    for each in (view, store.history, view.fresh()):
        assert each.get_study_id_from_name("ä") == id_
        assert each.get_study_name_from_id(id_) == "ä"
        assert each.get_study_directions(id_) == own.get_study_directions(id_)
        assert each.get_study_user_attrs(id_) == {"k": {"ü": 1}}
        assert each.get_study_system_attrs(id_) == own.get_study_system_attrs(id_) != {}
        assert each.get_all_trials(id_) == []
    with pytest.raises(RuntimeError):
        view.get_best_trial(id_)
    for ask in (
        view.get_study_name_from_id, view.get_study_directions, view.get_study_user_attrs,
        view.get_study_system_attrs, view.get_all_trials, view.get_n_trials, view.get_best_trial,
        view.get_trial, view.get_trial_number_from_id,
    ):  # fmt: skip
        with pytest.raises(KeyError):
            ask(id_ + 1)
    with pytest.raises(KeyError):
        view.get_study_id_from_name("b")
    with pytest.raises(KeyError):
        view.get_trial_id_from_study_id_trial_number(id_, 0)


def test_best_trial_and_counts(store: Store, study: Study) -> None:
    """Infinite values in their order; of equal ones the first; nothing but COMPLETE counts."""
    with pytest.raises(ValueError, match="no trial"):
        store.optuna.get_best_trial(study._study_id)
    for value in (math.inf, 2.0, 1.0, 1.0):
        study.add_trial(optuna.create_trial(value=value))
    study.add_trial(optuna.create_trial(value=0.0, state=TrialState.PRUNED))
    assert store.optuna.get_best_trial(study._study_id).number == 2
    study.add_trial(optuna.create_trial(value=-math.inf))
    assert study.best_value == -math.inf
    upwards = optuna.create_study(storage=store.optuna, direction="maximize")
    for value in (-math.inf, 1.0, math.inf):
        upwards.add_trial(optuna.create_trial(value=value))
    assert upwards.best_trial.number == 2
    count = store.history.get_n_trials
    assert count(study._study_id) == 6
    assert count(study._study_id, TrialState.PRUNED) == 1
    assert count(study._study_id, (TrialState.PRUNED, TrialState.COMPLETE)) == 6
    assert count(study._study_id, TrialState.RUNNING) == 0


def test_what_is_handed_out_may_be_changed(store: Store, study: Study) -> None:
    """Copies share nothing; a trial that goes on shares nothing with the history either."""
    first = study.ask({"x": FloatDistribution(0, 1)})
    study._storage.set_trial_system_attr(first._trial_id, "list", [1])
    study.tell(first, 1.0)
    before = shown(store.history.get_all_trials(study._study_id, deepcopy=False))
    (trial,) = store.history.get_all_trials(study._study_id)
    trial.params["x"], trial.distributions["x"] = 7, IntDistribution(0, 9)
    trial.system_attrs["list"].append(2)
    trial.intermediate_values[3] = 1.0
    second = study.ask({"x": FloatDistribution(0, 1)})
    third = optuna.Trial(study, second._trial_id)
    third.suggest_float("y", 0, 1)
    store.history.get_trial(first._trial_id).distributions["z"] = IntDistribution(0, 9)
    store.history.get_all_trials(study._study_id, deepcopy=False).clear()
    assert shown(store.history.get_all_trials(study._study_id, deepcopy=False)[:1]) == before
    assert shown(store.history.fresh().get_all_trials(study._study_id)[:1]) == before


def test_values_at_a_step(store: Store, study: Study) -> None:
    """Of all trials that have one at exactly this step, also of those that run, as it is now."""
    trials = [study.ask() for _ in range(4)]
    for index, trial in enumerate(trials):
        trial.report(math.nan if index == 2 else float(index), 1)
    at = store.history.values_at
    first = repr([(0, 0.0), (1, 1.0), (2, math.nan), (3, 3.0)])
    assert repr(sorted(at(study._study_id, 1).items())) == first
    assert at(study._study_id, 3) == at(study._study_id, 0) == {}
    trials[0].report(-math.inf, 3)
    study.tell(trials[0], 1.0)
    trials[3].report(0.5, 3)
    assert at(study._study_id, 3) == {0: -math.inf, 3: 0.5}
    study.tell(trials[3], state=TrialState.PRUNED)
    assert at(study._study_id, 3) == {0: -math.inf, 3: 0.5}
    assert repr(sorted(at(study._study_id, 1).items())) == first


def test_put_back_trials_are_read_again(store: Store, study: Study) -> None:
    """A finished trial that goes on is seen to run, and its end is seen then."""
    with closing(Leases(store.engine)) as made:
        lease = made.claim(study._study_id, Terms(trials=1))
    assert lease is not None
    study.tell(0, state=TrialState.FAIL)
    views = (store.optuna, store.history)
    for each in views:
        (trial,) = each.get_all_trials(study._study_id, deepcopy=False)
        assert trial.state is TrialState.FAIL
        assert each.values_at(study._study_id, 1) == {}
    assert leases.put_back(store.engine, study._study_id) == [lease.trial_id]
    plain(store).set_trial_intermediate_value(lease.trial_id, 1, 0.5)
    for each in views:
        (trial,) = each.get_all_trials(study._study_id, deepcopy=False)
        assert trial.state is TrialState.RUNNING
        assert each.values_at(study._study_id, 1) == {lease.number: 0.5}
    study.tell(0, 1.0)
    same(store, study._study_id)


def test_deleted_study(store: Store, study: Study) -> None:
    """Whoever deleted it; a study of the same name is another one."""
    study.tell(study.ask(), 1.0)
    assert len(store.history.get_all_trials(study._study_id)) == 1
    plain(store).delete_study(study._study_id)
    with pytest.raises(KeyError):
        store.history.get_all_trials(study._study_id)
    new = optuna.create_study(storage=store.optuna, study_name="s")
    assert store.history.get_study_id_from_name("s") == new._study_id != study._study_id


# ---- who commits when

ADD = """
    INSERT INTO trials (study_id, number, state, datetime_start, datetime_complete)
    VALUES (:study, :number, :state, now(), CASE WHEN :state = 'COMPLETE' THEN now() END)
"""


def test_lower_number_that_is_committed_later(store: Store, study: Study) -> None:
    """It is seen as soon as it is there, whatever was read meanwhile; a gap costs nothing else."""
    which = {"study": study._study_id}
    with open_store(store.url) as other, other.engine.connect() as late:
        late.execute(text(ADD), which | {"number": 1, "state": "COMPLETE"})
        with store.engine.begin() as connection:
            for number, state in ((0, "COMPLETE"), (2, "COMPLETE"), (3, "RUNNING")):
                connection.execute(text(ADD), which | {"number": number, "state": state})
        for _ in range(2):
            trials = store.history.get_all_trials(study._study_id, deepcopy=False)
            assert [trial.number for trial in trials] == [0, 2, 3]
        assert store.history._histories[study._study_id].prefix == 1
        late.commit()
    trials = store.history.get_all_trials(study._study_id, deepcopy=False)
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert store.history._histories[study._study_id].prefix == 4
    same(store, study._study_id)


def test_number_that_was_given_twice(store: Store, study: Study) -> None:
    """An early Optuna did that: both are shown."""
    with store.engine.begin() as connection:
        connection.execute(text("DROP INDEX tunesvc_trials_number"))
        for number in (0, 1, 1, 2):
            connection.execute(
                text(ADD), {"study": study._study_id, "number": number, "state": "COMPLETE"}
            )
    for _ in range(2):
        same(store, study._study_id)
    assert len(store.history.get_all_trials(study._study_id)) == 4
    assert store.history._histories[study._study_id].prefix == 3


WRITERS, TRIALS = 3, 40


def _write(arguments: tuple[str, int]) -> None:
    """Run trials as a plain Optuna worker does; the value tells what belongs to it."""
    url, seed = arguments
    with open_store(url) as store:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.RandomSampler(seed=seed)
        study = optuna.load_study(study_name="s", storage=plain(store), sampler=sampler)
        for _ in range(TRIALS):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            for step in range(3):
                trial.report(x + step, step)
            trial.set_constraint("memory", x)
            study.tell(trial, x)


def _read(arguments: tuple[str, int]) -> int:
    """Read until all have been seen to finish; return how many readings it took."""
    with open_store(arguments[0]) as store:
        study_id = store.history.get_study_id_from_name("s")
        known: dict[int, str] = {}
        deadline, reading = time.monotonic() + 300, 0
        while time.monotonic() < deadline:
            reading += 1
            trials = store.history.get_all_trials(study_id, deepcopy=False)
            finished = [trial for trial in trials if trial.state.is_finished()]
            assert [trial.number for trial in trials] == list(range(len(trials)))
            for trial in finished:
                x = trial.params["x"]
                assert trial.values == [x]
                assert trial.intermediate_values == {step: x + step for step in range(3)}
                assert trial.constraints == {"memory": x}
                assert known.setdefault(trial.number, repr(trial)) == repr(trial)
            assert known.keys() == {trial.number for trial in finished}
            values = store.history.values_at(study_id, 2)
            assert values.keys() >= {trial.number for trial in finished}
            if len(finished) == WRITERS * TRIALS:
                return reading
    raise AssertionError("not all trials were seen to finish")


def _either(arguments: tuple[str, int]) -> int:
    return _read(arguments) if arguments[1] < 0 else _write(arguments) or 0


def test_read_while_others_write(store: Store, study: Study, at_once: AtOnce) -> None:
    """No trial is missed, and a finished one is whole when it is first seen."""
    arguments = [(store.url, seed) for seed in range(-1, WRITERS)]
    assert at_once(_either, arguments)[0] > 1
    same(store, study._study_id)


# ---- what it costs


@pytest.fixture
def wire(store: Store) -> Iterator[Wire]:
    with Wire(store.url) as wire:
        yield wire


def trips(wire: Wire, act: Callable[[], object]) -> int:
    before = wire.trips
    act()
    return wire.trips - before


def test_a_read_is_one_round_trip(store: Store, study: Study, wire: Wire) -> None:
    """On the wire: neither BEGIN nor ROLLBACK nor ping; as many as there are statements."""
    for _ in fill(study):
        pass
    id_ = study._study_id
    statements: list[str] = []
    with open_store(wire.url) as wired:
        wired.history.get_all_trials(id_)  # connects
        event.listen(
            wired.engine, "before_cursor_execute", lambda *given: statements.append(given[2])
        )
        view, trial_id = wired.history, study.trials[0]._trial_id
        for act in (
            lambda: view.get_all_trials(id_, deepcopy=False),
            lambda: view.values_at(id_, 3),
            lambda: view.get_trial(trial_id),
            lambda: view.get_study_id_from_name("s"),
            lambda: view.get_study_user_attrs(id_),
            lambda: view.get_study_system_attrs(id_),
            lambda: view.get_n_trials(id_),
            lambda: view.get_best_trial(id_),
            lambda: view.get_trial_number_from_id(trial_id),
            lambda: view.get_trial_id_from_study_id_trial_number(id_, 1),
            lambda: wired.optuna.get_all_trials(id_),
            lambda: wired.history.fresh().get_all_trials(id_),
        ):
            statements.clear()
            assert (trips(wire, act), len(statements)) == (1, 1), statements
        for free in (
            lambda: view.get_study_name_from_id(id_),
            lambda: view.get_study_directions(id_),
        ):
            assert trips(wire, free) == 0


def test_running_and_waiting_trials_are_read_without_what_grows(
    store: Store, study: Study, wire: Wire
) -> None:
    """Samplers ask often: what running trials report, and who waits in a queue, is not sent."""
    running = study.ask()
    for _ in range(20):
        study.enqueue_trial({"x": 0.5})
    with open_store(wire.url) as wired:

        def received() -> int:
            before = wire.received
            wired.history.get_all_trials(study._study_id, deepcopy=False)
            return wire.received - before

        received()
        few = received()
        assert few < 2000
        for step in range(50):
            running.report(1.0, step)
        running.set_user_attr("history", "x" * 5000)
        assert received() == few
        began = study.ask()
        assert received() > few
        states = [t.state for t in wired.history.get_all_trials(study._study_id, deepcopy=False)]
        assert states.count(TrialState.RUNNING) == 2
        study.tell(began, 1.0)
        received()
        assert received() == few


def test_threads_share_one_connection(store: Store, study: Study) -> None:
    """Two that read and one that writes: each reading is in order, and none waits for ever."""
    done = threading.Event()

    def read() -> int:
        readings, seen = 0, 0
        while not done.is_set():
            trials = store.history.get_all_trials(study._study_id, deepcopy=False)
            assert len(trials) >= seen
            assert [trial.number for trial in trials] == list(range(len(trials)))
            store.history.values_at(study._study_id, 0)
            readings, seen = readings + 1, len(trials)
        return readings

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            for _ in range(20):
                trial = study.ask({"x": FloatDistribution(0, 1)})
                trial.report(1.0, 0)
                study.tell(trial, 1.0)
        finally:
            done.set()
        assert all(reader.result() for reader in readers)
    same(store, study._study_id)


def test_lost_connection_is_replaced(store: Store, study: Study) -> None:
    """Without a ping before each statement: the server said that it closed it."""
    with store.engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with open_store(store.url) as other, other.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    assert store.history.get_all_trials(study._study_id) == []
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid


def test_connection_that_has_news_is_kept(store: Store, wire: Wire) -> None:
    """A message that the server sends unasked is no farewell: a ping tells."""
    with open_store(wire.url) as wired:
        with wired.engine.connect() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            connection.execute(text("LISTEN news"))
            connection.commit()
        with store.engine.begin() as connection:
            connection.execute(text("NOTIFY news"))
        time.sleep(0.2)  # it arrives at the idle connection
        assert trips(wire, wired.optuna.get_all_studies) > 0
        with wired.engine.connect() as connection:
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == pid


def test_samplers_and_pruners_work_on_both_views(store: Store) -> None:
    """Optuna's own loop runs on them, and comes to what it comes to on Optuna's own storage."""

    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", -1, 1), trial.suggest_int("y", 0, 5)
        for step in range(3):
            trial.report(x**2 + y + step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x**2 + y

    found = []
    for storage in (plain(store), store.optuna, store.history):
        study = optuna.create_study(
            storage=storage,
            sampler=optuna.samplers.TPESampler(n_startup_trials=4, seed=1),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        )
        study.optimize(objective, n_trials=15)
        found.append([(t.number, t.state, t.params, t.intermediate_values) for t in study.trials])
    assert found[0] == found[1] == found[2]
    assert isinstance(store.history, Lean)
    assert StudyDirection.MINIMIZE in store.history.get_study_directions(study._study_id)
