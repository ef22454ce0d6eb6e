"""The command that serves the dashboard."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from tunesvc.cli.options import Storage


def dashboard(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than this need a login.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="Default: 8080 or the next.")] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            "--users",
            help="Who may log in (tunesvc user add). Default: $TUNESVC_USERS, else users.yaml in "
            "$TUNESVC_HOME, if it is there.",
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            "--behind-proxy",
            metavar="ADDRESS",
            help="Address or host name of the proxy whose X-Forwarded-For and -Proto are believed.",
        ),
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure-cookies", help="TLS ends before us, whoever does not say so.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Serve optuna-dashboard, the reports and the status page."""
    from tunesvc.dashboard.listening import listening

    where = listening(host, port, users_file=users, proxy=proxy, is_tls=secure)
    typer.echo(where.told())

    from tunesvc.dashboard.serving import serve
    from tunesvc.interrupt import Stopped, stoppable
    from tunesvc.processes import registered

    logging.getLogger("tunesvc.dashboard").setLevel(logging.INFO)
    try:
        with stoppable(), registered("dashboard", []):
            serve(storage, where)
    except Stopped as stop:
        raise typer.Exit(130) from stop
