"""Commands that free what is of no more use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunesvc.cli.options import Json, Storage, StudyName, print_json

if TYPE_CHECKING:
    from tunesvc.gc import Garbage
    from tunesvc.shelf import Shelf
    from tunesvc.study import Study


def delete(
    name: StudyName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even while workers run it.")] = False,
    storage: Storage = None,
) -> None:
    """Delete a study, its trials and its checkpoints; with it the study that confirms it."""
    import sys

    from tunesvc import confirm, places, study
    from tunesvc.errors import UsageError
    from tunesvc.storage import open_store
    from tunesvc.storage.artifacts import open_artifacts

    shelf = open_artifacts(places.artifacts())
    with open_store(storage) as store:
        found = study.open_study(store, name)
        doomed = [each for each in (confirm.companion(found), found) if each]
        counts = [f"{x.name} with {study.status(x).finished} finished trials" for x in doomed[::-1]]
        question = f"Delete {', and '.join(counts)}?"
        if not yes and not (sys.stdin.isatty() and typer.confirm(question)):
            raise UsageError("nothing was deleted", "", "answer y, or add --yes")
        for each in doomed if not force else []:
            study.check_idle(each)
        for each in doomed:
            study.delete(each, force=force)
            typer.echo(f"{each.name} is deleted")
    for each in doomed:
        _clear(shelf, each)


def _clear(shelf: Shelf, found: Study) -> None:
    """Delete a deleted study's checkpoints."""
    from tunesvc.errors import StorageError
    from tunesvc.shelf import clear
    from tunesvc.study import artifact_folder

    try:
        clear(shelf, f"{artifact_folder(found)}/")
    except StorageError as error:
        raise StorageError(
            f"checkpoints of {found.name} are left: {error.what}",
            error.why,
            f"{error.fix}; then:  tunesvc gc",
        ) from error


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be freed; delete nothing.")
    ] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Free what lies among the artifacts and is of no more use.

    That is: checkpoints that no study's `keep` asks for, those of deleted studies, and what
    killed workers left half written. What another database owns is told of, and left.
    """
    from tunesvc import gc as collector
    from tunesvc import places
    from tunesvc.storage import open_store
    from tunesvc.storage.artifacts import open_artifacts

    shelf = open_artifacts(places.artifacts())
    with open_store(storage) as store:
        found = collector.find(store, shelf)
        if not dry_run:
            collector.free(shelf, found)
    if as_json:
        print_json(_as_json(shelf.location, found, dry_run))
    else:
        _tell(shelf.location, found, dry_run)


def _as_json(location: str, found: list[Garbage], dry_run: bool) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "artifacts": location,
        "dry_run": dry_run,
        "bytes": sum(item.bytes for item in found if item.kind != "foreign"),
        "found": [asdict(item) for item in found],
    }


def _tell(location: str, found: list[Garbage], dry_run: bool) -> None:
    from tunesvc.cli import show

    useless = [item for item in found if item.kind != "foreign"]
    foreign = [item for item in found if item.kind == "foreign"]
    if found:
        rows = ((item.name, item.why, show.size(item.bytes)) for item in [*useless, *foreign])
        show.table(("name", "why", "size"), rows)
    total = show.size(sum(item.bytes for item in useless))
    if not useless:
        typer.echo(f"nothing to free in {location}")
    elif dry_run:
        typer.echo(f"{total} would be freed in {location}; without --dry-run they are")
    else:
        typer.echo(f"{total} freed in {location}")
    if foreign:
        left = show.size(sum(item.bytes for item in foreign))
        typer.echo(f"{left} left: they are not of this database, delete them yourself if nobody's")
