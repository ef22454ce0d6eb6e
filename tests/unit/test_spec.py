"""The study file: how it is read, what is refused and with which words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tunesvc.errors import SpecError, UsageError
from tunesvc.spec import (
    KNOBS,
    Choices,
    ConfirmSpec,
    Fixed,
    FloatRange,
    IntRange,
    StudySpec,
    derive_seed,
    knobs,
    load,
    parse,
    schema,
    yaml_file,
)
from tunesvc.spec.budget import Budget
from tunesvc.spec.families import family
from tunesvc.spec.load import dump
from tunesvc.spec.objectives import name_of

MINIMAL = "data: digits\nbackbones: [tiny_resnet]\n"


def read(text: str, *settings: str) -> StudySpec:
    """Parse a study file called `f.yaml`."""
    return parse(yaml_file.parse(text, "f.yaml"), "f.yaml", stem="f", settings=settings)


def refusal(text: str, *settings: str) -> list[str]:
    """Return the lines that refuse a study file."""
    with pytest.raises(SpecError) as caught:
        read(text, *settings)
    return str(caught.value).splitlines()


# --- YAML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("+.5e+3", 500.0),
        (".inf", math.inf),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("none", "none"),
        ("'1e-5'", "1e-5"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    """Scalars are those of YAML 1.2: `1e-5` is a number and `no` a word."""
    read_back = yaml_file.parse(f"x: {text}", "f.yaml").value["x"]
    assert read_back == value
    assert type(read_back) is type(value)


def test_positions() -> None:
    """Every key and item knows its line and column, both from 1; also those of a merged mapping."""
    document = yaml_file.parse("a: &a\n  b: [1, 2]\nc:\n  <<: *a\n  d: 3\n", "f.yaml")
    assert document.value == {"a": {"b": [1, 2]}, "c": {"b": [1, 2], "d": 3}}
    assert document.positions["a", "b", 1] == (2, 10)
    assert document.positions["c", "d"] == (5, 3)
    assert document.positions["c", "b"] == (2, 3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a: [1\nb: 2", "f.yaml:2:2: not valid YAML"),
        ("a: 1\n b: 2", "f.yaml:2:3: not valid YAML"),
        ("a: 1\n\tb: 2", "f.yaml:2:1: not valid YAML"),
        ("a: 'x", "f.yaml:1:6: not valid YAML"),
        ("a: 1\na: 2", "the key 'a' stands here twice, keep one"),
        ("x: {a: 1, a: 2}", "f.yaml:1:11: not valid YAML"),
        ("a: *nowhere", "undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: not valid YAML"),
        ("a: 1\nb: \x01", "f.yaml:2: not valid YAML"),
        ("? [a]\n: 1", "f.yaml:1:3: not valid YAML"),
        ("a: {{ b }}", "f.yaml:1:5: not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: &x {b: *x}", "f.yaml: nested too deeply"),
        ("[" * 5000, "f.yaml: nested too deeply"),
        ("", "f.yaml: the file is empty"),
        ("# nothing", "f.yaml: the file is empty"),
        ("- a", "f.yaml:1:1: not a study file"),
        ("word", "it holds a single value"),
    ],
)
def test_documents_that_are_no_study(text: str, shown: str) -> None:
    """A document that is no YAML, or no mapping, is refused by place and reason."""
    assert shown in "\n".join(refusal(text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A path that holds no text file is refused by its kind."""
    (tmp_path / "latin.yaml").write_bytes("name: Zürich".encode("latin-1"))
    for name, shown in {
        "absent.yaml": "no such file",
        ".": "is a folder",
        "latin.yaml": "not a text file",
        "latin.yaml/x": "cannot be read",
    }.items():
        with pytest.raises(SpecError, match=shown):
            load(tmp_path / name)


