"""Every bad input that the README's table names: what it prints, and that nothing is lost.

The table is made from these runs. After a change of words: UPDATE_README=1 pytest THIS_FILE
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import make_url

from tunesvc.cli import main

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bad input: begin -->", "<!-- bad input: end -->"

GOOD = """\
task: image-classification
data: {kind: digits}
backbones: [{name: tiny_resnet, weights: none}]
search_space: {lr: {low: 1e-4, high: 1e-1, log: true}}
budget: {trials: 3, epochs: 1}
"""


@dataclass(frozen=True)
class Case:
    """A bad input: how to make it, the command that meets it, and what must be said."""

    title: str
    make: Callable[[Path], list[str]]  # writes files into a folder, returns the command line
    code: int
    says: tuple[str, ...]


def study(folder: Path, text: str = GOOD, **replaced: str) -> list[str]:
    for old, new in replaced.items():
        lines = [new if line.startswith(f"{old}:") else line for line in text.splitlines()]
        text = "\n".join(lines) + "\n"
    (folder / "study.yaml").write_text(text)
    return ["check", str(folder / "study.yaml")]


def picture(path: Path, shade: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(shade).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def photos(folder: Path, classes: tuple[str, ...] = ("ants", "bees"), count: int = 8) -> Path:
    for number, label in enumerate(classes):
        for index in range(count):
            picture(folder / "photos" / label / f"{index}.png", 10 * number + index)
    return folder / "photos"


def on_photos(folder: Path, extra: str = "") -> list[str]:
    return study(folder, data=f"data: {{kind: folder, path: photos{extra}}}")


def missing_class(folder: Path) -> list[str]:
    for split, labels in (("train", ("ants", "bees")), ("val", ("ants", "bees", "wasps"))):
        for label in labels:
            for index in range(4):
                picture(folder / "photos" / split / label / f"{index}.png", index)
    return on_photos(folder)


def corrupt(folder: Path, extra: str = "") -> list[str]:
    image = photos(folder) / "ants" / "0.png"
    image.write_bytes(image.read_bytes()[:200])
    return on_photos(folder, extra)


def zero_bytes(folder: Path) -> list[str]:
    (photos(folder) / "bees" / "3.png").write_bytes(b"")
    return on_photos(folder)


def empty_folder(folder: Path) -> list[str]:
    (folder / "photos").mkdir()
    return on_photos(folder)


def one_class(folder: Path) -> list[str]:
    photos(folder, ("ants",))
    return on_photos(folder)


def backbone(folder: Path, name: str, weights: str) -> list[str]:
    return study(folder, backbones=f"backbones: [{{name: {name}, weights: {weights}}}]")


def foreign_weights(folder: Path) -> list[str]:
    torch.save({"layer.weight": torch.zeros(3, 3)}, folder / "weights.pth")
    return backbone(folder, "mobilenet_v3_small", "weights.pth")


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def pickled_code(folder: Path) -> list[str]:
    torch.save({"layer.weight": _Payload()}, folder / "weights.pth")
    return backbone(folder, "mobilenet_v3_small", "weights.pth")


def name_taken(folder: Path) -> list[str]:
    study(folder)
    main_expecting(["new-study", str(folder / "study.yaml"), "--name", "taken"], 0)
    study(folder, budget="budget: {trials: 3, epochs: 2}")
    return ["new-study", str(folder / "study.yaml"), "--name", "taken"]


def users_file(folder: Path, text: str) -> list[str]:
    (folder / "users.yaml").write_text(text)
    return ["dashboard", "--users", str(folder / "users.yaml")]


def misspelt(folder: Path) -> list[str]:
    study(folder)
    main_expecting(["new-study", str(folder / "study.yaml"), "--name", "pets"], 0)
    return ["stop", "pet"]


def main_expecting(arguments: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code or 0) == code


CASES = (
    Case("malformed YAML", lambda f: study(f, data="data: {kind: digits"), 2, ("study.yaml:3:",)),
    Case(
        "unknown key",
        lambda f: study(f, budget="budgt: {trials: 3}"),
        2,
        ("study.yaml:5:1", "budgt", "did you mean 'budget'"),
    ),
    Case(
        "wrong type",
        lambda f: study(f, budget="budget: {trials: many}"),
        2,
        ("study.yaml:5:10", "budget.trials", "'many'"),
    ),
    Case(
        "fewer epochs than a trial has",
        lambda f: study(f, budget="budget: {epochs_total: 4, epochs: 5}"),
        2,
        ("study.yaml:5:1", "epochs_total", "less than one trial's"),
    ),
    Case(
        "a study that never ends",
        lambda f: study(f, budget="budget: {trials: null}"),
        2,
        ("study.yaml:5:1", "never ends", "epochs_total"),
    ),
    Case(
        "inverted range",
        lambda f: study(f, search_space="search_space: {lr: {low: 0.1, high: 0.001}}"),
        2,
        ("study.yaml:4:16", "inverted"),
    ),
    Case(
        "empty range",
        lambda f: study(f, search_space="search_space: {lr: {low: 0.1, high: 0.1}}"),
        2,
        ("study.yaml:4:16", "empty"),
    ),
    Case(
        "condition on a missing knob",
        lambda f: study(
            f, search_space="search_space: {momentum: {low: 0, high: 0.9, when: {optimizer: sgd}}}"
        ),
        2,
        ("momentum", "optimizer"),
    ),
    Case("unknown backbone", lambda f: backbone(f, "resnet81", "none"), 2, ("resnet81", "resnet")),
    Case(
        "unknown metric",
        lambda f: study(f, GOOD + "objective: acuracy\n"),
        2,
        ("acuracy", "accuracy"),
    ),
    Case(
        "unknown cost among the objectives",
        lambda f: study(f, GOOD + "objective: [{metric: accuracy}, {cost: latency}]\n"),
        2,
        ("study.yaml:6:34", "objective.1.cost", "did you mean 'latency_ms'"),
    ),
    Case(
        "a cost as the first objective",
        lambda f: study(f, GOOD + "objective: [{cost: latency_ms}, {metric: accuracy}]\n"),
        2,
        ("study.yaml:6:1", "the first objective must be a metric"),
    ),
    Case(
        "an objective twice",
        lambda f: study(f, GOOD + "objective: [accuracy, {cost: params_m}, {cost: params_m}]\n"),
        2,
        ("study.yaml:6:1", "'params_m' stands twice"),
    ),
    Case(
        "a cost written as a metric",
        lambda f: study(f, GOOD + "objective: [accuracy, latency_ms]\n"),
        2,
        ("objective.1.metric", "write {cost: latency_ms}"),
    ),
    Case(
        "a sampler for one objective, and two of them",
        lambda f: study(f, GOOD + "objective: [accuracy, {cost: params_m}]\nsampler: cmaes\n"),
        2,
        ("study.yaml:7:1", "cmaes searches for one objective"),
    ),
    Case("unknown sampler", lambda f: study(f, GOOD + "sampler: tpee\n"), 2, ("tpee", "tpe")),
    Case("unknown `keep`", lambda f: study(f, GOOD + "keep: best\n"), 2, ("keep", "best-3")),
    Case(
        "a constraint without a sign",
        lambda f: study(f, GOOD + "constraints: {params_m: 12}\n"),
        2,
        ("study.yaml:6:15", "constraints.params_m", "<= 12"),
    ),
    Case(
        "unknown constraint",
        lambda f: study(f, GOOD + "constraints: {params: '<= 12'}\n"),
        2,
        ("study.yaml:6:15", "did you mean 'params_m'"),
    ),
    Case(
        "constraints that no backbone can keep",
        lambda f: study(f, GOOD + "constraints: {params_m: '<= 0.1'}\n"),
        2,
        ("tiny_resnet", "nearest", "params_m"),
    ),
    Case(
        "no seed to confirm with",
        lambda f: study(f, GOOD + "confirm: {seeds: 0}\n"),
        2,
        ("confirm.seeds",),
    ),
    Case(
        "lease of no length",
        lambda f: study(f, GOOD + "leases: {seconds: 0}\n"),
        2,
        ("leases.seconds",),
    ),
    Case("missing folder", on_photos, 4, ("photos",)),
    Case("empty folder", empty_folder, 4, ("photos",)),
    Case("one class only", one_class, 4, ("ants",)),
    Case("a class missing in train", missing_class, 4, ("wasps", "train")),
    Case("corrupt image", corrupt, 4, ("0.png", "on_corrupt: skip")),
    Case("zero-byte image", zero_bytes, 4, ("3.png", "on_corrupt: skip")),
    Case(
        "weights that cannot be downloaded",
        lambda f: backbone(f, "resnet18", "IMAGENET1K_V1"),
        4,
        ("resnet18-f37072fd.pth", "checkpoints"),
    ),
    Case("unknown weights", lambda f: backbone(f, "resnet18", "IN22K"), 2, ("IMAGENET1K_V1",)),
    Case("weights file missing", lambda f: backbone(f, "resnet18", "my.pth"), 4, ("my.pth",)),
    Case("weights that do not fit", foreign_weights, 4, ("weights.pth", "width_mult")),
    Case("pickled weights with code in them", pickled_code, 4, ("weights.pth", "safetensors")),
    Case("study name taken by a different file", name_taken, 2, ("taken", "--name")),
    Case("misspelt study", misspelt, 2, ("did you mean 'pets'",)),
    Case("retry of nothing", lambda f: ["retry", "pets"], 2, ("retry pets --failed",)),
    Case(
        "dashboard for others without a login",
        lambda f: ["dashboard", "--host", "0.0.0.0"],
        2,
        ("users.yaml", "tunesvc user add"),
    ),
    Case(
        "users file that is not YAML",
        lambda f: users_file(f, "ada: ["),
        2,
        ("users.yaml:1:7", "not valid YAML"),
    ),
    Case(
        "unknown role of a user",
        lambda f: users_file(f, "ada: {role: admin}"),
        2,
        ("users.yaml:1:7", "'reader' or 'editor'"),
    ),
)


@pytest.fixture
def place(tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, a home and caches of its own, a real Postgres."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESVC_STORAGE", storage_url)
    monkeypatch.setenv("TUNESVC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def told(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """Run a command; return what it said, this machine's paths left out."""
    capsys.readouterr()
    main_expecting(arguments, code)
    out, err = capsys.readouterr()
    said = (out + err).replace(str(folder) + "/", "").replace(str(folder), ".")
    said = re.sub(r"https?://\S*/", "…/", said)
    assert "Traceback" not in said
    return said


