"""`tunesvc predict`, `evaluate` and `reproduce`, as a person and as a script use them."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from exported_models import DIGITS, TINY, made, study
from PIL import Image

from tunesvc import data, exported
from tunesvc.cli import main
from tunesvc.exported import Noise

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits."""
    folder = tmp_path_factory.mktemp("digits")
    noise = Noise(metric="accuracy", deviation=0.01, runs=5)
    made(folder / "model", cache=folder / "cache", noise=noise, epochs=1)
    return folder / "model"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Real digits in two levels of folders, one of them damaged, and things that are no images."""
    root = tmp_path / "photos"
    spec = study("digits", DIGITS, TINY)
    items = data.scan(spec.data, target="class", base=tmp_path).splits["test"]
    for number in range(12):
        folder = root / str(items.targets[number])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(items.images[number]).save(folder / f"{number:02d}.png")
    bad = sorted(root.rglob("*.png"))[4]
    bad.rename(bad.with_name("bad.jpg")).write_bytes(b"\xff\xd8\xff")
    (root / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.png").write_bytes(b"")
    (root / "again").symlink_to(root)
    return root


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run `tunesvc`; return exit code, output and errors."""

    def say(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments), "--device", "cpu"])
        code = end.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return say


def program(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "tunesvc", *map(str, arguments), "--device", "cpu"]


def walked(root: Path) -> list[Path]:
    """All images of the folder in the order that is promised."""
    images = (path for path in root.rglob("*") if path.suffix in (".png", ".jpg"))
    return sorted(path for path in images if ".hidden" not in path.parts)


def test_one_object_per_image(digits: Path, photos: Path, say: Say) -> None:
    """In the order of the names; the damaged one has an error, and a line on standard error."""
    code, out, err = say("predict", digits, photos, "--json", "--batch-size", "5", "--top", "3")
    assert code == 0
    told = [json.loads(line) for line in out.splitlines()]
    assert [Path(each["path"]) for each in told] == walked(photos)
    (bad,) = [each for each in told if "error" in each]
    assert bad.keys() == {"path", "error"}
    assert Path(bad["path"]).name == "bad.jpg"
    assert err.startswith(f"{bad['path']}: cannot be read: ")
    assert len(err.splitlines()) == 1
    model = exported.load(digits)
    for each in told:
        if each is not bad:
            (known,) = model.predict(each["path"], top=3)
            assert each["label"] == known.label
            assert each["probability"] == pytest.approx(known.probability, abs=1e-5)
            assert each["top"][0] == {"label": each["label"], "probability": each["probability"]}
            assert len(each["top"]) == 3


def test_a_table(digits: Path, photos: Path, say: Say) -> None:
    """CSV with one line per image, also of those that cannot be read."""
    code, out, _ = say("predict", digits, photos, "--csv", "--top", "2")
    assert code == 0
    rows = list(csv.DictReader(out.splitlines()))
    columns = ["path", "label", "probability", "label_2", "probability_2", "error"]
    assert list(rows[0]) == columns
    assert len(rows) == 12
    assert [row["label"] == "" for row in rows] == [row["error"] != "" for row in rows]
    assert all(row["label"] != row["label_2"] for row in rows if not row["error"])


def test_lines_for_people(digits: Path, photos: Path, say: Say) -> None:
    """A named file is taken whatever it is called; the classes come with their probabilities."""
    image = walked(photos)[0]
    image.rename(photos / "odd name.x")
    code, out, _ = say("predict", digits, photos / "odd name.x", "--top", "2")
    assert code == 0
    path, *words = out.strip().split("  ")
    assert path == str(photos / "odd name.x")
    assert [len(word.split()) for word in words[0].split(", ")] == [2, 2]


def test_when_nothing_can_be_read(digits: Path, photos: Path, tmp_path: Path, say: Say) -> None:
    """Exit code 4: nothing but damaged images, or no images at all; 2: not a model."""
    assert say("predict", digits, next(photos.rglob("bad.jpg")), tmp_path / "gone.png")[0] == 4
    (tmp_path / "empty").mkdir()
    code, out, err = say("predict", digits, tmp_path / "empty")
    assert (code, out) == (4, "")
    assert "no images there" in err
    code, _, err = say("predict", photos, photos)
    assert code == 2
    assert "not an exported model" in err
    code, _, err = say("predict", digits, photos, "--json", "--csv")
    assert code == 2
    assert "--json and --csv" in err