def test_a_windows_editors_file(tmp_path: Path) -> None:
    """A byte-order mark and CRLF line ends do no harm."""
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load(path).data.kind == "digits"


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("budgte: {trials: 3}", ["f.yaml:3:1: budgte: unknown key, did you mean 'budget'?"]),
        ("epochs: 3", ["f.yaml:3:1: epochs: unknown key, did you mean 'budget.epochs'?"]),
        ("learning_rate: 3", ["f.yaml:3:1: learning_rate: unknown key, did you mean 'search_s"]),
        (
            "budget:\n  trials: many\n  hours: 0\n  epocs: 3",
            [
                "f.yaml:4:3: budget.trials: must be a whole number, and is 'many'",
                "f.yaml:5:3: budget.hours: must be greater than 0, and is 0",
                "f.yaml:6:3: budget.epocs: unknown key, did you mean 'epochs'?",
            ],
        ),
        ("sampler: tpee", ["f.yaml:3:1: sampler: unknown sampler 'tpee', did you mean 'tpe'?"]),
        ("pruner:\n  kind: zz", ["f.yaml:4:3: pruner.kind: unknown pruner 'zz', known: asha, hy"]),
        (
            "sampler: {kind: tpe, n_startup: 3}",
            ["f.yaml:3:22: sampler.n_startup: unknown key, did you mean 'n_startup_trials'?"],
        ),
        (
            "sampler: {sigma0: 3}",
            ["f.yaml:3:1: sampler: `kind` is missing; known: cmaes, given"],
        ),
        (
            "objective: {direction: maximise}",
            ["f.yaml:3:13: objective.direction: unknown direction 'maximise', did you mean 'max"],
        ),
        ("objective: 3", ["f.yaml:3:1: objective: must be a mapping of keys to values, and is 3"]),
        ("objective: []", ["f.yaml:3:1: objective: must not be empty"]),
        (
            "objective: [{cost: latency_ms}, {metric: accuracy}]",
            ["f.yaml:3:1: objective: the first objective must be a metric: trials are pruned by"],
        ),
        (
            "objective: [accuracy, {cost: latency}]",
            ["f.yaml:3:24: objective.1.cost: unknown cost 'latency', did you mean 'latency_ms'?"],
        ),
        (
            "objective: [accuracy, {cost: seconds}, {cost: seconds}]",
            ["f.yaml:3:1: objective: 'seconds' stands twice among the objectives"],
        ),
        (
            "objective: [accuracy, {cost: seconds, direction: maximize}]",
            ["f.yaml:3:39: objective.1.direction: unknown key, known: cost"],
        ),
        (
            "objective: [a, b, c, d, e]",
            ["f.yaml:3:1: objective: 5 objectives are too many; 4 are the most"],
        ),
        (
            "objective: [accuracy, {cost: params_m}]\nsampler: cmaes",
            ["f.yaml:4:1: sampler: cmaes searches for one objective, and there are 2; take tpe"],
        ),
        (
            "objective: [accuracy, {cost: params_m}]\nsampler: {kind: tpe, cost_aware: true}",
            ["f.yaml:4:1: sampler: cost_aware searches for one objective; make epoch_seconds an"],
        ),
        ("keep: best-0", ["f.yaml:3:1: keep: must be all, or best-K such as best-3, and is 'b"]),
        ("keep: 3", ["f.yaml:3:1: keep: must be text, and is 3"]),
        ("confirm: maybe", ["f.yaml:3:1: confirm: must be true or false, and is 'maybe'"]),
        ("confirm:", ["f.yaml:3:1: confirm: must be true or false, and is empty (null)"]),
        (
            "confirm: {top: 0}",
            ["f.yaml:3:11: confirm.top: must be greater than or equal to 1, and is 0"],
        ),
        (
            "confirm: {seed: 3}",
            ["f.yaml:3:11: confirm.seed: unknown key, did you mean 'seeds'?"],
        ),
        (
            "leases: {seconds: 0.5}",
            ["f.yaml:3:10: leases.seconds: must be greater than or equal to 1, and is 0.5"],
        ),
        (
            "leases: {max_attempts: 0}",
            ["f.yaml:3:10: leases.max_attempts: must be greater than or equal to 1, and is 0"],
        ),
        (
            "leases: {attempts: 60}",
            ["f.yaml:3:10: leases.attempts: unknown key, did you mean 'max_attempts'?"],
        ),
        ("leases: 30", ["f.yaml:3:1: leases: must be a mapping of keys to values, and is 30"]),
        ("seed: 1.5", ["f.yaml:3:1: seed: must be a whole number, and is 1.5"]),
        ("seed:", ["f.yaml:3:1: seed: must be a whole number, and is empty (null)"]),
        ("seed: -1", ["f.yaml:3:1: seed: must be greater than or equal to 0, and is -1"]),
        ("name: my study", ["f.yaml:3:1: name: may hold letters, digits and . _ + - only, 200"]),
        ("1: 2", ["f.yaml:3:1: 1: a key must be a word"]),
        ("description: {}", ["f.yaml:3:1: description: must be text, and is {}"]),
        ("defaults: {lrr: 1}", ["f.yaml:3:12: defaults.lrr: unknown knob, did you mean 'lr'?"]),
        ("defaults: {lr: [1]}", ["f.yaml:3:12: defaults.lr: must be a single value, and is [1]"]),
        (f"description: [{'x' * 99}]", ["f.yaml:3:1: description: must be text, and is ['xxx"]),
    ],
)
def test_mistakes(text: str, lines: list[str]) -> None:
    """Each mistake is one line: where, which key, what is wrong, and the likely word."""
    found = refusal(MINIMAL + text)
    assert len(found) == len(lines)
    assert all(got.startswith(line) for got, line in zip(found, lines, strict=True)), found


