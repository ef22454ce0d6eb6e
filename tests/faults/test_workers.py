"""Workers that hang, break, are asked to leave or paused: real processes, real signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from faults import journal, ours, tally, toy
from faults.ours import Ours
from faults.tweaks import Break, Hang, Slow
from faults.workers import Tweak, Worker, fleet, until
from optuna.trial import TrialState

from tunesvc import study as studies
from tunesvc.storage import open_store

QUICK = {"seconds": 2, "stall_seconds": 2, "max_attempts": 3}

Study = Callable[..., Ours]


def undisturbed(url: str, folder: Path, side: Ours) -> list[tally.Values]:
    """Return the values of a twin that nothing happens to: a study of the same digest."""
    home = folder / "undisturbed"
    home.mkdir()
    spec = side.spec.model_copy(update={"name": "undisturbed"})
    with open_store(url) as store:
        studies.create(store, spec, base=home)
    twin = Ours(url, home, spec)
    assert twin.spec.digest == side.spec.digest
    with fleet(twin, 1) as workers:
        workers.workers[0].process.join(300)
    return tally.values(twin)


def taken(side: Ours) -> int:
    """Return how many steps have been taken so far."""
    return len(journal.read(side.steps))


def left(worker: Worker, seconds: float) -> int | None:
    """Return the exit code of a worker that leaves in time."""
    worker.process.join(seconds)
    return worker.process.exitcode


def said(side: Ours) -> str:
    """Return the end of what the workers printed, for a failure's message."""
    return side.log.read_text()[-3000:]


def test_a_hung_worker_loses_its_trial(study: Study, storage_url: str, tmp_path: Path) -> None:
    """A live process whose batch never ends is found out, and another one ends its trial."""
    side = study(1, leases=QUICK)
    with fleet(side, 1, {0: Tweak(before=Hang(12))}) as workers:
        assert until(lambda: taken(side) >= 11, 60), said(side)
        workers.start()
        assert until(side.is_done, 60), said(side)
    trial, *others = side.trials()
    assert (others, trial.state) == ([], TrialState.COMPLETE)
    assert len({step.pid for step in journal.read(side.steps)}) == 2
    assert tally.values(side) == undisturbed(storage_url, tmp_path, side)


def test_an_exception_is_retried_from_the_checkpoint(
    study: Study, storage_url: str, tmp_path: Path
) -> None:
    """The trial goes on after its last whole epoch, in the same worker or another."""
    side = study(1, leases=QUICK)
    with fleet(side, 1, {0: Tweak(before=Break(12, 2, tmp_path))}) as workers:
        assert left(workers.workers[0], 60) == 0, said(side)
    assert [trial.state for trial in side.trials()] == [TrialState.COMPLETE]
    assert len(list(tmp_path.glob("break-*"))) == 2
    assert journal.repeated(journal.read(side.steps)) == 2
    assert tally.values(side) == undisturbed(storage_url, tmp_path, side)


def test_a_trial_that_always_breaks_fails_with_each_reason(study: Study, tmp_path: Path) -> None:
    """After three attempts without a new epoch it is told FAIL; the worker goes on to the next."""
    side = study(2, leases=QUICK, ask_ahead=False)  # else the other trial meets the fault too
    with fleet(side, 1, {0: Tweak(before=Break(4, 3, tmp_path))}) as workers:
        assert left(workers.workers[0], 60) == 0, said(side)
    failed, complete = side.trials()
    assert [failed.state, complete.state] == [TrialState.FAIL, TrialState.COMPLETE]
    reason = failed.user_attrs["reason"]
    assert [f"the cable was pulled, time {number}" in reason for number in (1, 2, 3)] == [True] * 3


