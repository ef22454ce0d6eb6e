"""Commands that run things on this machine."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesvc import places
from tunesvc.cli.options import Compile, Device, Json, Name, Settings, Storage, print_json

if TYPE_CHECKING:
    from tunesvc.cli.show import Progress
    from tunesvc.errors import TrainingError
    from tunesvc.storage import Store
    from tunesvc.study import State, Status, Study
    from tunesvc.up import Fleet, Packing


def up(
    file: Annotated[Path, typer.Argument(help="Study file; its study is created or continued.")],
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Return when the study is done.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Default: one per GPU, or two on a CPU.")
    ] = None,
    per_device: Annotated[
        str | None,
        typer.Option(
            "--trials-per-device",
            metavar="auto|N",
            help="Workers on each device, at the cost of each one's speed. Default: 1 on a GPU. "
            "auto: one, and up to 4 once three trials have shown how many fit into its memory. "
            "Workers on one NVIDIA GPU take turns unless nvidia-cuda-mps-control -d runs.",
        ),
    ] = None,
    device: Device = None,
    compiling: Compile = "auto",
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
    from tunesvc.dashboard import checked_port
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.processes import registered
    from tunesvc.spec import load
    from tunesvc.storage import open_store
    from tunesvc.up import AUTO, Fleet, placements

    spec = load(file, name=name, settings=settings or ())
    devices = placements(workers, device, per_device)
    chosen = None if no_dashboard else checked_port(port)
    report = checked(spec, file.parent)
    try:
        with stoppable(), open_store(storage) as store:
            made = create(store, spec, file.parent, report)
            state = study.status(made).state
            if state == "paused":
                _tell_paused(made)
            packing = _packing(made, devices) if per_device == AUTO else None
            if state != "paused" or not until_done:
                with (
                    registered("up", [made.name]),
                    Fleet(
                        made.name,
                        storage,
                        devices,
                        chosen,
                        partial(bury, store),
                        packing,
                        compiling=compiling,
                    ) as fleet,
                    show.Progress(made.name, fleet.url, devices) as progress,
                ):
                    state = _follow(made, fleet, progress, until_done)
                if state == "paused":
                    _tell_paused(made)
            if state == "done":
                _finish(made, devices[0])
    except Stopped as stop:
        again = shlex.join(["tunesvc", *sys.argv[1:]])
        typer.echo(f"stopped; the same command continues:  {again}", err=True)
        raise typer.Exit(130) from stop


def bury(store: Store, worker_id: str) -> None:
    """Free what a worker of this machine held when it was killed."""
    from tunesvc import leases
    from tunesvc.storage import patiently

    patiently(lambda: leases.expire(store.engine, worker_id), revive=store.revive)


def _packing(made: Study, devices: list[str]) -> Packing:
    """Return how a study's workers share the devices; it waits while Postgres is away."""
    from tunesvc.storage import patiently
    from tunesvc.up import Packing, look, rooms

    return Packing(rooms(devices), lambda: patiently(lambda: look(made), revive=made.store.revive))


def _status(made: Study) -> Status:
    """Return how a study stands, once Postgres answers: the workers wait for it too."""
    from tunesvc import study
    from tunesvc.storage import patiently

    return patiently(lambda: study.status(made), revive=made.store.revive)


def _tell_paused(made: Study) -> None:
    """Say that a study is paused.

    Raises:
        TrainingError: nobody asked for it: its trials fail alike.
    """
    from tunesvc.study import paused_error

    now = _status(made)
    if now.why:
        raise paused_error(now)
    typer.echo(f"study {made.name} is paused; resume it with:  tunesvc resume {made.name}")


def _follow(made: Study, fleet: Fleet, progress: Progress, until_done: bool) -> State:
    """Show progress until the study is done, or paused with nothing under way; or for ever.

    Raises:
        TuneError: the workers cannot go on, and the study is not done.
    """
    from tunesvc.errors import TuneError

    told = False
    while True:
        try:
            working = fleet.tend(progress.note)
        except TuneError:
            if _status(made).state != "done":
                raise
            working = False
        now = _status(made)
        progress.update(now)
        is_idle = now.state == "paused" and not now.trials["running"]
        if until_done and (is_idle or not working):
            return now.state
        if now.state == "done" and not told and not until_done:
            progress.note(f"done; Ctrl-C leaves. The outcome:  tunesvc best {made.name}")
            told = True
        time.sleep(1)


def _finish(made: Study, device: str) -> None:
    """Score the winner on the test split, print the outcome and what to do next.

    Raises:
        TrainingError: no trial came to its end.
    """
    from tunesvc.cli import show_results
    from tunesvc.errors import StudyError
    from tunesvc.results import results
    from tunesvc.storage.artifacts import open_artifacts
    from tunesvc.train import place
    from tunesvc.trial import Desk, score

    found = results(made)
    if found.status.best is None:
        raise _fruitless(found.status)
    desk = Desk(made, places.cache(), open_artifacts(places.artifacts()))
    try:
        score(desk, found.status.best.trial, place(device))
    except StudyError as error:  # it was trained on another machine
        typer.echo(str(error), err=True)
    show_results.print_results(results(made))
    typer.echo(
        "\nnext:\n"
        "  tunesvc dashboard                       every trial, in the browser\n"
        f"  tunesvc best {made.name + ' --json':<27}the winner, for a script\n"
        "  tunesvc new-study --data YOUR_FOLDER    the same for your own images"
    )


def _fruitless(status: Status) -> TrainingError:
    from tunesvc.errors import TrainingError

    return TrainingError(
        f"no trial of {status.study!r} came to its end",
        f"{status.trials['fail']} failed, {status.trials['pruned']} were pruned",
        f"tunesvc dashboard shows each trial's reason; logs are in {places.logs()}",
    )


def worker(
    study: Annotated[
        list[str] | None, typer.Option("--study", help="Serve only this one; may be repeated.")
    ] = None,
    device: Device = None,
    compiling: Compile = "auto",
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Return when the served studies are done.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Run trials: of all open studies, oldest first, or of the named ones."""
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.processes import end_with_parent, registered
    from tunesvc.worker import serve

    logging.getLogger("tunesvc").setLevel(logging.INFO)
    names = study or []
    try:
        with stoppable(), registered("worker", names):
            end_with_parent()
            serve(
                storage, names, device=device, until_done=until_done, compiling=compiling,
                on_trial=typer.echo,
            )  # fmt: skip
            _check_fruit(storage, names)
    except Stopped as stop:
        # Stopping is no error: a scheduler that ends a worker by a signal is to see a success.
        typer.echo(f"stopped by {stop}; the trial under way waits for the next worker", err=True)


def _check_fruit(storage: str | None, names: list[str]) -> None:
    """Raise TrainingError if a study is done without a single complete trial."""
    from tunesvc import study
    from tunesvc.storage import open_store

    if not names:
        return
    with open_store(storage) as store:
        for name in set(names) & set(study.names(store)):  # one may have been deleted
            now = study.status(study.open_study(store, name))
            if now.state == "done" and now.best is None:
                raise _fruitless(now)


def dashboard(
    port: Annotated[int | None, typer.Option("--port", help="Default: 8080 or the next.")] = None,
    storage: Storage = None,
) -> None:
    """Serve optuna-dashboard on 127.0.0.1."""
    from tunesvc.dashboard import HOST, checked_port
    from tunesvc.dashboard.serving import serve
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.processes import registered

    chosen = checked_port(port)
    typer.echo(f"http://{HOST}:{chosen}  (no login: this machine only; Ctrl-C stops it)")
    try:
        with stoppable(), registered("dashboard", []):
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