@pytest.mark.parametrize(
    ("space", "lines"),
    [
        ("atuo", ["f.yaml:3:1: search_space: unknown search_space 'atuo', did you mean 'auto'?"]),
        (
            "",
            ["f.yaml:3:1: search_space: must be a mapping of keys to values, and is empty (null)"],
        ),
        ("{wd: 1}", ["f.yaml:3:16: search_space.wd: unknown knob, did you mean 'weight_decay'?"]),
        ("{momentun: 1}", ["f.yaml:3:16: search_space.momentun: unknown knob, did you mean 'mom"]),
        (
            "{lr: {low: 1, high: 0.1}}",
            ["f.yaml:3:16: search_space.lr: the range is inverted: low 1 is above high 0.1"],
        ),
        (
            "{lr: {low: 1e-3, high: 1e-3}}",
            ["f.yaml:3:16: search_space.lr: the range is empty: low = high = 0.001; write `0.001`"],
        ),
        ("{lr: {low: 0, high: .inf}}", ["f.yaml:3:16: search_space.lr: both ends must be finite"]),
        (
            "{lr: {low: 0, high: 1, log: true}}",
            ["f.yaml:3:16: search_space.lr: log: true needs low"],
        ),
        (
            "{lr: {low: 1, high: 2, log: true, step: 1}}",
            ["f.yaml:3:16: search_space.lr: log and st"],
        ),
        (
            "{batch_size: {low: 1, high: 8, log: true, step: 2}}",
            ["f.yaml:3:16: search_space.batch_size: log and step exclude each other"],
        ),
        ("{lr: []}", ["f.yaml:3:16: search_space.lr: must not be empty"]),
        ("{lr: }", ["f.yaml:3:16: search_space.lr: must be a list, and is empty (null)"]),
        ("{lr: [1, 1]}", ["f.yaml:3:21: search_space.lr.0: a choice is listed twice"]),
        (
            "{lr: [1, null]}",
            ["f.yaml:3:24: search_space.lr.1: must be a single value, and is empt"],
        ),
        (
            "{lr: {lo: 1, high: 2}}",
            [
                "f.yaml:3:16: search_space.lr.low: is missing",
                "f.yaml:3:21: search_space.lr.lo: unknown key, did you mean 'low'?",
            ],
        ),
        (
            "{lr: {type: flaot, low: 1}}",
            ["f.yaml:3:21: search_space.lr.type: unknown type of range 'flaot', did you mean 'flo"],
        ),
        (
            "\n  lr:\n    - {low: 1e-4, high: 1e-2}\n    - {low: a, high: 2, when: {x: {y: 1}}}",
            [
                "f.yaml:6:8: search_space.lr.1.low: must be a number, and is 'a'",
                "f.yaml:6:32: search_space.lr.1.when.x: must be a single value or a list, and is {",
            ],
        ),
        ("{batch_size: {low: 1, high: 8.5}}", ["f.yaml:3:37: search_space.batch_size.high: must"]),
    ],
)
def test_mistakes_in_a_search_space(space: str, lines: list[str]) -> None:
    """A mistake inside a range is reported once, for the branch that was meant."""
    found = refusal(f"{MINIMAL}search_space: {space}")
    assert len(found) == len(lines), found
    assert all(got.startswith(line) for got, line in zip(found, lines, strict=True)), found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("seed: 1", ["f.yaml:1:1: backbones: is missing", "f.yaml:1:1: data: is missing"]),
        (
            "data: foldr\nbackbones: [a]",
            ["f.yaml:1:1: data: unknown kind of data 'foldr', did you"],
        ),
        (
            "data: {kind: folder, pth: x}\nbackbones: [{weights: x}, [a], 3]",
            [
                "f.yaml:1:1: data.path: is missing",
                "f.yaml:1:22: data.pth: unknown key, did you mean 'path'?",
                "f.yaml:2:13: backbones.0.name: is missing",
                "f.yaml:2:27: backbones.1: must be a mapping of keys to values, and is ['a']",
                "f.yaml:2:32: backbones.2: must be a mapping of keys to values, and is 3",
            ],
        ),
        ("data: digits\nbackbones: []", ["f.yaml:2:1: backbones: must not be empty"]),
        ("data: digits\nbackbones: a", ["f.yaml:2:1: backbones: must be a list, and is 'a'"]),
        (
            "data: digits\nbackbones: [a, b, a]",
            ["f.yaml:1:1: the file: backbone 'a:DEFAULT' stands"],
        ),
        (
            "data: {kind: digits, subset: 9, fraction: .1}\nbackbones: [a]",
            ["f.yaml:1:1: data: give subset or fraction, not both"],
        ),
    ],
)
def test_mistakes_in_data_and_backbones(text: str, lines: list[str]) -> None:
    """What is missing is named where it should stand, and everything at once."""
    found = refusal(text)
    assert len(found) == len(lines), found
    assert all(got.startswith(line) for got, line in zip(found, lines, strict=True)), found


