"""Ablation paths on a surface known by formula."""

from __future__ import annotations

from dataclasses import asdict, replace
from json import dumps

import pytest
from known_surface import (
    DEFAULTS,
    SEEDS,
    accuracy,
    fitted,
    known_study,
    known_surface,
    share_held,
    with_states,
)

from tunesvc.analysis.ablation import ablation_path, with_measured
from tunesvc.analysis.table import Direction, Unsupported

START = DEFAULTS["far"]
BEST = {
    "backbone": "far",
    "strategy": "full",
    "lr@full": 2e-3,
    "layer_decay": 1.0,
    "batch_size": 32,
    "null": 0.2,
}
STUDY = known_study([BEST])
SURFACE = known_surface(STUDY)


def test_the_flip_that_gains_most_comes_first() -> None:
    """Strategy, then batches; what changes nothing comes last and is marked."""
    path = ablation_path(STUDY, SURFACE, "far")
    assert [flip.knobs[0] for flip in path.flips] == ["strategy", "batch_size", "null"]
    assert [flip.idle for flip in path.flips] == [False, False, True]
    gains = [flip.gain.value for flip in path.flips]
    assert gains == pytest.approx([accuracy(BEST) - accuracy(START) - 0.03, 0.03, 0.0])


def test_what_depends_on_a_knob_moves_with_it() -> None:
    """With the strategy go its learning rate and its layer decay, to the best configuration's."""
    first = ablation_path(STUDY, SURFACE, "far").flips[0]
    assert first.knobs == ("strategy", "lr", "layer_decay")
    assert first.before == {"strategy": "probe", "lr@probe": 1e-3}
    assert first.after == {"strategy": "full", "lr@full": 2e-3, "layer_decay": 1.0}
    assert first.params == {**BEST, "batch_size": 16, "null": 0.5}


def test_the_configurations_lead_from_default_to_best() -> None:
    """Each is whole, so that it can be run; each differs from the one before by one flip."""
    path = ablation_path(STUDY, SURFACE, "far")
    assert path.configurations[0] == path.start == START
    assert path.configurations[-1] == BEST
    assert path.best_trial == 2
    assert len(path.configurations) == 4
    assert path.start_value.value == pytest.approx(0.57)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_loss_takes_the_same_path(direction: Direction) -> None:
    """Gains are positive where it gets better, whichever way that is."""
    sign = 1.0 if direction == "maximize" else -1.0
    study = known_study([BEST], surface=lambda row: sign * accuracy(row), direction=direction)
    surface = known_surface(study, lambda row: sign * accuracy(row))
    path = ablation_path(study, surface, "far")
    assert [flip.knobs[0] for flip in path.flips] == ["strategy", "batch_size", "null"]
    assert all(flip.gain.value >= 0 for flip in path.flips)


def test_a_flip_that_harms_comes_after_those_that_help() -> None:
    """Batches of 64 are worse than the default's 32, and yet part of the best trial; what does
    nothing comes even later.
    """
    best = {**DEFAULTS["near"], "batch_size": 64, "lr@full": 1e-4, "layer_decay": 0.9, "null": 0.1}

    def surface(row: dict) -> float:  # all three together are good
        together = {**row, **best, "null": row["null"]} == dict(row)
        return accuracy(row) + 0.1 * together

    study = known_study([best], surface=surface)
    path = ablation_path(study, known_surface(study, surface), "near")
    gains = [flip.gain.value for flip in path.flips]
    assert [flip.knobs[0] for flip in path.flips] == ["batch_size", "layer_decay", "lr", "null"]
    assert gains == pytest.approx([-0.005, -0.008, -0.02 + 0.1, 0.0])


def test_a_default_that_is_the_best_has_an_empty_path() -> None:
    """There is nothing to flip."""
    path = ablation_path(STUDY, SURFACE, "near")
    assert path.flips == ()
    assert path.configurations == (DEFAULTS["near"],)


def test_real_runs_are_told_beside_the_prediction() -> None:
    """Seeds of one configuration are averaged; what was not run, or is not on the path, is not."""
    path = ablation_path(STUDY, SURFACE, "far")
    runs = [
        (START, 0.55),
        (START, 0.57),
        (path.flips[0].params, 0.85),
        (path.flips[0].params, float("nan")),
        ({**BEST, "null": 0.9}, 0.1),
    ]
    found = with_measured(path, runs)
    start = found.start_measured
    assert start.value == pytest.approx(0.56)
    assert start.high - start.low == pytest.approx(2 * 1.6449 * SURFACE.noise / 2**0.5, rel=1e-3)
    assert start.trials == 2
    assert found.flips[0].measured.value == 0.85
    assert found.flips[1].measured is found.flips[2].measured is None
    assert found.flips[0].gain == path.flips[0].gain
    assert dumps(asdict(found))


@pytest.mark.parametrize(
    ("study", "surface", "why"),
    [
        (STUDY, Unsupported("needs 20 finished trials, has 5"), "needs 20 finished trials, has 5"),
        (replace(STUDY, defaults={}), SURFACE, "the default configuration of far is unknown"),
        (with_states(STUDY, "PRUNED"), SURFACE, "needs 1 finished trial of far, has 0"),
    ],
)
def test_what_no_path_can_be_made_of(study: object, surface: object, why: str) -> None:
    """Without a surface, a start or an end there is none."""
    assert ablation_path(study, surface, "far") == Unsupported(why)


def test_equal_values() -> None:
    """Where every configuration gives the same, every flip is idle."""
    study = known_study([BEST], surface=lambda _: 0.5)
    path = ablation_path(study, known_surface(study, lambda _: 0.5), "far")
    assert all(flip.idle for flip in path.flips)


def test_a_noisy_study_has_the_same_path() -> None:
    """Strategy first, batches second, and the predicted gains hold the truth."""
    told = []
    for seed in SEEDS:
        trials, surface, truth = fitted(seed)
        path, real = (ablation_path(trials, s, "far") for s in (surface, truth))
        assert [flip.knobs[0] for flip in path.flips][:2] == ["strategy", "batch_size"]
        assert path.configurations[-1] == real.configurations[-1]
        told += [
            (one.gain, other.gain)
            for one in path.flips
            for other in real.flips
            if one.params == other.params and one.knobs == other.knobs
        ]
    assert len(told) > 6
    assert share_held(told) >= 0.85
