"""A package adds a backbone, a task and a metric, and nothing of tunesvc is touched.

The package lies in tests/plugin_package. It is installed into a folder of its own, and all that
uses it runs in processes that have this folder on their path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_files import write_digits
from installed import install

TESTS = Path(__file__).parent
STUDY = """\
task: ordinal
data: {kind: folder, path: photos, image_size: 32}
backbones:
  - {name: plain_net, weights: none, kwargs: {width: 8}}
  - tiny_resnet
search_space:
  strategy: [linear-probe, full]
  lr: {low: 1e-3, high: 3e-2, log: true}
  mixup: [0, 0.2]
  label_smoothing: [0, 0.1]
  batch_size: 32
budget: {trials: 6, epochs: 6}
sampler: random
pruner: none
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH with the package in it."""
    folder = tmp_path_factory.mktemp("site")
    install(TESTS / "plugin_package", folder)
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def python(path: str, *arguments: object, code: int = 0) -> str:
    """Run Python with the package installed; return what it printed."""
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


@pytest.mark.slow
def test_what_it_adds_keeps_the_contracts(path: str) -> None:
    """The contract tests find its backbone and its task, and both satisfy them."""
    told = python(path, "-m", "pytest", TESTS / "contract", "-k", "plain_net or ordinal", "-q")
    assert "passed" in told
    assert "skipped" not in told


@pytest.mark.slow
def test_a_study_of_what_it_adds(
    path: str, tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its file to its winner, on real digits: checked, run, looked at from the shell."""
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "photos", classes=4, each=40)
    (tmp_path / "grades.yaml").write_text(STUDY)

    def tunesvc(*arguments: object) -> Any:
        return json.loads(python(path, "-m", "tunesvc", *arguments, "--json"))

    facts = tunesvc("check", "grades.yaml", "--no-estimate")["facts"]
    assert facts["objective"] == {"metric": "distance", "direction": "minimize"}
    assert set(facts["backbones"]) == {"plain_net", "tiny_resnet"}
    python(path, "-m", "tunesvc", "new-study", "grades.yaml")
    python(path, "-m", "tunesvc", "worker", "--study", "grades", "--device", "cpu", "--until-done")
    status = tunesvc("status", "grades")
    assert (status["state"], status["trials"]["complete"]) == ("done", 6)
    best = tunesvc("best", "grades")
    assert (best["metric"], best["direction"]) == ("distance", "minimize")
    assert set(best["validation"]) == {"distance", "exact", "loss"}
    guessed = 1.25  # the mean distance of two of four classes
    assert 0 <= best["best"]["value"] == best["validation"]["distance"] < guessed / 2
    (league,) = best["league"]
    assert league["backbone"] == "tiny_resnet"
    assert 0 <= league["metrics"]["distance"] < guessed
    close = tunesvc("best", "grades", "--where", "exact >= 0 and params_m <= 0.1")
    assert close["best"]["backbone"] == "plain_net"
    told = python(path, "-m", "tunesvc", "report", "grades", "--format", "md", "-o", "reports")
    assert "distance" in (tmp_path / "reports" / "grades.md").read_text(encoding="utf-8"), told
    python(path, "-m", "tunesvc", "export", "grades", "--best", "--no-onnx", "-o", "model")
    shown = python(path, "-m", "tunesvc", "predict", "model", "photos", "--json")
    predictions = [json.loads(line) for line in shown.splitlines()]
    assert len(predictions) == 160
    for each in predictions:
        assert sum(share["probability"] for share in each["top"]) == pytest.approx(1, abs=1e-5)
    true = [int(Path(each["path"]).parent.name) for each in predictions]
    said = [int(each["label"]) for each in predictions]
    assert np.abs(np.subtract(said, true)).mean() < guessed / 2
    assert "ordered-photos==1.0" in (tmp_path / "model" / "requirements.txt").read_text()
    alone = os.environ.get("PYTHONPATH", "")
    told = python(alone, "-m", "tunesvc", "predict", "model", "photos/3", code=2)
    assert "the model's task 'ordinal' is not installed" in told


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed its names are unknown, and those that are known are told."""
    (tmp_path / "grades.yaml").write_text(STUDY)
    path = os.environ.get("PYTHONPATH", "")
    told = python(path, "-m", "tunesvc", "check", tmp_path / "grades.yaml", code=2)
    assert "problem: unknown task 'ordinal'" in told
    assert "problem: unknown backbone 'plain_net'" in told
