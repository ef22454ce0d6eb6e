"""`import tunesvc` is light, its names are those of `__all__`, and type checkers see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tunesvc

HEAVY = {"torch", "torchvision", "optuna", "sqlalchemy", "pandas", "numpy", "pydantic", "yaml"}

# What a notebook's author writes, with the types that an editor is to show.
SCRIPT = """\
from collections.abc import Mapping
from typing import Literal, assert_type

import pandas as pd
import tunesvc

with tunesvc.open_study("photos", storage=None) as study:
    assert_type(study, tunesvc.Study)
    assert_type(study.trials_frame(), pd.DataFrame)
    assert_type(study.pareto("latency_ms", "params_m"), pd.DataFrame)
    assert_type(study.status(), tunesvc.Status)
    assert_type(study.spec, tunesvc.StudySpec)
    assert_type(study.direction, Literal["maximize", "minimize"])
    best = study.best(where="latency_ms <= 3 and params_m <= 6")
    assert_type(best, tunesvc.Best)
    assert_type(best.value, float)
    assert_type(best.knobs, Mapping[str, bool | int | float | str])
    assert_type(best.test, Mapping[str, float] | None)
model = tunesvc.load("model")
assert_type(model, tunesvc.Model)
assert_type(model.predict(["a.jpg"], top=3), list[tunesvc.Prediction])
"""
WRONG = {
    "tunesvc.open_stuyd('photos')": "has no attribute",
    "tunesvc.open_study(5)": "arg-type",
    "tunesvc.open_study('photos').best().valeu": "has no attribute",
    "tunesvc.open_study('photos').best().trial = 3": "read-only",
}


def imported(code: str) -> set[str]:
    """Return which of the heavy libraries a process has imported at the end of this code."""
    ending = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code + ending], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split()) & HEAVY


def test_importing_it_is_light() -> None:
    """No heavy library at `import tunesvc`; no torch for `open_study` either."""
    assert imported("import tunesvc; dir(tunesvc); tunesvc.TuneError") == set()
    assert "torch" not in imported("import tunesvc; tunesvc.open_study")


def test_every_public_name_is_there() -> None:
    """Each is found, and nothing else is listed; a name that is not there is told as usual."""
    assert dir(tunesvc) == sorted(tunesvc.__all__)
    assert all(getattr(tunesvc, name) is not None for name in tunesvc.__all__)
    with pytest.raises(AttributeError, match="module 'tunesvc' has no attribute 'open_stuyd'"):
        tunesvc.open_stuyd  # type: ignore[attr-defined] # noqa: B018
    assert issubclass(tunesvc.TuneError, Exception)


def mypy(code: str, folder: Path) -> str:
    """Return what mypy says of a script in strict mode; "" where it finds nothing."""
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"]
    cache = ["--cache-dir", str(folder.parent / "mypy"), "--follow-imports=silent"]
    done = subprocess.run(
        [*command, *cache, str(script)], capture_output=True, text=True, cwd=folder, timeout=900
    )
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
def test_type_checkers_know_it(tmp_path: Path) -> None:
    """A user's script under `mypy --strict`: every type is the documented one."""
    assert mypy(SCRIPT, tmp_path) == ""
    wrong = "import tunesvc\n" + "\n".join(WRONG)
    told = mypy(wrong, tmp_path).splitlines()
    for line, words in enumerate(WRONG.values(), 2):
        assert any(f"script.py:{line}: error" in each and words in each for each in told), told
