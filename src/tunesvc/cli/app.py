"""The command tree. Each command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesvc.cli import (
    access,
    confirm,
    cost,
    export,
    exported,
    govern,
    health,
    inspect,
    machine,
    predict,
    report,
    serve,
    server,
    studies,
    tidy,
    up,
)

app = typer.Typer(
    name="tunesvc",
    help="Tune how pretrained models are fine-tuned: studies in Postgres, workers anywhere.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from tunesvc import __version__

        typer.echo(f"tunesvc {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    pass


for _name, _command in (
    ("up", up.up),
    ("new-study", studies.new_study),
    ("check", studies.check),
    ("worker", machine.worker),
    ("list", inspect.list_),
    ("status", inspect.status),
    ("best", inspect.best),
    ("confirm", confirm.confirm),
    ("report", report.report),
    ("export", export.export),
    ("workers", inspect.workers),
    ("pause", govern.pause),
    ("resume", govern.resume),
    ("retry", govern.retry),
    ("stop", govern.stop),
    ("delete", tidy.delete),
    ("gc", tidy.gc),
    ("dashboard", serve.dashboard),
    ("predict", predict.predict),
    ("evaluate", exported.evaluate),
    ("reproduce", exported.reproduce),
    ("cost", cost.cost),
    ("pretrain", machine.pretrain),
    ("schema", studies.schema),
    ("secrets", server.secrets),
    ("migrate", server.migrate),
    ("doctor", machine.doctor),
):
    app.command(_name)(_command)

app.add_typer(access.user, name="user")
app.add_typer(health.health, name="health")