def summary(said: str) -> str:
    """Return the complaint of an output: from its first problem to its end, on one line."""
    start = re.search(r"^(problem|error): ", said, re.MULTILINE)
    assert start, said
    return " ".join(said[start.end() :].split())


def shown_in_readme(rows: dict[str, str]) -> None:
    """Compare rows with the README's table, or write them there."""
    text = README.read_text()
    head, rest = text.split(BEGIN)
    old, tail = rest.split(END)
    have = dict(re.findall(r"^\| (.*?) \| (.*) \|$", old, re.MULTILINE))
    if os.environ.get("UPDATE_README"):
        have = {"bad input": "exit code, and what it prints", "---": "---"} | have | rows
        table = "\n".join(f"| {title} | {said} |" for title, said in have.items())
        README.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")
    else:
        assert {title: have.get(title) for title in rows} == rows


def row(code: int, said: str) -> str:
    escaped = summary(said).replace("|", "\\|").replace("`", "'")
    return f"{code}: `{escaped[:400]}`"


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_bad_input_is_explained(
    case: Case, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear error, with its exit code, what is wrong and how to mend it; no traceback."""
    arguments = case.make(place)
    said = told(arguments, case.code, capsys, place)
    for words in case.says:
        assert words in said
    shown_in_readme({case.title: row(case.code, said)})


def test_code_in_weights_is_never_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pickle's payload leaves no trace."""
    told(pickled_code(place), 4, capsys, place)
    assert not (place / "executed").exists()


def test_corrupt_images_are_skipped_and_counted_on_request(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`on_corrupt: skip` leaves the image out, says so and goes on."""
    said = told(corrupt(place, ", on_corrupt: skip"), 0, capsys, place)
    assert "count: 1" in said
    assert "0.png" in said


def test_unusual_images_are_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """16-bit, CMYK, RGBA, palette and EXIF-rotated pictures are no errors."""
    folder = photos(place)
    grey = np.random.default_rng(0).integers(0, 65535, (24, 24), dtype=np.uint16)
    Image.fromarray(grey).save(folder / "ants" / "16bit.png")
    colour = Image.open(folder / "ants" / "0.png")
    colour.convert("CMYK").save(folder / "ants" / "cmyk.jpg")
    colour.convert("RGBA").save(folder / "ants" / "rgba.png")
    colour.convert("P").save(folder / "bees" / "palette.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    colour.save(folder / "bees" / "rotated.jpg", exif=turned)
    assert "ok:" in told(on_photos(place), 0, capsys, place)


def test_storage_down(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port where nobody listens: exit 3, and the password is not repeated."""
    monkeypatch.setenv("TUNESVC_STORAGE", "postgresql://me:s3cret@127.0.0.1:9/none")
    said = told(["list"], 3, capsys, place)
    assert "127.0.0.1" in said
    assert "s3cret" not in said
    shown_in_readme({"storage down": row(3, said)})


def test_wrong_password(
    place: Path,
    storage_url: str,
    locked: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 3, where to correct it, and the password is not repeated."""
    url = make_url(storage_url).set(username="locked", password="s3cret")
    monkeypatch.setenv("TUNESVC_STORAGE", url.render_as_string(hide_password=False))
    said = told(["list"], 3, capsys, place)
    assert "s3cret" not in said
    said = re.sub(r'socket ".*?"', 'socket "…"', said)
    shown_in_readme({"wrong password": row(3, said)})


def test_password_on_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`ps` would show it: refused."""
    said = told(["list", "--storage", "postgresql://me:s3cret@localhost/x"], 2, capsys, place)
    assert "s3cret" not in said
    shown_in_readme({"password in --storage": row(2, said)})


def test_artifacts_at_an_unknown_address(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder nor S3: exit 2, and what may stand there."""
    monkeypatch.setenv("TUNESVC_ARTIFACTS", "gs://bucket/prefix")
    said = told(["gc", "--dry-run"], 2, capsys, place)
    shown_in_readme({"artifacts at an unknown address": row(2, said)})


def test_disk_full(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cache's disk is full: exit 4, and what to do."""
    small = place / "home" / "cache"
    small.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        said = told(study(place), 4, capsys, place)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "TUNESVC_HOME" in said
    shown_in_readme({"disk full": row(4, said)})
