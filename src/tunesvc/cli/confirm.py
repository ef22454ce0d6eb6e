"""The command that runs the best configurations again."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc.cli.options import Device, Json, Precision, Storage, StudyName, print_json

if TYPE_CHECKING:
    from tunesvc.cli.show import Progress
    from tunesvc.confirm import Standing, Wish
    from tunesvc.errors import TrainingError
    from tunesvc.study import Status, Study
    from tunesvc.up import Fleet

_GRACE_SECONDS = 10.0  # so long no worker may be seen before one is started here


def confirm(
    name: StudyName,
    top: Annotated[int, typer.Option("--top", min=1, help="So many of the best.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="New seeds of each.")] = 5,
    ablation: Annotated[
        bool,
        typer.Option("--ablation", help="Run the way from the default to the best, too."),
    ] = False,
    ablation_seeds: Annotated[
        int, typer.Option("--ablation-seeds", min=1, help="With --ablation: of each step.")
    ] = 1,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Start none here; wait for others.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Where none serves it; default: one per GPU, two on a CPU."),
    ] = None,
    device: Device = None,
    precision: Precision = "auto",
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Run the best of a study again with new seeds, and tell what they are really worth.

    The runs are trials of the study NAME.confirm. After three seeds the clearly worse get no more.
    Each is scored once on the test split. Killed or stopped, the same command goes on.
    """
    from tunesvc import study
    from tunesvc.analysis.table import Unsupported
    from tunesvc.confirm import Wish, found
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.storage import open_store

    wish = Wish(top, seeds, ablation_seeds if ablation else 0)
    try:
        with stoppable(), open_store(storage) as store:
            made = study.open_study(store, name)
            watch = _Watch(
                made, wish, storage, workers, device, precision, no_worker, quiet=as_json
            )
            standing = watch.follow()
            outcome = found(made)
    except Stopped as stop:
        again = shlex.join(["tunesvc", *sys.argv[1:]])
        typer.echo(f"stopped; the same command continues:  {again}", err=True)
        raise typer.Exit(130) from stop
    if isinstance(outcome, Unsupported):
        raise _fruitless(standing.companion.name)
    if as_json:
        print_json({"study": name, "companion": standing.companion.name} | asdict(outcome))
    else:
        from tunesvc.cli.show_confirmation import print_confirmation

        print_confirmation(standing.companion.name, outcome)


def _fruitless(name: str) -> TrainingError:
    from tunesvc.errors import TrainingError

    return TrainingError(
        f"no run of {name} came to its end",
        "every one of them failed or diverged; the study's own trials did not",
        "tunesvc dashboard shows each one's reason",
    )


@dataclass
class _Watch:
    """One command at work: it orders runs, and sees to it that somebody runs them."""

    made: Study
    wish: Wish
    storage: str | None
    workers: int | None
    device: str | None
    precision: Precision
    no_worker: bool
    quiet: bool
    _told: set[str] = field(default_factory=set)
    _alone_since: float | None = -inf  # the first time, nobody waits

    def follow(self) -> Standing:
        """Order and wait until nothing is left to do.

        Raises:
            TuneError: the runs fail, or this machine's workers cannot go on.
        """
        from tunesvc.cli import show
        from tunesvc.processes import registered

        standing = self._advance()
        name = standing.companion.name
        with ExitStack() as stack:
            stack.enter_context(registered("confirm", [name]))
            progress = None if self.quiet else stack.enter_context(show.Progress(name, None, []))
            fleet: Fleet | None = None
            while not standing.is_done:
                now = self._status(standing)
                self._show(progress, standing, now)
                self._check(now)
                if fleet is None and self._is_alone(name):
                    fleet = stack.enter_context(self._fleet(name, progress))
                if fleet is not None:
                    fleet.tend(partial(self._say, progress))
                time.sleep(1)
                standing = self._advance()
        return standing

    def _advance(self) -> Standing:
        from tunesvc.confirm import advance
        from tunesvc.storage import patiently

        return patiently(lambda: advance(self.made, self.wish), revive=self.made.store.revive)

    def _status(self, standing: Standing) -> Status:
        from tunesvc import study
        from tunesvc.storage import patiently

        revive = self.made.store.revive
        return patiently(lambda: study.status(standing.companion), revive=revive)

    def _show(self, progress: Progress | None, standing: Standing, now: Status) -> None:
        for note in (*standing.notes, *(f"{name} is clearly worse" for name in standing.out)):
            if note not in self._told:
                self._told.add(note)
                self._say(progress, note)
        if progress:
            progress.update(now)

    @staticmethod
    def _say(progress: Progress | None, line: str) -> None:
        if progress:
            progress.note(line)
        else:  # standard output is for JSON alone
            typer.echo(line, err=True)

    @staticmethod
    def _check(now: Status) -> None:
        """Raise StudyError or TrainingError if the runs are paused."""
        from tunesvc.errors import StudyError
        from tunesvc.study import paused_error

        if now.state == "paused" and now.why:
            raise paused_error(now)
        if now.state == "paused":
            raise StudyError(
                f"{now.study} is paused",
                "somebody asked for it (tunesvc pause)",
                f"tunesvc resume {now.study}, then the same command",
            )

    def _is_alone(self, name: str) -> bool:
        """Whether no worker has served the runs for a while, and one is to be started here."""
        from tunesvc import leases
        from tunesvc.cli.govern import serves

        names = [name, *([self.made.name] if self.made.spec.confirmation else [])]
        known = leases.workers(self.made.store.engine)
        if any(serves(worker, each) for worker in known for each in names):
            self._alone_since = None
            return False
        if self.no_worker:
            return self._tell_how(name)
        self._alone_since = self._alone_since or time.monotonic()
        return time.monotonic() - self._alone_since > _GRACE_SECONDS

    def _tell_how(self, name: str) -> bool:
        if "how" not in self._told:
            self._told.add("how")
            typer.echo(f"no worker serves {name}; start one:  tunesvc worker --study {name}",
                       err=True)  # fmt: skip
        return False

    def _fleet(self, name: str, progress: Progress | None) -> Fleet:
        from tunesvc.cli.up import bury
        from tunesvc.up import Fleet, placements

        devices = placements(self.workers, self.device)
        self._say(progress, f"no worker serves {name}; {len(devices)} started here")
        ending = partial(bury, self.made.store)
        return Fleet(
            *(name, self.storage, devices, None, ending),
            until_done=False,
            precision=self.precision,
        )