# --- what a good file means ---------------------------------------------------------------------


def test_short_forms() -> None:
    """A bare word stands for a mapping, a scalar for a fixed value, a list for choices."""
    short = read(
        "data: digits\nbackbones: [a]\nsampler: gp\npruner: median\nobjective: loss\n"
        "search_space: {lr: 0.1, optimizer: [sgd, adam], weight_decay: {low: 0, high: 1},"
        " batch_size: {low: 8, high: 64}, momentum: {choices: [0.5]}, mixup: {value: 0.2}}"
    )
    long = read(
        "data: {kind: digits}\nbackbones: [{name: a}]\nsampler: {kind: gp}\n"
        "pruner: {kind: median}\nobjective: {metric: loss}\nsearch_space:\n"
        "  lr: [{type: fixed, value: 0.1}]\n"
        "  optimizer: [{type: categorical, choices: [sgd, adam]}]\n"
        "  weight_decay: [{type: float, low: 0.0, high: 1.0}]\n"
        "  batch_size: [{type: int, low: 8, high: 64}]\n"
        "  momentum: [{type: categorical, choices: [0.5]}]\n"
        "  mixup: [{type: fixed, value: 0.2}]\n"
    )
    assert short == long
    assert short.digest == long.digest
    assert isinstance(short.search_space, dict)
    kinds = [type(variants[0]) for variants in short.search_space.values()]
    assert kinds == [Fixed, Choices, FloatRange, IntRange, Choices, Fixed]


