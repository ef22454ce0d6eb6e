"""Where good values lie in several studies, and the piece of a study file that follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tables import table

from tunesvc import space
from tunesvc.analysis.fragment import fragment
from tunesvc.analysis.priors import Prior, priors
from tunesvc.analysis.table import Dimension, Trials, Unsupported
from tunesvc.spec import StudySpec
from tunesvc.spec.load import load

LR = Dimension("lr", "lr", "float", 1e-5, 1e-1, log=True)
STRATEGY = Dimension(
    "strategy", "strategy", "categorical", choices=("linear-probe", "last-stage", "full")
)
SIZE = Dimension("batch_size", "batch_size", "int", 8, 128, step=8)
WARMUP = Dimension("warmup", "warmup", "float", 0.0, 0.5, step=0.1)
BRANCHES = (
    STRATEGY,
    replace(LR, name="lr@head", when={"strategy": ("linear-probe",)}),
    replace(LR, name="lr@body", low=1e-6, when={"strategy": ("last-stage", "full")}),
)


def study(score: Any, *searched: Dimension, seed: int = 0, count: int = 100, **more: Any) -> Trials:
    """Trials drawn at random, each with the score of its parameters."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        drawn: dict[str, Any] = {}
        for each in searched:
            drawn[each.name] = _drawn(each, drawn, rng)
        row: dict[str, Any] = {f"param:{name}": value for name, value in drawn.items()}
        rows.append(row | {"value": score({k: v for k, v in drawn.items() if v is not None})})
    return table(rows, space=searched, **more)


def _drawn(dimension: Dimension, so_far: dict[str, Any], rng: np.random.Generator) -> Any:
    if any(so_far.get(key) not in values for key, values in dimension.when.items()):
        return None
    if dimension.kind == "categorical":
        return dimension.choices[rng.integers(len(dimension.choices))]
    low, high = dimension.low or 0.0, dimension.high or 0.0
    if dimension.log:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    step = dimension.step or 1e-9
    return low + step * int(rng.integers(round((high - low) / step) + 1))


def near(lr: float) -> Any:
    """A score that is best at this learning rate."""
    return lambda drawn: -abs(np.log10(drawn["lr"] / lr))


def found(*studies: Trials) -> dict[str, Prior]:
    made = priors(studies)
    assert not isinstance(made, Unsupported), made
    return {prior.name: prior for prior in made}


def test_a_number_s_range_is_where_the_best_tenths_lie() -> None:
    """Around the optimum that both studies have; what has no effect keeps four fifths."""
    both = [study(near(1e-3), LR, SIZE, seed=seed, count=400) for seed in (0, 1)]
    found_ = found(*both)
    lr, size = found_["lr"], found_["batch_size"]
    assert lr.low is not None
    assert lr.high is not None
    assert 5e-4 < lr.low < 1e-3 < lr.high < 2e-3
    assert lr.default == pytest.approx(1e-3, rel=0.3)
    assert lr.kept == pytest.approx(np.log10(lr.high / lr.low) / 4)
    assert (lr.studies, lr.trials) == (2, 80)
    assert size.kept == pytest.approx(0.8, abs=0.1)
    assert (size.low or 0) % 8 == 0
    assert isinstance(size.default, int)


def test_lower_can_be_better() -> None:
    """The best tenth of losses is the lowest."""
    lost = [
        study(lambda d: abs(np.log10(d["lr"] / 1e-3)), LR, seed=s, direction="minimize")
        for s in (0, 1)
    ]
    assert found(*lost)["lr"].default == pytest.approx(1e-3, rel=0.5)


def test_every_study_counts_the_same() -> None:
    """A large study does not outvote two small ones."""
    small = [study(near(1e-4), LR, seed=seed, count=60) for seed in (0, 1)]
    large = study(near(1e-2), LR, seed=2, count=2000)
    assert found(*small, large)["lr"].default == pytest.approx(1e-4, rel=0.7)


def test_choices_have_frequencies() -> None:
    """In equal parts of every study; the most frequent is the default."""
    likes = {"full": 2.0, "last-stage": 1.0, "linear-probe": 0.0}
    both = [
        study(lambda d: likes[d["strategy"]], STRATEGY, seed=0),
        study(lambda d: -likes[d["strategy"]], STRATEGY, seed=1, count=50),
        study(lambda d: likes[d["strategy"]], STRATEGY, seed=2),
    ]
    strategy = found(*both)["strategy"]
    assert strategy.default == "full"
    assert dict(strategy.frequencies) == {
        "full": pytest.approx(2 / 3),
        "linear-probe": pytest.approx(1 / 3),
        "last-stage": 0,
    }
    assert strategy.kept == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("studies", "why"),
    [
        ([], "has 0"),
        ([study(near(1e-3), LR)], "has 1"),
        ([study(near(1e-3), LR), study(near(1e-3), LR, count=19)], "has 1"),
        ([study(lambda d: float("nan"), LR), study(near(1e-3), LR)], "has 1"),
        ([study(near(1e-3), LR), study(lambda d: 0.0, SIZE)], "no parameter"),
        ([study(near(1e-3), LR, count=20)] * 2, "no parameter"),  # two values and two
    ],
)
def test_too_little_has_no_prior(studies: list[Trials], why: str) -> None:
    """One study, small ones, values that are no numbers, different knobs, few values."""
    found = priors(studies)
    assert isinstance(found, Unsupported)
    assert why in found.why


def test_a_branch_that_no_good_trial_of_a_study_took() -> None:
    """The others' good trials tell of it, if they are two studies at least."""

    def score(drawn: dict[str, Any]) -> float:
        return float(drawn["strategy"] == "full")

    def reverse(drawn: dict[str, Any]) -> float:
        return float(drawn["strategy"] == "linear-probe")

    made = found(
        *(study(each, *BRANCHES, seed=i) for i, each in enumerate([score, score, reverse]))
    )
    assert "lr@head" not in made
    assert made["lr@body"].studies == 2