def test_paths_come_and_answers_go(digits: Path, photos: Path) -> None:
    """With -, an answer comes before the next path is asked for; names may be any bytes."""
    first, second = walked(photos)[:2]
    odd = photos / os.fsdecode(b"od\xffd.png")
    second.rename(odd)
    with subprocess.Popen(
        program("predict", digits, "-", "--json"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdin
        assert running.stdout
        for path in (first, odd):
            running.stdin.write(os.fsencode(path) + b"\n")
            running.stdin.flush()
            told = json.loads(running.stdout.readline())
            assert told["path"] == str(path)
            assert told["label"]
        running.stdin.close()
        assert running.wait(600) == 0


def test_nobody_reads_on(digits: Path, photos: Path) -> None:
    """`| head` ends it without a word, while standard input is still open."""
    with subprocess.Popen(
        program("predict", digits, "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdin
        assert running.stdout
        assert running.stderr
        running.stdin.write(f"{walked(photos)[0]}\n".encode())
        running.stdin.flush()
        running.stdout.readline()
        running.stdout.close()
        running.stdin.write(f"{walked(photos)[1]}\n".encode())
        running.stdin.flush()
        assert running.wait(600) == 141
        assert running.stderr.read() == b""


def test_progress_is_for_terminals(digits: Path, photos: Path, tmp_path: Path) -> None:
    """It is told on a terminal's standard error when the output goes elsewhere."""
    master, slave = pty.openpty()
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            program("predict", digits, photos, "--json"), stdout=out, stderr=slave, timeout=600,
            env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip
    os.close(slave)
    seen = _all_of(master).decode()
    os.close(master)
    assert done.returncode == 0
    assert "images," in seen
    assert "a second" in seen
    assert "bad.jpg: cannot be read" in seen
    assert len((tmp_path / "out").read_text().splitlines()) == 12


def _all_of(master: int) -> bytes:
    """Return what was written to a terminal that nobody writes to any more; it comes in pieces."""
    seen = b""
    with suppress(OSError):  # the end of it
        while piece := os.read(master, 2**16):
            seen += piece
    return seen


def test_evaluate(digits: Path, photos: Path, tmp_path: Path, say: Say) -> None:
    """Metrics with intervals, the confusion matrix as a table and as a picture, what was left."""
    picture = tmp_path / "matrix.svg"
    (photos / "again").unlink()  # of class folders, links are followed
    code, out, err = say("evaluate", digits, photos, "-o", picture)
    assert code == 0, err
    assert out.splitlines()[0] == "11 images, 1 left out"
    assert "bad.jpg: cannot be read" in err
    (accuracy,) = [line for line in out.splitlines() if line.startswith("accuracy")]
    assert accuracy.endswith("Wilson")
    assert "true \\ predicted" in out
    assert out.splitlines()[-1] == f"wrote {picture}"
    assert picture.read_text().startswith("<svg")
    code, out, _ = say("evaluate", digits, photos, "--json")
    told = json.loads(out)
    assert told["metrics"]["accuracy"]["low"] < told["metrics"]["accuracy"]["value"]
    assert sum(map(sum, told["confusion"])) == told["images"] == 11
    assert [each["error"] != "" for each in told["skipped"]] == [True]
    assert say("evaluate", digits, photos, "-o", "it.pdf")[0] == 2
    assert say("evaluate", digits, tmp_path / "gone")[0] == 2


def test_reproduce(digits: Path, tmp_path: Path, say: Say) -> None:
    """Every epoch beside what was found, and what it comes to; 1 where noise cannot explain it."""
    code, out, err = say("reproduce", digits)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("trial 0 epoch 1: train_loss ")
    assert lines[0].count("(the same)") == 7
    assert lines[-1] == "reproduced: the model is the same, bit for bit"
    code, out, err = say("reproduce", digits, "--json")
    assert json.loads(out)["verdict"] == "identical"
    assert err.startswith("trial 0 epoch 1: ")
    folder = tmp_path / "other"
    folder.mkdir()
    for path in digits.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    text = (folder / "study.json").read_text()
    (folder / "study.json").write_text(text.replace('"lr": 0.003', '"lr": 1e-6'))
    code, out, _ = say("reproduce", folder)
    assert code == 1
    assert "outside the study's noise (±0.0277)" in out.splitlines()[-1]