def test_conditions() -> None:
    """Variants of one knob keep their order, conditions and labels."""
    spec = read(
        MINIMAL + "search_space:\n  strategy: [linear-probe, full]\n  lr:\n"
        "    - {low: 1e-4, high: 1e-1, log: true, when: {strategy: linear-probe}, label: head}\n"
        "    - {low: 1e-5, high: 1e-3, when: {strategy: [full, last-stage], frozen_bn: false}}\n"
    )
    assert isinstance(spec.search_space, dict)
    first, second = spec.search_space["lr"]
    assert (first.label, first.when) == ("head", {"strategy": "linear-probe"})
    assert second.when == {"strategy": ["full", "last-stage"], "frozen_bn": False}


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (["budget.trials=7"], {"budget": {"trials": 7}}),
        (["budget.hours=1.5", "budget.epochs=2"], {"budget": {"hours": 1.5, "epochs": 2}}),
        (["backbones=[a, b]"], {"backbones": [{"name": "a"}, {"name": "b"}]}),
        (
            ["backbones.0.weights=none"],
            {"backbones": [{"name": "tiny_resnet", "weights": "none"}]},
        ),
        (["sampler=random"], {"sampler": {"kind": "random"}}),
        (["sampler.kind=grid"], {"sampler": {"kind": "grid"}}),
        (["data.subset=100"], {"data": {"kind": "digits", "subset": 100}}),
        (["description=a=b"], {"description": "a=b"}),
        (["description="], {}),
        (["defaults.lr=1e-5"], {"defaults": {"lr": 1e-5}}),
        (["seed=1", "seed=2"], {"seed": 2}),
        (["name=other"], {"name": "other"}),
    ],
)
def test_settings(settings: list[str], changed: dict[str, Any]) -> None:
    """`--set key=value` overrides a key, adds one, reaches into lists; the last one counts."""
    unchanged = read(MINIMAL).model_dump(mode="json", exclude_defaults=True)
    spec = read(MINIMAL, *settings)
    assert spec.model_dump(mode="json", exclude_defaults=True) == unchanged | changed


def test_settings_reach_into_short_forms() -> None:
    """An option is added to what a bare word stands for."""
    spec = read(MINIMAL + "sampler: tpe\npruner: median", "pruner.n_warmup_steps=4")
    assert spec.pruner.model_dump()["n_warmup_steps"] == 4
    assert spec.pruner.kind == "median"


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("budget.trials", "--set budget.trials: not of the form key=value"),
        ("=3", "--set =3: not of the form key=value"),
        ("a..b=3", "--set a..b=3: not of the form key=value"),
        ("backbones.1.weights=none", "it is a list of 1, counted from 0"),
        ("backbones.first=none", "no item 'first' in 'backbones'"),
        ("seed=[1", "--set seed:1:3: not valid YAML"),
        ("budget.trials=x", "--set: budget.trials: must be a whole number, and is 'x'"),
        ("budgt.trials=1", "--set: budgt: unknown key, did you mean 'budget'?"),
        ("search_space={lr: {lo: 1}}", "--set: search_space.lr.lo: unknown key"),
    ],
)
def test_wrong_settings(setting: str, shown: str) -> None:
    """A wrong setting is named as the command line's mistake, not the file's."""
    with pytest.raises(UsageError) as caught:
        read(MINIMAL, setting)
    assert shown in str(caught.value)
    assert "f.yaml" not in str(caught.value)


def test_a_setting_hides_what_the_file_says() -> None:
    """A key of the file that a setting replaced is no longer where mistakes are looked for."""
    text = MINIMAL + "search_space: {lr: {low: 1, high: 2}}"
    assert refusal(text, "search_space.lr={high: 3}") == ["--set: search_space.lr.low: is missing"]


def test_names(tmp_path: Path) -> None:
    """A study is called as the caller says, else as the file says, else by the file's stem."""
    path = tmp_path / "pets.yaml"
    path.write_text(MINIMAL)
    assert load(path).name == "pets"
    path.write_text("name: cats\n" + MINIMAL)
    assert load(path).name == "cats"
    assert load(path, name="dogs").name == "dogs"


