"""Commands that run things on this machine."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesvc import places
from tunesvc.cli.heap import imported
from tunesvc.cli.options import Compile, Device, Json, Precision, Storage, WorkerDevice, print_json


def worker(
    study: Annotated[
        list[str] | None, typer.Option("--study", help="Serve only this one; may be repeated.")
    ] = None,
    device: WorkerDevice = None,
    compiling: Compile = "auto",
    precision: Precision = "auto",
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Return when the served studies are done.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Run trials: of all open studies, oldest first, or of the named ones."""
    with imported():
        from tunesvc.interrupt import Stopped, stoppable
        from tunesvc.processes import end_with_parent, pulse, registered
        from tunesvc.train import held
        from tunesvc.worker import serve

    logging.getLogger("tunesvc").setLevel(logging.INFO)
    names = study or []
    try:
        with stoppable(), registered("worker", names):
            end_with_parent()
            alive = partial(pulse, 60.0)  # it waits for a device, and is well
            with held(device, places.cache() / "devices", on_wait=alive) as chosen:
                serve(
                    storage, names, device=chosen, until_done=until_done, compiling=compiling,
                    precision=precision, on_trial=typer.echo,
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
            opened = study.open_study(store, name)
            now = study.status(opened)
            if now.state == "done" and now.best is None:
                from tunesvc.cli.up import fruitless
                from tunesvc.results import results

                raise fruitless(results(opened))


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
    with imported():
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