def test_sigterm_in_the_middle_of_an_epoch(study: Study, storage_url: str, tmp_path: Path) -> None:
    """The worker leaves with exit code 0; whoever goes on repeats not one batch."""
    side = study(1, leases={"seconds": 600})  # nobody waits for it to expire
    with fleet(side, 1, {0: Tweak(before=Slow(0.3))}) as workers:
        assert until(lambda: taken(side) >= 11, 60), said(side)
        code, seconds = workers.ask(workers.workers[0])
        assert (code, seconds < 10) == (0, True), said(side)
        stopped_at = taken(side)
        assert stopped_at % 8 != 0, "it was stopped between two epochs: nothing is shown"
        (trial,) = side.trials()
        assert trial.state is TrialState.RUNNING
        assert left(workers.start(), 60) == 0, said(side)
    assert taken(side) == 3 * 8
    assert tally.values(side) == undisturbed(storage_url, tmp_path, side)


def test_a_second_signal_ends_at_once(study: Study) -> None:
    """A worker in a batch that does not end waits for it after the first, not after the second."""
    side = study(1)
    with fleet(side, 1, {0: Tweak(before=Hang(5))}) as workers:
        assert until(lambda: taken(side) >= 4, 60), said(side)
        time.sleep(0.3)
        worker = workers.workers[0]
        worker.signal(signal.SIGTERM)
        assert left(worker, 0.5) is None
        worker.signal(signal.SIGTERM)
        assert left(worker, 30) == 130


def test_pause_acts_on_running_trials(study: Study, storage_url: str, tmp_path: Path) -> None:
    """Within an epoch they are given back, with what they have; resumed, they go on there."""
    side = study(2, epochs=4)
    slow = Tweak(before=Slow(0.3))
    with fleet(side, 2, {0: slow, 1: slow}), open_store(storage_url) as store:
        assert until(lambda: taken(side) >= 4, 60), said(side)
        made = studies.open_study(store, ours.STUDY)
        studies.pause(made)
        before = taken(side)
        assert until(lambda: studies.status(made).trials["running"] == 0, 60), said(side)
        assert taken(side) - before <= 2 * 8
        time.sleep(1)
        paused_at = taken(side)
        time.sleep(1)
        assert taken(side) == paused_at
        studies.resume(made)
        assert until(side.is_done, 60), said(side)
    assert taken(side) == 2 * 4 * 8
    assert tally.values(side) == undisturbed(storage_url, tmp_path, side)


def test_a_worker_has_two_connections(study: Study) -> None:
    """At most, at any time: a hundred of the server's serve 48 workers and more."""
    side = study(12, leases=toy.LEASES)
    slow = Tweak(before=Slow(0.02))
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tunesvc' AND " \
        "datname = current_database()"  # fmt: skip
    with fleet(side, 8, dict.fromkeys(range(8), slow)):
        assert until(lambda: len({s.pid for s in journal.read(side.steps)}) == 8, 60), said(side)
        counts = []
        while not side.is_done() and len(counts) < 60:
            counts.append(side.ask(count)[0][0])
            time.sleep(0.1)
    assert 8 <= max(counts) <= 16


def test_the_epochs_of_a_study_are_exact_while_workers_are_killed(study: Study) -> None:
    """Not one more is reported, whoever repeats it; trials end early, and others take over."""
    total, each = 40, 4
    budget = {"epochs_total": total, "epochs": each}
    halving = {"kind": "asha", "min_resource": 1, "reduction_factor": 2, "control": 0}
    side = study(1, budget=budget, pruner=halving, leases=QUICK)
    slow = Tweak(before=Slow(0.02))
    with fleet(side, 6, dict.fromkeys(range(6), slow)) as workers:
        for count in (20, 60, 120):
            assert until(lambda least=count: taken(side) >= least, 60), said(side)
            victim = next(each for each in workers.workers if not each.hurt)
            victim.hurt = True
            victim.signal(signal.SIGKILL)
            workers.start()
        with open_store(side.url) as store:
            made = studies.open_study(store, ours.STUDY)
            assert until(lambda: studies.status(made).state == "done", 60), said(side)
            now = studies.status(made)
    reported = sum(len(trial.user_attrs["history"]) for trial in side.trials())
    assert total - each < reported == now.spent["epochs_total"] <= total
    assert now.takeovers >= 1
    assert {TrialState.PRUNED, TrialState.COMPLETE} == {trial.state for trial in side.trials()}
