"""Commands that run things on this machine."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesvc.cli.options import Device, Json, Name, Settings, Storage, print_json

if TYPE_CHECKING:
    from tunesvc.study import Study


def up(
    file: Annotated[Path, typer.Argument(help="Study file; its study is created or continued.")],
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Return when the study is done.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Default: one per GPU, or two on a CPU.")
    ] = None,
    device: Device = None,
    name: Name = None,
    settings: Settings = None,
    port: Annotated[int | None, typer.Option("--port", help="Of the dashboard.")] = None,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard")] = False,
    storage: Storage = None,
) -> None:
    """Start everything on this machine: storage, study, dashboard, workers; show progress."""
    from tunesvc import study
    from tunesvc.cli import show
    from tunesvc.cli.studies import checked, create
    from tunesvc.dashboard import FIRST_PORT, free_port
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.processes import registered
    from tunesvc.spec import load
    from tunesvc.storage import guard, open_store
    from tunesvc.up import Fleet, placements

    spec = load(file, name=name, settings=settings or ())
    report = checked(spec, file.parent)
    devices = placements(workers, device)
    try:
        with stoppable(), open_store(storage) as store, guard():
            made = create(store, spec, file.parent, report)
            chosen = None if no_dashboard else port or free_port(FIRST_PORT)
            with (
                registered("up", [made.name]),
                Fleet(made.name, storage, devices, chosen) as fleet,
                show.Progress(made.name, fleet.url, devices) as progress,
            ):
                while fleet.tend() or not until_done:
                    progress.update(study.status(made))
                    time.sleep(1)
                progress.update(study.status(made))
            _finish(made, devices[0])
    except Stopped as stop:
        typer.echo(f"stopped; the same command continues:  tunesvc up {file}", err=True)
        raise typer.Exit(130) from stop


def _finish(made: Study, device: str) -> None:
    """Score the winner on the test split, print the outcome and what to do next.

    Raises:
        TrainingError: no trial came to its end.
    """
    from tunesvc import places
    from tunesvc.cli import show
    from tunesvc.errors import StudyError, TrainingError
    from tunesvc.results import results
    from tunesvc.train import place
    from tunesvc.trial import Desk, score

    found = results(made)
    if found.status.best is None:
        raise TrainingError(
            f"no trial of {made.name!r} came to its end",
            f"{found.status.trials['fail']} failed, {found.status.trials['pruned']} were pruned",
            f"tunesvc dashboard shows each trial's reason; logs are in {places.logs()}",
        )
    desk = Desk(made, places.cache(), places.artifacts())
    try:
        score(desk, found.status.best.trial, place(device))
    except StudyError as error:  # it was trained on another machine
        typer.echo(str(error), err=True)
    show.print_results(results(made))
    typer.echo(
        "\nnext:\n"
        "  tunesvc dashboard                       every trial, in the browser\n"
        f"  tunesvc best {made.name + ' --json':<27}the winner, for a script\n"
        "  tunesvc new-study --data YOUR_FOLDER    the same for your own images"
    )


def worker(
    study: Annotated[
        list[str] | None, typer.Option("--study", help="Serve only this one; may be repeated.")
    ] = None,
    device: Device = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Return when the served studies are done.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Run trials: of all open studies, oldest first, or of the named ones."""
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.processes import registered
    from tunesvc.worker import serve

    logging.getLogger("tunesvc").setLevel(logging.INFO)
    names = study or []
    try:
        with stoppable(), registered("worker", names):
            serve(storage, names, device=device, until_done=until_done, on_trial=typer.echo)
    except Stopped as stop:
        typer.echo(f"stopped by {stop}; the trial under way waits for the next worker", err=True)
        raise typer.Exit(130) from stop


def stop(
    study: Annotated[str | None, typer.Argument(help="Only what serves this study.")] = None,
    server: Annotated[
        bool, typer.Option("--server", help="Stop the embedded Postgres server too.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Stop the server even while others use it.")
    ] = False,
) -> None:
    """Stop this machine's workers; their trials wait for the next ones."""
    from tunesvc import processes
    from tunesvc.storage.server import stop as stop_server

    asked = processes.stop(study)
    for process in asked:
        typer.echo(f"asked {process.role} {process.pid} to stop")
    left = time.monotonic() + 15
    while processes.running() and asked and time.monotonic() < left:
        time.sleep(0.2)
    if server:
        typer.echo("server stopped" if stop_server(force=force) else "no server was running")
    elif not asked:
        typer.echo("nothing to stop")


def dashboard(
    port: Annotated[int | None, typer.Option("--port", help="Default: 8080 or the next.")] = None,
    storage: Storage = None,
) -> None:
    """Serve optuna-dashboard on 127.0.0.1."""
    from tunesvc.dashboard import FIRST_PORT, HOST, free_port, serve
    from tunesvc.interrupt import Stopped, stoppable

    chosen = port or free_port(FIRST_PORT)
    typer.echo(f"http://{HOST}:{chosen}  (no login: this machine only; Ctrl-C stops it)")
    try:
        with stoppable():
            serve(storage, chosen)
    except Stopped as stop:
        raise typer.Exit(130) from stop


def pretrain(
    file: Annotated[Path, typer.Argument(help="Pretraining file (studies/pretrain/*.yaml).")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; default: weights/NAME.")
    ] = None,
    keep_epochs: Annotated[
        bool, typer.Option("--keep-epochs", help="Keep the weights of every epoch.")
    ] = False,
    device: Device = None,
) -> None:
    """Train a backbone from scratch and write its weights."""
    from tunesvc.pretrain import pretrain as train

    written = train(file, out=out, keep_epochs=keep_epochs, device=device, on_epoch=typer.echo)
    typer.echo(f"wrote {written}; use it as `weights: {written}/weights.safetensors`")


def doctor(storage: Storage = None, as_json: Json = False) -> None:
    """Show versions, devices, storage, caches and free disk; name what is wrong."""
    from tunesvc.cli.show import print_facts
    from tunesvc.doctor import examine

    facts: dict[str, Any] = examine(storage)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
    if facts["problems"]:
        raise typer.Exit(facts["problems"][0]["exit_code"])
