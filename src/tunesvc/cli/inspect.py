"""Commands that look at studies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc.cli.options import Json, Storage, StudyName, print_json

if TYPE_CHECKING:
    from tunesvc.study import Status


def list_(storage: Storage = None, as_json: Json = False) -> None:
    """List the studies, oldest first."""
    from tunesvc import study
    from tunesvc.cli import show
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        found = [study.status(study.open_study(store, name)) for name in study.names(store)]
    if as_json:
        print_json([each.as_json() for each in found])
    elif not found:
        typer.echo("no studies yet; make one with: tunesvc new-study studies/quickstart.yaml")
    else:
        columns = ("study", "state", "finished", "running", "best")
        show.table(columns, (_row(each) for each in found))


def _row(status: Status) -> tuple[str, ...]:
    best = "–" if status.best is None else f"{status.metric} {status.best.value:.4f}"
    done = f"{status.finished}/{status.budget_trials}"
    return status.study, status.state, done, str(status.trials["running"]), best


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
    from tunesvc.cli import show
    from tunesvc.results import results
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        found = results(study.open_study(store, name))
    if as_json:
        print_json(found.as_json())
    else:
        show.print_results(found)
