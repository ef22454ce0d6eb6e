"""How a process ends that has loaded much: at once, with nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_LOADED = "import gc; gc.freeze(); gc.collect()\n"


def _run(script: str) -> tuple[int, str, str]:
    buffered = {name: each for name, each in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=buffered
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (_LOADED, "registered\n"),
        ("", "came back\nregistered\n"),
        (
            _LOADED + "import threading, time; "
            "threading.Thread(target=lambda: (time.sleep(0.5), print('thread'))).start()\n",
            "came back\nthread\nregistered\n",
        ),
    ],
    ids=["loaded", "nothing loaded", "a thread at work"],
)
def test_what_is_registered_is_done_and_what_is_printed_comes_out(before: str, says: str) -> None:
    script = (
        f"import atexit\natexit.register(print, 'registered')\n{before}"
        "from tunesvc.cli.leaving import leave\nprint('printed')\nleave(7)\n"
        "print('came back')\nraise SystemExit(7)"
    )
    assert _run(script) == (7, f"printed\n{says}", "")


@pytest.mark.parametrize("raised", ["SystemExit(3)", "SystemExit(0)", "KeyboardInterrupt"])
def test_a_command_ends_with_its_code(raised: str, tmp_path: Path) -> None:
    """The process's own command does, at once; one of a caller leaves the caller alone."""
    script = (
        "import os\nend = os._exit\n"
        "os._exit = lambda code: (print('left', flush=True), end(code))\n"
        f"import sys\nimport tunesvc.cli as cli, tunesvc.cli.app\n{_LOADED}"
        f"def app(args):\n    print(args)\n    raise {raised}\n"
        "tunesvc.cli.app.app = app\ntry:\n    cli.main(['x'])\nexcept SystemExit: pass\ncli.main()"
    )
    code = {"KeyboardInterrupt": 130}.get(raised) or int(raised[-2])
    assert _run(script) == (code, "['x']\nNone\nleft\n", "")


def test_standard_output_may_be_closed() -> None:
    script = (
        f"{_LOADED}import sys\nfrom tunesvc.cli.leaving import leave\nsys.stdout = None\nleave(0)"
    )
    assert _run(script) == (0, "", "")


def test_a_reader_that_has_gone_is_told_as_ever() -> None:
    script = (
        f"{_LOADED}import os, sys\nfrom tunesvc.cli.leaving import leave\n"
        "ours, theirs = os.pipe(); os.dup2(theirs, 1); os.close(theirs); os.close(ours)\n"
        "print('for nobody'); leave(0); print('came back', file=sys.stderr)"
    )
    code, _, says = _run(script)
    assert code == 120
    assert says.startswith("came back\n")
    assert "BrokenPipeError" in says