def test_a_name_that_cannot_be(tmp_path: Path) -> None:
    """A file name with spaces is refused as a study's name, and `name:` mends it."""
    path = tmp_path / "my pets.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(SpecError, match=r"my pets\.yaml:1:1: name: may hold"):
        load(path)
    assert load(path, name="pets").name == "pets"


def test_backbone_labels() -> None:
    """A backbone is called by its label, its name, or by name and weights where that is needed."""
    spec = read(
        "data: digits\nbackbones: [a, {name: b, label: bee}, {name: c}, {name: c, weights: none}]"
    )
    assert spec.backbone_labels == ("a", "bee", "c:DEFAULT", "c:none")
    assert spec.backbone("c:none").weights == "none"


def test_frozen() -> None:
    """A study cannot be changed after it was read."""
    with pytest.raises(ValidationError):
        read(MINIMAL).seed = 3  # type: ignore[misc]


# --- digest, seeds, schema ----------------------------------------------------------------------

FULL = """
data: {kind: folder, path: photos, split: {val: 0.3}}
backbones: [resnet18, {name: mobilenet_v2, weights: none, kwargs: {width_mult: 0.35}}]
search_space:
  lr: {low: 1e-4, high: 1e-1, log: true, when: {optimizer: sgd}}
  optimizer: [sgd, adamw]
  lp_ft: [true, false]
  warmup: 0
defaults: {lr: 1e-3}
sampler: {kind: tpe, n_startup_trials: 4}
pruner: hyperband
"""


def test_json_round_trip() -> None:
    """A study that was stored as JSON is the same study: equal, with the same digest."""
    spec = read(FULL)
    stored = json.loads(json.dumps(spec.model_dump(mode="json")))
    again = StudySpec.model_validate(stored)
    assert again == spec
    assert again.digest == spec.digest
    assert read(dump(stored)) == spec


@pytest.mark.parametrize(
    "setting",
    [
        "name=x",
        "data.path=elsewhere",
        "search_space.warmup=0",
        "budget.trials=31",
        "budget.hours=2",
        "budget.gpu_hours=2",
        "budget.epochs_total=200",
        "keep=all",
        "keep=best-7",
        "confirm=true",
        "confirm={top: 3}",
        "leases.seconds=5",
        "leases.stall_seconds=60",
        "leases.max_attempts=1",
        "pruner.control=0",
        "pruner.control=1",
    ],
)
def test_digest_ignores_where(setting: str) -> None:
    """It depends neither on the name, nor on where the data lies, nor on what guards the trials."""
    assert read(FULL, setting).digest == read(FULL).digest


@pytest.mark.parametrize(
    "setting",
    [
        "data.split.val=0.2",
        "data.split.seed=1",
        "data.kind=arrays",
        "backbones.0.weights=none",
        "search_space.lr.high=0.2",
        "search_space.lr.when={}",
        "search_space.warmup=0.1",
        "defaults.lr=2e-3",
        "objective=loss",
        "budget.epochs=31",
        "sampler=random",
        "pruner=none",
        "seed=1",
        "task=image-regression",
    ],
)
def test_digest_knows_what(setting: str) -> None:
    """The digest depends on everything that decides what is searched."""
    assert read(FULL, setting).digest != read(FULL).digest


def test_several_objectives() -> None:
    """A bare word is a metric; a list of one is that one; what is stored is the same study."""
    spec = read(MINIMAL, "objective=[accuracy, {cost: latency_ms}, {metric: loss}]")
    assert [name_of(each) for each in spec.objectives] == ["accuracy", "latency_ms", "loss"]
    again = StudySpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.digest == spec.digest != read(MINIMAL).digest
    assert read(MINIMAL, "objective=[loss]").objective == read(MINIMAL, "objective=loss").objective
    assert len(read(MINIMAL).objectives) == 1


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("false", None),
        ("true", ConfirmSpec(top=5, seeds=5, ablation=True)),
        ("{seeds: 3}", ConfirmSpec(top=5, seeds=3, ablation=True)),
        ("{top: 2, ablation: false}", ConfirmSpec(top=2, seeds=5, ablation=False)),
    ],
)
def test_what_is_run_again(written: str, meant: ConfirmSpec | None) -> None:
    """Nothing unless the file says so; `true` is five configurations, five seeds, and the way."""
    assert read(MINIMAL).confirmation is None
    assert read(MINIMAL, f"confirm={written}").confirmation == meant


