"""Commands that make and check studies."""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc.cli.heap import imported
from tunesvc.cli.options import Json, Name, NoEstimate, Precision, Settings, Storage, print_json

if TYPE_CHECKING:
    from tunesvc.check import Report
    from tunesvc.spec import StudySpec
    from tunesvc.storage import Store
    from tunesvc.study import Study


def new_study(
    file: Annotated[Path | None, typer.Argument(help="Study file.")] = None,
    name: Name = None,
    settings: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and show, but store nothing.")
    ] = False,
    unchecked: Annotated[
        bool, typer.Option("--no-check", help="The data and weights are on other machines.")
    ] = False,
    no_estimate: NoEstimate = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Without a file: your folder of images.")
    ] = None,
    backbones: Annotated[
        str | None, typer.Option("--backbones", help="With --data: names, separated by commas.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="With --data: quick, balanced or thorough.")
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", help="With --data: budget.")] = None,
    storage: Storage = None,
) -> None:
    """Store a study: from a study file, or from a folder of images (--data)."""
    from tunesvc.spec import load

    home = file.parent if file else Path("studies")
    with TemporaryDirectory() as scratch:
        if file:
            _refuse_beside_file(data, backbones, preset, trials)
            path = file
        else:
            into = Path(scratch) if dry_run else home
            path = _write(data, backbones, preset, trials, name, into, home)
        spec = load(path, name=name, settings=settings or ())
    report = None if unchecked else checked(spec, home)
    if report and not no_estimate:
        tell_duration(report, spec, home)
    if dry_run:
        from tunesvc.cli.show import print_report

        if report:
            tell_dropped(report)
            print_report(report)
        typer.echo("dry run: nothing was stored")
        return
    from tunesvc.storage import open_store

    with open_store(storage) as store:
        made = create(store, spec, home, report)
        if report:
            tell_dropped(report, made)
        ready = _takers(store, made.name)
    on = f"{len(made.spec.backbones)} backbone(s)"
    typer.echo(f"study {made.name} is ready: {_amount(spec)} on {on}")
    if ready:
        typer.echo(
            f"{ready} worker(s) take its trials; watch them:  tunesvc status {made.name} --watch"
        )
        return
    again = [*(["--name", name] if name and file else []),
             *(f"--set={setting}" for setting in settings or ())]  # fmt: skip
    up = shlex.join(["tunesvc", "up", str(path), *again])
    typer.echo(f"start workers on this machine:  {up}")
    typer.echo(f"or on any:                      tunesvc worker --study {made.name}")


def _takers(store: Store, name: str) -> int:
    """Return how many workers, of all hosts, take a study's trials."""
    from tunesvc.leases import workers

    served = (each.studies for each in workers(store.engine) if not each.is_lost)
    return sum(not studies or name in studies for studies in served)


def _amount(spec: StudySpec) -> str:
    """Return how much a study may take: `30 trials`, `500 epochs, 8 hours`."""
    budget = spec.budget
    units = {
        "trials": budget.trials,
        "epochs": budget.epochs_total,
        "device hours": budget.gpu_hours,
        "hours": budget.hours,
    }
    return ", ".join(f"{most:g} {unit}" for unit, most in units.items() if most is not None)


def create(store: Store, spec: StudySpec, base: Path, report: Report | None) -> Study:
    """Store a checked study; the same one again is the same study."""
    from tunesvc import study

    return study.create(
        store,
        spec,
        base=base.absolute(),
        fingerprint=report.fingerprint if report else None,
        dropped=report.dropped if report else {},
    )


def checked(spec: StudySpec, base: Path) -> Report:
    """Return what a check found; every problem in one error."""
    with imported():
        from tunesvc.check import check as look

    report = look(spec, base.absolute())
    if report.problems:
        raise _all(report)
    return report


def tell_dropped(report: Report, made: Study | None = None) -> None:
    """Print which backbones are left out, and why, a line each.

    Args:
        made: the study; one that was stored before, unchecked, may have them still.
    """
    kept = made.spec.backbone_labels if made else ()
    for label, why in report.dropped.items():
        what = "stays, as the study was stored with it" if label in kept else "is left out"
        typer.echo(f"backbone {label} {what}: whatever its knobs are, it breaks {why}")


def tell_duration(
    report: Report, spec: StudySpec, base: Path, devices: list[str] | None = None
) -> None:
    """Print how long the study takes, or why nobody can tell; it is added to the report.

    Args:
        devices: of its workers; None: as `up` places them.
    """
    from tunesvc.check import tell
    from tunesvc.up import placements

    left = spec.without(report.dropped)
    tell(report, left, base.absolute(), devices or placements(None, None))
    found = report.facts["estimate"]
    typer.echo(found["about"] or f"no estimate of how long it takes: {found['why']}")


def _all(report: Report) -> Exception:
    """Return one error that tells of every problem, with the first one's exit code."""
    first, *rest = report.problems
    if not rest:
        return first
    return type(first)("\n\n".join(map(str, report.problems)))


def _write(
    data: Path | None,
    backbones: str | None,
    preset: str | None,
    trials: int | None,
    name: str | None,
    into: Path,
    home: Path,
) -> Path:
    """Write a commented study file for a folder of images, asking for what is missing."""
    import sys

    from tunesvc import scaffold
    from tunesvc.errors import UsageError

    ask = sys.stdin.isatty() and sys.stdout.isatty()
    if data is None and ask:
        data = Path(typer.prompt("Folder of images (one folder per class, or train/ and val/)"))
    if data is None:
        raise UsageError(
            "new-study needs a study file or --data DIR",
            "neither was given",
            "tunesvc new-study studies/quickstart.yaml, or tunesvc new-study --data photos",
        )
    if preset is None and ask:
        preset = typer.prompt("Preset (quick, balanced, thorough)", default="balanced")
    if backbones is None and ask:
        backbones = typer.prompt("Backbones, separated by commas (empty: the preset's)", default="")
    if trials is None and ask:
        trials = typer.prompt("Trials (0: the preset's)", default=0, type=int) or None
    chosen = [part.strip() for part in (backbones or "").split(",") if part.strip()] or None
    _refuse_unknown(chosen or [])
    path = scaffold.write_for_folder(
        data,
        backbones=chosen,
        preset=preset or "balanced",
        trials=trials,
        name=name,
        destination=into,
        home=home,
    )
    if into == home:
        typer.echo(f"wrote {path}: read it, change it, it is yours")
    else:  # a dry run's is gone in a moment
        typer.echo(path.read_text(encoding="utf-8"))
    return path


def _refuse_beside_file(
    data: Path | None, backbones: str | None, preset: str | None, trials: int | None
) -> None:
    """A file says all of it itself."""
    from tunesvc.errors import UsageError

    wishes = {"--data": data, "--backbones": backbones, "--preset": preset, "--trials": trials}
    given = [option for option, value in wishes.items() if value is not None]
    if given:
        raise UsageError(
            f"{given[0]} goes without a study file",
            "these options write a new study file, and one was given",
            "leave one of the two out; --set budget.trials=50 changes a key of a file",
        )


def _refuse_unknown(backbones: list[str]) -> None:
    """Nothing is written for a misspelt backbone."""
    from tunesvc.errors import UnknownNameError, suggest

    if not backbones:
        return
    with imported():
        from tunesvc.backbones import names

    for name in backbones:
        if name not in names():
            raise UnknownNameError(f"unknown backbone {name!r}", suggest(name, names()))


def check(
    file: Annotated[Path, typer.Argument(help="Study file.")],
    settings: Settings = None,
    no_estimate: NoEstimate = False,
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Look at everything that can be known before it begins, and how long it may take here.

    The estimate is for workers that are started with the same --precision.
    """
    with imported():
        from tunesvc.check import check as look
        from tunesvc.check import tell
    from tunesvc.cli.show import print_report
    from tunesvc.spec import load
    from tunesvc.up import placements

    spec = load(file, settings=settings or ())
    report = look(spec, file.parent.absolute())
    if not no_estimate:
        left = spec.without(report.dropped)
        tell(report, left, file.parent.absolute(), placements(None, None), precision)
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report)
    if report.problems:
        raise typer.Exit(report.problems[0].exit_code)


def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from tunesvc.spec import schema as make

    print_json(make())
