"""Commands that look at studies and workers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesvc.cli.options import Json, Storage, StudyName, print_json

if TYPE_CHECKING:
    from tunesvc.errors import StudyError
    from tunesvc.leases import Worker
    from tunesvc.storage import Store
    from tunesvc.study import Status, Study

    Told = dict[str, Status | StudyError]  # by the name of the study


def list_(storage: Storage = None, as_json: Json = False) -> None:
    """List the studies, oldest first; beneath each, the one that confirms it."""
    from tunesvc import study
    from tunesvc.cli import show
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        found = _beneath({name: _status(store, name) for name in study.names(store)})
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


def _beneath(found: Told) -> Told:
    """Return the same studies, each followed by the one that confirms it."""
    places = {name: place for place, name in enumerate(found)}

    def order(name: str) -> tuple[int, bool]:
        of = _confirmed(found[name])
        return places.get(of, places[name]), of in places

    return {name: found[name] for name in sorted(found, key=order)}


def _confirmed(told: Status | StudyError) -> str:
    """Return the name of the study that this one confirms; "" where it confirms none."""
    return "" if isinstance(told, Exception) else told.confirms


def _study_as_json(name: str, told: Status | StudyError) -> dict[str, Any]:
    if isinstance(told, Exception):
        return {"study": name, "state": "unreadable", "why": told.why}
    return told.as_json()


def _row(name: str, told: Status | StudyError) -> tuple[str, ...]:
    from tunesvc.cli import show

    if isinstance(told, Exception):
        return name, "unreadable", *("–",) * 4
    best = "–" if told.best is None else f"{told.metric} {told.best.value:.4f}"
    done = show.done(told)
    left = "–" if told.eta_seconds is None else show.duration(told.eta_seconds)
    if told.confirms:  # its best single run is only the luckiest
        name, best = f"  {name}", f"confirms {told.confirms}"
    return name, told.state, done, str(told.trials["running"]), left, best


def status(
    name: StudyName,
    watch: Annotated[bool, typer.Option("--watch", help="Follow until it is done.")] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show how far a study is."""
    from tunesvc import study
    from tunesvc.cli import show
    from tunesvc.results import pareto
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        opened = study.open_study(store, name)
        now = study.status(opened)
        if as_json:
            print_json(now.as_json() | {"pareto": [one.as_json() for one in pareto(opened)]})
            return
        if not watch:
            show.print_status(now, pareto(opened))
            return
        with show.Progress(name, None, []) as progress:
            while now.state != "done":
                progress.update(now)
                time.sleep(1)
                now = study.status(opened)
        show.print_status(now, pareto(opened))


def best(
    name: StudyName,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            help='The best of what fits: "latency_ms <= 3 and params_m <= 6"; costs and metrics.',
            metavar="CAPS",
        ),
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show the best trial of a study and the table of backbone × strategy."""
    from tunesvc import study
    from tunesvc.cli import show_results
    from tunesvc.results import results
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        opened = study.open_study(store, name)
        if where is not None:
            _best_that_fits(opened, where, as_json)
            return
        found = results(opened)
    if as_json:
        print_json(found.as_json())
    else:
        show_results.print_results(found)


def _best_that_fits(opened: Study, where: str, as_json: bool) -> None:
    from tunesvc.analysis.feasible import feasible, known
    from tunesvc.cli.show_feasible import print_feasible
    from tunesvc.results import trials
    from tunesvc.spec import caps

    table = trials(opened)
    found = feasible(table, caps.parse(where, known(table)))
    if as_json:
        print_json(
            {"study": table.study, "metric": table.metric, "direction": table.direction}
            | found.as_json()
        )
    else:
        print_feasible(found, table)


def workers(storage: Storage = None, as_json: Json = False) -> None:
    """List the workers of every host, oldest first: what they run, and when they were last seen."""
    from tunesvc import leases
    from tunesvc.cli import show
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        found = leases.workers(store.engine)
    if as_json:
        print_json([worker.as_json() for worker in found])
    elif not found:
        typer.echo("no worker runs; start one with:  tunesvc worker")
    else:
        columns = ("host", "state", "pid", "device", "study", "trial", "epoch", "last seen")
        show.table(columns, (_worker_row(worker) for worker in found))


def _worker_row(worker: Worker) -> tuple[str, ...]:
    from tunesvc.cli import show

    facts = (worker.pid, worker.device, worker.study, worker.trial, worker.epoch)
    shown = ("–" if fact is None else str(fact) for fact in facts)
    seen = f"{show.duration(max(0.0, worker.seen_seconds_ago))} ago"
    return worker.host, worker.state, *shown, seen
