"""Words in, words out: parse, call, print, exit code. No logic."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from tunesvc.cli.leaving import leave
from tunesvc.errors import TuneError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 ok, also of a worker that a signal stopped; 2 usage or study file, 3 storage,
    4 data, 5 training failed, 70 start this worker anew, 130 interrupted. `TUNESVC_DEBUG=1` shows
    tracebacks of user errors too.

    Args:
        arguments: those of the process itself if not given; it then ends here.
    """
    try:
        _run(arguments)
    except SystemExit as end:
        if arguments is None and isinstance(end.code, int):
            leave(end.code)
        raise


def _run(arguments: Sequence[str] | None) -> None:
    from tunesvc.cli.app import app

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app(args=list(arguments) if arguments is not None else None)
    except TuneError as error:
        if os.environ.get("TUNESVC_DEBUG"):
            raise
        _complain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(error: TuneError) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), str(error)))