@pytest.mark.parametrize("kind", ["asha", "hyperband", "median"])
def test_control_trials_are_a_share(kind: str) -> None:
    """Every pruner lets a twentieth of the trials run on, or as many as the file says."""
    assert read(MINIMAL, f"pruner={kind}").pruner.control == 0.05  # type: ignore[union-attr]
    for share in ("-0.1", "1.1"):
        with pytest.raises(SpecError, match="control"):
            read(MINIMAL, f"pruner={kind}", f"pruner.control={share}")


@pytest.mark.parametrize(
    ("setting", "digest"),
    [
        ("pruner=asha", "7138ac28235070cc7fbc9f2a029a21d546f0b88a9d4eb5050486951c1c1732ac"),
        ("pruner=median", "077cc131fc672b8244d071bef445646332f81b8ddfbf25249221db352ae128f8"),
        ("pruner=none", "2dba4ac16c32cb6d625e811c9f6d3b17ab5b467e7a8be6621cb59769423f3fe3"),
        (
            "sampler={kind: tpe, cost_aware: false}",
            "7138ac28235070cc7fbc9f2a029a21d546f0b88a9d4eb5050486951c1c1732ac",
        ),
        ("objective=accuracy", "7138ac28235070cc7fbc9f2a029a21d546f0b88a9d4eb5050486951c1c1732ac"),
        (
            "objective=[{metric: accuracy}]",
            "7138ac28235070cc7fbc9f2a029a21d546f0b88a9d4eb5050486951c1c1732ac",
        ),
        ("objective=loss", "a1e472d01b5c3f079f5df0e0b59fdc15e1c0eca217b9712f9aafe361831db304"),
        ("objective=[loss]", "a1e472d01b5c3f079f5df0e0b59fdc15e1c0eca217b9712f9aafe361831db304"),
    ],
)
def test_studies_of_before_keep_their_digest(setting: str, digest: str) -> None:
    """Seeds of stored trials derive from it: what is added to the file may not change it."""
    assert read(MINIMAL, setting).digest == digest


def test_a_cost_aware_study_is_another() -> None:
    """It draws otherwise; only TPE knows the key."""
    aware = read(MINIMAL, "sampler={kind: tpe, cost_aware: true}")
    assert aware.is_cost_aware
    assert not read(MINIMAL).is_cost_aware
    assert not read(MINIMAL, "sampler=random").is_cost_aware
    assert aware.digest != read(MINIMAL).digest
    with pytest.raises(SpecError, match="cost_aware"):
        read(MINIMAL, "sampler={kind: gp, cost_aware: true}")


