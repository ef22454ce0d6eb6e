"""Commands that govern stored studies and those who work on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc.cli.options import Storage, StudyName

if TYPE_CHECKING:
    from tunesvc.leases import Worker
    from tunesvc.storage import Store
    from tunesvc.study import Study

STOP_SECONDS = 15.0  # `stop` waits this long


def pause(name: StudyName, storage: Storage = None) -> None:
    """Hand out no more trials of a study; running ones are kept and given back in an epoch."""
    from tunesvc import study
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        opened = study.open_study(store, name)
        before = study.status(opened)
        if before.state == "open":
            study.pause(opened)
    if before.state == "done":
        typer.echo(f"{name} is done: there is nothing to pause")
        return
    if before.state == "paused":
        typer.echo(f"{name} is paused already" + (f": {before.why}" if before.why else ""))
    else:
        typer.echo(f"{name} is paused{_given_back(before.trials['running'])}")
    typer.echo(f"go on with:  tunesvc resume {name}")


def _given_back(running: int) -> str:
    if not running:
        return ""
    trials = "1 running trial is" if running == 1 else f"{running} running trials are"
    return f"; {trials} being given back"


def resume(name: StudyName, storage: Storage = None) -> None:
    """Hand out trials of a paused study again."""
    from tunesvc import study
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        opened = study.open_study(store, name)
        study.resume(opened)
        state = study.status(opened).state
        how = how_to_run(store, name)
    if state == "done":
        typer.echo(f"{name} is done: there is nothing to go on with")
    else:
        typer.echo(f"{name} is open{how}")


def retry(
    name: StudyName,
    failed: Annotated[bool, typer.Option("--failed", help="Put the failed trials back.")] = False,
    storage: Storage = None,
) -> None:
    """Put failed trials back: the same trials go on from their last checkpoints."""
    from tunesvc import study
    from tunesvc.errors import UsageError
    from tunesvc.storage import open_store

    if not failed:
        raise UsageError(
            "retry needs to know which trials",
            "those that failed can go on; complete and pruned ones have come to their end",
            f"tunesvc retry {name} --failed",
        )
    with open_store(storage) as store:
        opened = study.open_study(store, name)
        number = len(study.put_back(opened))
        paused = study.status(opened).state == "paused"
        how = how_to_run(store, name)
    if not number:
        typer.echo(f"no trial of {name} has failed")
        return
    trials = "1 failed trial" if number == 1 else f"{number} failed trials"
    after = f"; the study is paused, go on with:  tunesvc resume {name}" if paused else how
    typer.echo(f"put back {trials} of {name}{after}")


def how_to_run(store: Store, name: str) -> str:
    """Return how to start a worker; nothing if one serves the study."""
    if any(serves(worker, name) for worker in _workers(store)):
        return ""
    return f"; no worker serves it, start one:  tunesvc worker --study {name} --until-done"


def serves(worker: Worker, name: str) -> bool:
    """Whether a worker lives and takes trials of the study."""
    return not worker.is_lost and (not worker.studies or name in worker.studies)


def _workers(store: Store) -> list[Worker]:
    from tunesvc import leases

    return leases.workers(store.engine)


def stop(
    study: Annotated[
        str | None,
        typer.Argument(help="Only what serves this study, on every host.", metavar="STUDY"),
    ] = None,
    server: Annotated[
        bool, typer.Option("--server", help="Stop the embedded Postgres server too.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Stop the server even while others use it.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Stop this machine's workers and dashboards; with a study, its workers on every host.

    Trials under way are kept, and wait for the next workers.
    """
    from tunesvc import processes
    from tunesvc.errors import UsageError
    from tunesvc.storage.server import stop as stop_server

    if storage and not study:
        raise UsageError(
            "--storage goes with a study",
            "without one, stop reaches the processes of this machine only, whatever they use",
            "tunesvc stop STUDY --storage URL",
        )
    told = _tell_all(study, storage) if study else []
    asked = processes.stop(study)
    for process in asked:
        typer.echo(f"asked {process.role} {process.pid} to stop")
    for worker in told:
        typer.echo(f"told worker {worker.pid} on {worker.host} to leave {study} within an epoch")
    left = processes.left_after(asked, STOP_SECONDS)
    for process in left:
        typer.echo(f"{process.role} {process.pid} still runs; end it with:  "
                   f"kill -9 {process.pid}", err=True)  # fmt: skip
    if server:
        typer.echo("server stopped" if stop_server(force=force) else "no server was running")
    elif not asked and not told:
        typer.echo("nothing to stop")
    if left:
        raise typer.Exit(1)


def _tell_all(name: str, storage: str | None) -> list[Worker]:
    """Have the workers of every host leave a study; return those that no signal of ours reaches.

    Raises:
        StudyError: there is no such study.
    """
    from tunesvc import confirm, study
    from tunesvc.errors import StorageError
    from tunesvc.storage import open_store, server
    from tunesvc.storage.address import given

    try:
        if given(storage) is None and not server.is_running():
            return []  # where no server runs, no worker does
        with open_store(storage) as store:
            opened = study.open_study(store, name)
            for each in (opened, *confirm.asked([opened])):  # the same workers serve both
                study.stop(each)
            return _out_of_reach(opened)
    except StorageError as error:
        typer.echo(f"workers on other hosts were not told: {error.what} ({error.why})", err=True)
        return []


def _out_of_reach(study: Study) -> list[Worker]:
    import socket

    from tunesvc import processes

    here = {process.pid for process in processes.running() if study.name in process.studies}
    return [
        worker
        for worker in _workers(study.store)
        if serves(worker, study.name) and not (worker.host == socket.gethostname()
                                               and worker.pid in here)
    ]  # fmt: skip
