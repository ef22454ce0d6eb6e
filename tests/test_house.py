"""The house's rules that a machine can check."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesvc import errors, spec
from tunesvc.scaffold import schema_text
from tunesvc.spec import yaml_file

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tunesvc"
LAYOUT = (PACKAGE / "README.md").read_text(encoding="utf-8")
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
ROOMS = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if not path.stem.startswith("__") and (path.is_dir() or path.suffix == ".py")
)


def test_import_contracts() -> None:
    """Rooms import downwards only; the study side imports no torch, the training side no Optuna."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as lint\nlint()",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # it sets up logging
    assert done.returncode == 0, done.stdout


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-X", "importtime", "-m", "tunesvc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_help_is_instant() -> None:
    """`tunesvc --help` imports none of the heavy libraries, and answers within half a second."""
    seconds = math.inf
    for _ in range(5):  # other work may have the cores meanwhile
        started = time.monotonic()
        done = run("--help")
        seconds = min(seconds, time.monotonic() - started)
        if seconds < 1.5:
            break
    assert done.returncode == 0, done.stderr
    imported = set(re.findall(r"\| +(\w+)(?=$|\.)", done.stderr, re.MULTILINE))
    heavy = {"torch", "torchvision", "optuna", "pydantic", "sqlalchemy", "numpy", "yaml"}
    assert not imported & heavy
    # Measured alone 0.2 s; a busy machine may take longer, an import of torch takes seconds.
    assert seconds < 1.5


def commands() -> list[str]:
    """Return the names of all commands."""
    from tunesvc.cli.app import app

    return sorted(str(command.name) for command in app.registered_commands)


def test_every_command_is_documented() -> None:
    """The README shows each command of the command line."""
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in commands() if f"tunesvc {name}" not in shown] == []


def test_every_error_is_documented() -> None:
    """The layout page names every error class."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TuneError)
    ]
    assert len(kinds) > 5
    assert [kind.__name__ for kind in kinds if f"`{kind.__name__}`" not in LAYOUT] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_drawn(room: str) -> None:
    """The layout page has a line for each room, and the picture shows it."""
    assert re.search(rf"^\| `{room}/?` ", LAYOUT, re.MULTILINE), f"no line in the table for {room}"
    picture = LAYOUT.split("```")[1]
    assert re.search(rf"\b{room}\b", picture), f"{room} is not in the picture"


def test_no_room_is_drawn_that_is_not_there() -> None:
    """The layout page tells of what is, not of what was or will be."""
    assert set(re.findall(r"^\| `(\w+)/?` ", LAYOUT, re.MULTILINE)) == set(ROOMS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_files_are_small(path: Path) -> None:
    """No file of the package is longer than 300 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_ready_studies(path: Path) -> None:
    """Each study in `studies/` is read without complaint, and editors find the schema for it."""
    from tunesvc import space

    loaded = spec.load(path)
    assert loaded.name == path.stem
    assert loaded.description
    assert space.build(loaded).defaults()
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("$schema=")[2]).is_file()


def test_ready_studies_are_there() -> None:
    """The studies that the documentation promises exist."""
    assert {path.stem for path in STUDIES} >= {
        "quickstart",
        "mnist-resnet18-configurations",
        "mnist-cnn-from-scratch",
        "resnet50-full-finetune",
        "cifar10-resnet50-frozen",
        "folder-template",
    }


def test_the_published_schema() -> None:
    """`studies/study.schema.json` is the schema of this version."""
    published = (ROOT / "studies" / "study.schema.json").read_text(encoding="utf-8")
    assert json.loads(published) == spec.schema(), "tunesvc schema > studies/study.schema.json"
    assert published == schema_text()


def test_schema_accepts_the_ready_studies() -> None:
    """An editor that follows the schema underlines nothing in our own studies."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(spec.schema())
    for path in STUDIES:
        validator.validate(yaml_file.read(path).value)


def test_the_template_shows_the_defaults() -> None:
    """`folder-template.yaml` shows every key, each with the value that it has when left out."""
    path = ROOT / "studies" / "folder-template.yaml"
    written = yaml_file.read(path).value
    loaded = spec.load(path)
    plain = spec.StudySpec(
        name=loaded.name, data={"kind": "folder", "path": "x"}, backbones=["resnet18"]
    )
    own = {"name", "description", "backbones"}
    assert set(written) == set(spec.StudySpec.model_fields) - {"name"}
    for key in set(written) - own:
        value = plain.model_dump()[key]
        if key == "data":
            assert written[key] | {"path": "x"} == value
        else:
            assert written[key] == value, key
    assert set(written["backbones"][1]) == set(spec.BackboneSpec.model_fields)
