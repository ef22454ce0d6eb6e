"""Commands that look at studies and workers."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesvc.cli.options import Json, Storage, StudyName, print_json

if TYPE_CHECKING:
    from tunesvc.errors import StudyError
    from tunesvc.leases import Worker
    from tunesvc.storage import Store
    from tunesvc.study import Status


def list_(storage: Storage = None, as_json: Json = False) -> None:
    """List the studies, oldest first."""
    from tunesvc import study
    from tunesvc.cli import show
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        found = {name: _status(store, name) for name in study.names(store)}
    if as_json:
        print_json([_study_as_json(name, told) for name, told in found.items()])
    elif not found:
        typer.echo("no studies yet; make one with: tunesvc new-study studies/quickstart.yaml")
    else:
        columns = ("study", "state", "finished", "running", "left", "best")
        show.table(columns, (_row(name, told) for name, told in found.items()))
        for name, told in found.items():
            if told.why:
                typer.echo(f"{name}: {told.why}")


def _status(store: Store, name: str) -> Status | StudyError:
    """Return how a study stands, or why it cannot be read: the others can."""
    from tunesvc import study
    from tunesvc.errors import StudyError

    try:
        return study.status(study.open_study(store, name))
    except StudyError as error:
        return error


def _study_as_json(name: str, told: Status | StudyError) -> dict[str, Any]:
    if isinstance(told, Exception):
        return {"study": name, "state": "unreadable", "why": told.why}
    return told.as_json()


def _row(name: str, told: Status | StudyError) -> tuple[str, ...]:
    from tunesvc.cli import show

    if isinstance(told, Exception):
        return name, "unreadable", *("–",) * 4
    best = "–" if told.best is None else f"{told.metric} {told.best.value:.4f}"
    done = f"{told.finished}/{told.budget_trials}"
    left = "–" if told.eta_seconds is None else show.duration(told.eta_seconds)
    return told.study, told.state, done, str(told.trials["running"]), left, best


def status(
    name: StudyName,
    watch: Annotated[bool, typer.Option("--watch", help="Follow until it is done.")] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show how far a study is."""
    from tunesvc import study
    from tunesvc.cli import show
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        opened = study.open_study(store, name)
        now = study.status(opened)
        if as_json:
            print_json(now.as_json())
            return
        if not watch:
            show.print_status(now)
            return
        with show.Progress(name, None, []) as progress:
            while now.state != "done":
                progress.update(now)
                time.sleep(1)
                now = study.status(opened)
        show.print_status(now)


def best(name: StudyName, storage: Storage = None, as_json: Json = False) -> None:
    """Show the best trial of a study and the table of backbone × strategy."""
    from tunesvc import study
    from tunesvc.cli import show_results
    from tunesvc.results import results
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        found = results(study.open_study(store, name))
    if as_json:
        print_json(found.as_json())
    else:
        show_results.print_results(found)


def workers(storage: Storage = None, as_json: Json = False) -> None:
    """List the workers of every host, oldest first: what they run, and when they were last seen."""
    from tunesvc import leases
    from tunesvc.cli import show
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        found = leases.workers(store.engine)
    if as_json:
        print_json([_worker_as_json(worker) for worker in found])
    elif not found:
        typer.echo("no worker runs; start one with:  tunesvc worker")
    else:
        columns = ("host", "state", "pid", "device", "study", "trial", "epoch", "last seen")
        show.table(columns, (_worker_row(worker) for worker in found))


def _worker_as_json(worker: Worker) -> dict[str, Any]:
    times = {"started_at": worker.started_at.isoformat(), "seen_at": worker.seen_at.isoformat()}
    return asdict(worker) | times | {"state": _worker_state(worker)}


def _worker_state(worker: Worker) -> str:
    if worker.is_lost:
        return "lost"
    return "idle" if worker.trial is None else "running"


def _worker_row(worker: Worker) -> tuple[str, ...]:
    from tunesvc.cli import show

    facts = (worker.pid, worker.device, worker.study, worker.trial, worker.epoch)
    shown = ("–" if fact is None else str(fact) for fact in facts)
    seen = f"{show.duration(max(0.0, worker.seen_seconds_ago))} ago"
    return worker.host, _worker_state(worker), *shown, seen
