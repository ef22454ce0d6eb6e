"""A study played without training: which trials may come, and after how many epochs each ends.

Why: 2026-11: configurations are drawn at random and the study's own pruner judges scores that are
drawn too, so every kind of pruner is reckoned with as it decides, the first trials and the controls
included. A trial's scores stay near its quality, a uniform number; where the sampler learns, the
better of two of them from its first proposal on. With that as many trials of the ready studies go
on at a rung as really did.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tunesvc import search, space
from tunesvc.spec import Knobs, StudySpec

_LEARNING = ("tpe", "gp", "cmaes")
_NOISE = 0.1  # of a score, where qualities lie between 0 and 1


@dataclass(frozen=True)
class Played:
    """A trial as it may come: trained for so many epochs.

    `is_stacked`: its head alone is trained, beside those of others.
    """

    label: str
    knobs: Knobs
    epochs: int
    is_stacked: bool


def play(spec: StudySpec, seed: int) -> Iterator[Played]:
    """Yield trial after trial, without end: the defaults, then drawn ones."""
    built, chance = space.build(spec), random.Random(seed)
    defaults = [built.resolve(params) for params in built.defaults()]
    looks = sorted(search.evaluated(spec.model_copy(update={"evaluate": "rungs"})))
    study = _study(spec, seed)
    for number in count():
        trial = study.ask()
        is_default = number < len(defaults)
        label, knobs = defaults[number] if is_default else built.suggest(trial)
        is_stacked = _is_stacked(spec, knobs)
        runs_on = is_default or is_stacked or search.controls(spec)(number)
        quality = max(chance.random() for _ in range(_draws(spec, number)))
        ended = 0
        for ended in looks:
            trial.report(chance.gauss(quality, _NOISE), ended)
            if ended < spec.budget.epochs and trial.should_prune() and not runs_on:
                break
        study.tell(trial, quality, TrialState.COMPLETE)
        yield Played(label, knobs, ended, is_stacked)


def _study(spec: StudySpec, seed: int) -> optuna.Study:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler, pruner = RandomSampler(seed=seed), search.pruner(spec)
        return optuna.create_study(
            study_name=spec.name, direction="maximize", sampler=sampler, pruner=pruner
        )
    finally:
        optuna.logging.set_verbosity(level)


def _draws(spec: StudySpec, number: int) -> int:
    first = getattr(spec.sampler, "n_startup_trials", 0)
    return 2 if spec.sampler.kind in _LEARNING and number >= first else 1


def _is_stacked(spec: StudySpec, knobs: Knobs) -> bool:
    is_mixed = bool(knobs.mixup or knobs.cutmix)
    return knobs.strategy == "linear-probe" and spec.augment == "cached" and not is_mixed
