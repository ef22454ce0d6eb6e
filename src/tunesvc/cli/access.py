"""Commands about who may use the dashboard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesvc.cli.options import Json, print_json

user = typer.Typer(
    help="Who may use the dashboard: people with a password, scripts with a token.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="Of the person, or of the token.", metavar="NAME")]
Role = Annotated[
    Literal["reader", "editor"] | None,
    typer.Option("--role", help="reader: looks; editor: may change and delete. Default: reader."),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--users",
        "--file",
        help="Default: $TUNESVC_USERS, else users.yaml in $TUNESVC_HOME.",
        show_default=False,
    ),
]


@user.command()
def add(name: Name, role: Role = None, file: File = None) -> None:
    """Let a person log in, or change the password or the role; the password is asked for.

    It is read from standard input where that is no terminal. Whoever is logged in by this name is
    logged out.
    """
    from tunesvc.dashboard import users

    path = file or users.default_path()
    is_new = users.add(path, name, _password(), role)
    now = f"{'may log in' if is_new else 'is changed'}, as {users.read(path)[name].role}"
    typer.echo(f"{name} {now} ({path})")


@user.command("list")
def list_(file: File = None, as_json: Json = False) -> None:
    """Show who may use the dashboard."""
    from tunesvc.cli import show
    from tunesvc.dashboard import users

    known = users.read(file or users.default_path())
    rows = [
        (name, each.role, "token" if each.token else "password") for name, each in known.items()
    ]
    if as_json:
        print_json([dict(zip(("name", "role", "by"), row, strict=True)) for row in rows])
    else:
        show.table(("name", "role", "by"), rows)


@user.command()
def remove(name: Name, file: File = None) -> None:
    """Let nobody in by this name any more; who is logged in is logged out."""
    from tunesvc.dashboard import users

    users.remove(file or users.default_path(), name)
    typer.echo(f"{name} is removed")


@user.command()
def token(name: Name, role: Role = None, file: File = None) -> None:
    """Make a token for a script or for Prometheus, and show it this once.

    It is sent as `Authorization: Bearer TOKEN`. A token that had the name before is good no more.
    """
    from tunesvc.dashboard import users

    typer.echo(users.new_token(file or users.default_path(), name, role or "reader"))
    typer.echo("it is shown only now; send it as  Authorization: Bearer TOKEN", err=True)


def _password() -> str:
    """Return the password that somebody types twice, or a program sends on one line."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
