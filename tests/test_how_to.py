"""docs/how-to.md, done from top to bottom as a stranger does it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from digit_files import write_digits
from page import Step, missing, steps

PAGE = Path(__file__).parents[1] / "docs" / "how-to.md"
SUPPORT = Path(__file__).parent / "support"


@pytest.fixture
def folder(tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `photos`, a Postgres of its own, and the commands of the page on the path."""
    work, tools, site = tmp_path / "work", tmp_path / "bin", tmp_path / "site"
    for made in (work / "studies", tools, site):
        made.mkdir(parents=True)
    write_digits(work / "photos", classes=4, each=30)
    for name, command in (("tunesvc", "-m tunesvc"), ("pip", f'"{SUPPORT / "installed.py"}"')):
        script = tools / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        script.chmod(0o755)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    for key, value in {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": path,
        "SITE": str(site),
        "TUNESVC_STORAGE": storage_url,
        "TUNESVC_ARTIFACTS": str(tmp_path / "artifacts"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(work)
    return work


def run(command: list[str]) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def told(step: Step, before: list[str]) -> str:
    """Take a step; return what it printed."""
    if step.kind == "file":
        Path(step.title).parent.mkdir(parents=True, exist_ok=True)
        Path(step.title).write_text(step.body, encoding="utf-8")
        return ""
    if step.kind == "sh":
        return run(["bash", "-euc", step.body])
    quiet = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    quiet += f"    exec({''.join(before)!r})\n"
    before.append(step.body)
    return run([sys.executable, "-W", "error", "-c", quiet + step.body])


@pytest.mark.slow
def test_every_block_does_what_the_page_says(folder: Path) -> None:
    """Files are written, commands and cells run, and they print what stands below them."""
    cells: dict[str, list[str]] = {}
    kinds = set()
    for step in steps(PAGE):
        printed = told(step, cells.setdefault(step.heading, []))
        line = missing(printed, step.printed)
        assert not line, f"{step.heading}: no line is like\n{line}\nin what was printed:\n{printed}"
        kinds.add(step.kind)
    assert kinds == {"file", "sh", "python"}


def test_what_is_compared() -> None:
    """Lines in their order; numbers and widths do not count, words do."""
    shown = "best of 6/6 trials, …: trial 0\n…\n  tuned  lr=1e-3\n"
    assert not missing("best of 4/4 trials, 3 complete: trial 12\nx\ntuned lr=0.002\n", shown)
    assert missing("best of 4/4 trials, 3 complete: trial 12\nx\ntuned wd=0.002\n", shown)
    assert missing("tuned lr=1\nbest of 4/4 trials, 3 complete: trial 12\n", shown)
    assert not missing("anything", "…\n")