# ---- the piece of a study file


def stored(text: str, tmp_path: Path, backbones: str = "[tiny_resnet]") -> StudySpec:
    """The piece pasted into a file, read and checked as `new-study` does it."""
    path = tmp_path / "next.yaml"
    path.write_text(f"data: digits\nbackbones: {backbones}\n{text}")
    spec = load(path)
    space.build(spec)
    return spec


def test_the_piece_is_a_valid_part_of_a_study_file(tmp_path: Path) -> None:
    """Ranges, choices, defaults inside them; what never mattered is fixed at its default."""

    def score(drawn: dict[str, Any]) -> float:
        lr = drawn.get("lr@head", drawn.get("lr@body"))
        goal = 1e-2 if "lr@head" in drawn else 1e-4
        penalty = 5.0 if drawn["strategy"] == "last-stage" else 0.0
        return float(-abs(np.log10(lr / goal)) - penalty)

    both = [study(score, *BRANCHES, SIZE, WARMUP, seed=seed, count=400) for seed in (0, 1)]
    made = priors(both)
    assert not isinstance(made, Unsupported)
    text = fragment(made, never={"batch_size"})
    spec = stored(text, tmp_path)
    assert spec.search_space != "auto"
    assert set(spec.search_space) == {"strategy", "lr", "warmup"}
    assert yaml.safe_load(text)["search_space"]["strategy"] == ["linear-probe", "full"]
    names = [parameter.name for parameter in space.build(spec).parameters]
    assert names == ["strategy", "lr@head", "lr@body", "warmup"]
    head, body = spec.search_space["lr"]
    assert head.low > body.high  # type: ignore[union-attr]
    assert spec.defaults["batch_size"] % 8 == 0  # type: ignore[operator]
    assert spec.defaults["lr"] < 1e-3 or spec.defaults["strategy"] == "linear-probe"


def test_one_value_is_fixed_and_odd_words_are_quoted(tmp_path: Path) -> None:
    """A range that has shrunk to a point is no range."""
    warmup = Prior(WARMUP, 0.1, 0.1, 0.0, 0.1, (), 2, 20)
    frozen = Dimension("frozen_bn", "frozen_bn", "categorical", choices=(True, False))
    bn = Prior(frozen, None, None, 1.0, True, ((True, 0.7), (False, 0.3)), 2, 20)
    momentum = Dimension("momentum", "momentum", "float", 0.0, 0.99)
    heavy = Prior(momentum, 0.85, 0.98765432, 0.1, 0.9, (), 2, 20)
    text = fragment([warmup, bn, heavy], never=())
    spec = stored(text, tmp_path)
    assert spec.search_space != "auto"
    assert spec.defaults == {"warmup": 0.1, "frozen_bn": True, "momentum": 0.9}
    assert "frozen_bn: [true, false]  # true 70%, false 30%" in text
    assert "high: 0.9877" in text
    word = Dimension("x", "x", "categorical", choices=("on", "a b", "Sgd", "adam"))
    odd = Prior(word, None, None, 1.0, "on", tuple((c, 0.25) for c in word.choices), 2, 20)
    assert yaml.safe_load(fragment([odd], ()))["search_space"] == {
        "x": ["on", "a b", "Sgd", "adam"]
    }


def test_a_condition_that_cannot_be_written_leaves_its_variant_out(tmp_path: Path) -> None:
    """Its knob has no prior, or its value never came up."""
    kept = Prior(STRATEGY, None, None, 0.3, "full", (("full", 1.0), ("linear-probe", 0.0)), 2, 20)
    head, body = (Prior(each, 1e-4, 1e-3, 0.2, 3e-4, (), 2, 20) for each in BRANCHES[1:])
    lost = replace(WARMUP, when={"optimizer": ("sgd",)})
    spec = stored(
        fragment([kept, head, body, Prior(lost, 0, 0.2, 0.4, 0.1, (), 2, 20)], ()), tmp_path
    )
    assert spec.search_space != "auto"
    assert set(spec.search_space) == {"strategy", "lr"}
    assert [variant.label for variant in spec.search_space["lr"]] == ["body"]


def test_what_hangs_on_the_backbone_has_no_default(tmp_path: Path) -> None:
    """One value need not lie in every backbone's range; the backbone itself is no part of it."""
    first = replace(LR, name="lr@r", when={"backbone": ("tiny_resnet",)})
    label = Dimension(
        "backbone", "backbone", "categorical", choices=("tiny_resnet", "tiny_mobilenet")
    )
    made = [
        Prior(label, None, None, 1.0, "tiny_resnet", (("tiny_resnet", 1.0),), 2, 20),
        Prior(first, 1e-4, 1e-3, 0.2, 3e-4, (), 2, 20),
        Prior(LR, 1e-5, 1e-4, 0.2, 3e-5, (), 2, 20),
    ]
    text = fragment(made, never=())
    spec = stored(text, tmp_path, "[tiny_resnet, tiny_mobilenet]")
    assert spec.defaults == {}
    assert spec.search_space != "auto"
    assert len(spec.search_space["lr"]) == 2


def test_no_priors_make_no_piece(tmp_path: Path) -> None:
    """Nothing to paste; a space in which nothing matters searches nothing but its backbones."""
    assert fragment([], ()) == ""
    text = fragment([Prior(LR, 1e-4, 1e-3, 0.2, 3e-4, (), 2, 20)], never={"lr"})
    assert stored(text, tmp_path).search_space == {}