def test_seeds() -> None:
    """A seed depends on the digest and on every part, and fits 31 bits."""
    seeds = [
        derive_seed(digest, *parts)
        for digest in ("a", "b")
        for parts in ((), (1,), (2,), ("sampler", 1), ("sampler", 2))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed("a", 1) == seeds[1]


def test_schema() -> None:
    """The published schema knows every part; `name` is optional, as in the file."""
    made = schema()
    assert set(made["properties"]) == set(StudySpec.model_fields)
    assert made["required"] == ["data", "backbones"]
    assert made["additionalProperties"] is False
    json.dumps(made)


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL,
        FULL,
        MINIMAL + "search_space: auto",
        MINIMAL + "search_space: atuo",
        MINIMAL + "search_space: {lr: {low: 1, high: 2}}",
        MINIMAL + "search_space: {batch_size: {low: 8, high: 64}, lr: [1, 2], mixup: 0.1}",
        MINIMAL + "search_space: {lr: [{low: 1, high: 2, when: {lp_ft: true}}, {value: 3}]}",
        MINIMAL + "search_space: {lr: [1, {low: 3}]}",
        MINIMAL + "search_space: {rate: 1}",
        MINIMAL + "sampler: tpe\npruner: {kind: asha, min_resource: 2}",
        MINIMAL + "sampler: tpee",
        MINIMAL + "objective: loss\nbudget: {trials: 3}",
        MINIMAL + "budget: {trials: 0}",
        "data: {kind: folder}\nbackbones: [a]",
        "data: {kind: folder, path: x}\nbackbones: [{name: a, weights: none}, b]",
    ],
)
def test_schema_agrees_with_the_reader(text: str) -> None:
    """What the schema refuses the reader refuses, and the other way round."""
    import jsonschema

    value = yaml_file.parse(text, "f.yaml").value
    try:
        read(text)
    except SpecError:
        accepted = False
    else:
        accepted = True
    assert jsonschema.Draft202012Validator(schema()).is_valid(value) == accepted


# --- knobs and families -------------------------------------------------------------------------


def test_every_knob_has_a_kind() -> None:
    """A knob holds a float, an int, a bool or a word, as its default shows."""
    defaults = knobs.Knobs()
    for knob in KNOBS:
        assert type(getattr(defaults, knob)) is knobs.kind(knob)


@pytest.mark.parametrize(
    ("knob", "value", "held"),
    [("lr", 1, 1.0), ("batch_size", 8, 8), ("lp_ft", True, True), ("optimizer", "sgd", "sgd")],
)
def test_knob_values(knob: str, value: Any, held: Any) -> None:
    """A knob takes values of its kind; a whole number is also a number."""
    assert knobs.check(knob, value) == held
    assert type(knobs.check(knob, value)) is type(held)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("lr", 0.0),
        ("lr", "fast"),
        ("lr", True),
        ("batch_size", 1.5),
        ("lp_ft", 1),
        ("dropout", 1.0),
        ("strategy", "linear"),
        ("momentum", -0.1),
    ],
)
def test_knob_refuses(knob: str, value: Any) -> None:
    """A value of another kind, or out of the knob's own bounds, is refused."""
    with pytest.raises(ValidationError):
        knobs.check(knob, value)


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("resnet18", "resnet"),
        ("wide_resnet50_2", "resnet"),
        ("tiny_resnet", "resnet"),
        ("tiny_mobilenet", "mobile"),
        ("efficientnet_v2_s", "mobile"),
        ("vit_b_16", "transformer"),
        ("swin_t", "transformer"),
        ("convnext_tiny", "convnext"),
        ("squeezenet1_1", "vgg"),
        ("two_conv_cnn", "other"),
    ],
)
def test_families(backbone: str, name: str) -> None:
    """A backbone's family follows from its name."""
    assert family(backbone) == name


@pytest.mark.parametrize(
    ("budget", "trials"),
    [
        ({}, 30),
        ({"hours": 2}, 30),
        ({"gpu_hours": 2}, None),
        ({"epochs_total": 100}, None),
        ({"epochs_total": 100, "trials": 12}, 12),
        ({"hours": 2, "trials": None}, None),
    ],
)
def test_trials_have_no_limit_of_their_own_where_another_budget_ends_the_study(
    budget: dict[str, Any], trials: int | None
) -> None:
    """Left out beside device hours or epochs, or null; stored, it is read as it was."""
    made = Budget.model_validate(budget)
    assert made.trials == trials
    assert Budget.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({"trials": None}, "never ends"),
        ({"epochs_total": 4, "epochs": 5}, "less than one trial's epochs"),
        ({"gpu_hours": 0}, "greater than 0"),
    ],
)
def test_budgets_that_make_no_sense(budget: dict[str, Any], why: str) -> None:
    """None that never ends, none that no trial fits in."""
    with pytest.raises(ValidationError, match=why):
        Budget.model_validate(budget)
