"""Commands that set a server up; containers run them, and every one may be run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesvc.cli.options import Storage


def secrets(
    folder: Annotated[Path, typer.Argument(help="For the database's password.", metavar="DIR")],
    access: Annotated[
        Path | None, typer.Option("--access", help="Folder for the dashboard's first user.")
    ] = None,
) -> None:
    """Make the passwords that a server needs, where they are missing; print none of them."""
    from tunesvc.storage import password_file

    path = folder / "postgres_password"
    _tell(path, password_file.make(path, password_file.READABLE))
    if access is None:
        return
    from tunesvc.dashboard import first_user

    is_new = first_user.make(access)
    _tell(access / first_user.USERS, is_new)
    if is_new:
        typer.echo(
            f"log in to the dashboard as {first_user.NAME}; "
            f"the password is in {access / first_user.PASSWORD}"
        )


def _tell(path: Path, is_new: bool) -> None:
    typer.echo(f"{path}: {'made' if is_new else 'there already, untouched'}")


def migrate(storage: Storage = None) -> None:
    """Make the database's tables, or bring them up to date; nothing happens if they are."""
    from tunesvc import storage as rooms

    for whose, (before, now) in rooms.migrate(storage).items():
        typer.echo(f"{whose}'s tables: {_done(before, now)}")


def _done(before: str | None, now: str) -> str:
    if before is None:
        return f"made (version {now})"
    return f"up to date (version {now})" if before == now else f"brought from {before} to {now}"
