"""The command that runs a whole study on this machine."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc import places
from tunesvc.cli.heap import imported
from tunesvc.cli.options import Compile, Device, Name, Precision, Settings, Storage

if TYPE_CHECKING:
    from tunesvc.cli.show import Progress
    from tunesvc.confirm import Asked, Standing
    from tunesvc.errors import TrainingError
    from tunesvc.results import Results
    from tunesvc.storage import Store
    from tunesvc.study import Status, Study
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
    precision: Precision = "auto",
    name: Name = None,
    settings: Settings = None,
    port: Annotated[int | None, typer.Option("--port", help="Of the dashboard.")] = None,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard")] = False,
    storage: Storage = None,
) -> None:
    """Start everything on this machine: storage, study, dashboard, workers; show progress.

    With `confirm: true` in the file, the best are run again with new seeds when the study is done.
    """
    from tunesvc import study
    from tunesvc.cli import show
    from tunesvc.cli.studies import checked, create, tell_dropped
    from tunesvc.dashboard.listening import listening
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.processes import registered
    from tunesvc.spec import load
    from tunesvc.storage import open_store
    from tunesvc.up import AUTO, Fleet, placements

    spec = load(file, name=name, settings=settings or ())
    devices = placements(workers, device, per_device)
    where = None if no_dashboard else listening(port=port)
    address = where.briefly() if where else None
    report = checked(spec, file.parent)
    try:
        with stoppable(), open_store(storage) as store:
            made = create(store, spec, file.parent, report)
            tell_dropped(report, made)
            _check_confirmation(made)
            now = study.status(made)
            if now.state == "paused":
                _tell_paused(now)
            packing = _packing(made, devices) if per_device == AUTO else None
            if now.state != "paused" or not until_done:
                with (
                    registered("up", [made.name]),
                    Fleet(
                        made.name,
                        storage,
                        devices,
                        where.port if where else None,
                        partial(bury, store),
                        packing,
                        compiling=compiling,
                        precision=precision,
                    ) as fleet,
                    show.Progress(made.name, address, devices) as progress,
                ):
                    now = _Watch(made, fleet, progress, until_done).follow()
                if now.state == "paused":
                    _tell_paused(now)
            if now.state == "done":
                _finish(made, devices[0], precision)
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


def _check_confirmation(made: Study) -> None:
    """Raise StudyError if the file asks for a confirmation that cannot be stored."""
    if made.spec.confirmation:
        from tunesvc.confirm import check

        check(made)


def _tell_paused(now: Status) -> None:
    """Say that a study is paused.

    Raises:
        TrainingError: nobody asked for it: its trials fail alike.
    """
    from tunesvc.study import paused_error

    if now.why:
        raise paused_error(now)
    typer.echo(f"study {now.study} is paused; resume it with:  tunesvc resume {now.study}")


@dataclass
class _Watch:
    """One command at work: it tends the workers and shows how far they are.

    When the study is done and its file asks for it, the same workers run its best again.
    """

    made: Study
    fleet: Fleet
    progress: Progress
    until_done: bool
    _told: set[str] = field(default_factory=set)
    _asked: Asked | None = None

    def follow(self) -> Status:
        """Show progress until all is done, or paused with nothing under way; or for ever.

        Raises:
            TuneError: the workers cannot go on, and all is not done.
        """
        from tunesvc.errors import TuneError

        while True:
            try:
                working = self.fleet.tend(self.progress.note)
            except TuneError:
                if self._look().state != "done":
                    raise
                working = False
            now = self._look()
            self.progress.update(now)
            is_idle = now.state == "paused" and not now.trials["running"]
            if self.until_done and (is_idle or not working):
                return now
            if now.state == "done" and not self.until_done:
                self._say(f"done; Ctrl-C leaves. The outcome:  tunesvc best {self.made.name}")
            time.sleep(1)

    def _look(self) -> Status:
        """Return how the study stands; its companion, while that confirms it."""
        now = _status(self.made)
        if now.state != "done" or not self.made.spec.confirmation:
            return now
        standing = self._advanced()
        if standing is None:
            return now
        name = standing.companion.name
        self._say(f"{self.made.name} is done; its best are run again with new seeds, as {name}")
        for note in (*standing.notes, *(f"{one} is clearly worse" for one in standing.out)):
            self._say(note)
        return now if standing.is_done else _status(standing.companion)

    def _advanced(self) -> Standing | None:
        from tunesvc.confirm import Asked
        from tunesvc.storage import patiently

        asked = self._asked = self._asked or Asked()
        return patiently(lambda: asked.advance(self.made), revive=self.made.store.revive)

    def _say(self, line: str) -> None:
        """Say something once."""
        if line not in self._told:
            self._told.add(line)
            self.progress.note(line)


def _finish(made: Study, device: str, precision: Precision) -> None:
    """Score the winner on the test split, print the outcome and what to do next.

    Raises:
        TrainingError: no trial came to its end.
    """
    from tunesvc.cli import show_results
    from tunesvc.errors import StudyError
    from tunesvc.results import results
    from tunesvc.storage.artifacts import open_artifacts

    with imported():
        from tunesvc.train import place
        from tunesvc.trial import Desk, score

    found = results(made)
    if found.status.best is None:
        raise fruitless(found)
    desk = Desk(made, places.cache(), open_artifacts(places.artifacts()))
    try:
        score(desk, found.status.best.trial, place(device, precision=precision))
    except StudyError as error:  # it was trained on another machine
        typer.echo(str(error), err=True)
    show_results.print_results(results(made))
    _print_confirmation(made)
    typer.echo(
        "\nnext:\n"
        "  tunesvc dashboard                       every trial, in the browser\n"
        f"  tunesvc best {made.name + ' --json':<27}the winner, for a script\n"
        f"  tunesvc export {made.name + ' -o DIR':<25}the winner as a model to use\n"
        "  tunesvc new-study --data YOUR_FOLDER    the same for your own images"
    )


def _print_confirmation(made: Study) -> None:
    if not made.spec.confirmation:
        return
    from tunesvc.analysis.table import Unsupported
    from tunesvc.cli.show_confirmation import print_confirmation
    from tunesvc.confirm import SUFFIX, found

    outcome = found(made)
    typer.echo()
    if isinstance(outcome, Unsupported):
        typer.echo(f"not confirmed: {outcome.why}")
    else:
        print_confirmation(made.name + SUFFIX, outcome)


def fruitless(found: Results) -> TrainingError:
    """Return what to say of a study that is done and has no best trial."""
    from tunesvc.errors import TrainingError

    status, nearest = found.status, found.nearest
    if nearest is not None:
        return TrainingError(
            f"no trial of {status.study!r} keeps its constraints",
            f"trial {nearest.trial} comes nearest: {nearest.told}",
            "raise that constraint, in a study of another name (--name), or add smaller backbones",
        )
    return TrainingError(
        f"no trial of {status.study!r} came to its end",
        f"{status.trials['fail']} failed, {status.trials['pruned']} were pruned",
        f"tunesvc dashboard shows each trial's reason; logs are in {places.logs()}",
    )
