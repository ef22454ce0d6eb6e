"""`tunesvc health`: whether what runs on this machine, or in this container, is well.

Why: 2026-11: a container asks every few seconds. Nothing is imported here but what reads a small
file, or asks one question over HTTP.
"""

from __future__ import annotations

from typing import Annotated

import typer

DASHBOARD_URL = "http://127.0.0.1:8080"

health = typer.Typer(
    help="Exit with 0 if what runs here is well, else with 1 and a sentence that says why.",
    no_args_is_help=True,
)


@health.command("worker")
def _worker(
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.1,
            help="How long a worker may show no life. Default: what it said itself: as long as its "
            "lease lasts, and half a minute more for a Postgres that is away; a minute between two "
            "trials; 15 minutes for what comes before a study's first; 5 for its start.",
        ),
    ] = None,
) -> None:
    """Whether the threads that keep the leases of this machine's workers turn."""
    from tunesvc.processes import unwell

    _exit(unwell("worker", seconds))


@health.command("dashboard")
def _dashboard(
    url: Annotated[str, typer.Option("--url", help="Where it listens.")] = DASHBOARD_URL,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="How long it may take to answer.")
    ] = 8.0,
) -> None:
    """Whether the dashboard answers, and its database with it."""
    from tunesvc.dashboard.asking import unready

    _exit(unready(url, seconds))


def _exit(why: str) -> None:
    if why:
        typer.echo(why, err=True)
        raise typer.Exit(1)
