"""How well cheap predictors foretold what fine-tuning really gave; and what more pretraining gives.

What fine-tuning gave a backbone is the value of its best finished trial, those from scratch left
out. It is itself found by a search: noise, and few trials of a backbone, blur the order that a
predictor is held against, so that no predictor looks quite as good as it is.

A predictor's *regret* is what one loses by fine-tuning only the backbone that it puts first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median
from typing import Any

import numpy as np

from tunesvc.analysis.rank_correlation import FEWEST, RankCorrelation, rank_correlation
from tunesvc.analysis.table import Direction, Trials, Unsupported

PROBE, LOGME, H_SCORE, IMAGENET = "linear probe", "LogME", "H-score", "ImageNet top-1"

Scores = Mapping[str, Mapping[str, float]]  # predictor → backbone → score, larger is better


@dataclass(frozen=True)
class Foretold:
    """One backbone: what a predictor said, and what was found.

    Args:
        score: in the predictor's own unit; larger is better.
        best: objective of its best finished trial.
    """

    backbone: str
    score: float
    best: float


@dataclass(frozen=True)
class Predictor:
    """One predictor, held against the search.

    Args:
        backbones: those it has a score of and that were fine-tuned, the best score first.
        correlation: of its scores with what fine-tuning gave.
        regret: how much worse the best trial of the backbone that it puts first is than the best
            trial of all that it has a score of; ≥ 0, in the objective's unit.
        missing: backbones that were fine-tuned and that it has no score of.
    """

    name: str
    backbones: tuple[Foretold, ...]
    correlation: RankCorrelation | Unsupported
    regret: float
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """Weights of one pretraining, after some epoch, and what fine-tuning made of them.

    Args:
        backbone: label.
        epoch: of pretraining, from 1.
        pretraining: `Pretraining.metric` after it, on pretraining's own validation split.
        best, median: objective of the finished trials.
        trials: finished.
    """

    backbone: str
    epoch: int
    pretraining: float
    best: float
    median: float
    trials: int


@dataclass(frozen=True)
class Pretraining:
    """Whether longer, better pretraining gives better fine-tuning.

    Args:
        name: of the pretraining.
        metric: by which it is told.
        snapshots: in the order of their epochs.
        best, median: rank correlation of the pretraining's metric with fine-tuning's best and
            median; positive where better pretraining goes with better fine-tuning.
    """

    name: str
    metric: str
    snapshots: tuple[Snapshot, ...]
    best: RankCorrelation | Unsupported
    median: RankCorrelation | Unsupported


def league_scores(
    league: Iterable[Mapping[str, Any]], metric: str, direction: Direction
) -> dict[str, dict[str, float]]:
    """Return what each predictor of a league table says of each backbone; larger is better.

    Args:
        league: one entry a backbone: `backbone`, and where known `metrics`, `logme`, `h_score`,
            `imagenet_top1`.
        metric: of the study; `direction` is its.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    scores: dict[str, dict[str, float]] = {PROBE: {}, LOGME: {}, H_SCORE: {}, IMAGENET: {}}
    for entry in league:
        probed = (entry.get("metrics") or {}).get(metric)
        said = {
            PROBE: None if probed is None else sign * probed,
            LOGME: entry.get("logme"),
            H_SCORE: entry.get("h_score"),
            IMAGENET: entry.get("imagenet_top1"),
        }
        for name, score in said.items():
            if score is not None and isfinite(score):
                scores[name][entry["backbone"]] = float(score)
    return {name: known for name, known in scores.items() if known}


def predictors(trials: Trials, scores: Scores) -> tuple[Predictor, ...] | Unsupported:
    """Return how well each predictor foretold the order of the backbones, the best one first."""
    found = {label: max(own) for label, own in _tuned(trials).items()}
    if len(found) < FEWEST:
        return Unsupported(f"needs {FEWEST} fine-tuned backbones, has {len(found)}")
    held = [_held(name, known, found, trials.sign) for name, known in scores.items()]
    if not held:
        return Unsupported("no predictor was computed for this study")
    return tuple(sorted(held, key=_merit, reverse=True))


def _tuned(trials: Trials) -> dict[str, list[float]]:
    """Return the scores, larger is better, of each backbone's finished trials with its weights."""
    finished = trials.finished
    is_tuned = (finished["strategy"] != "from-scratch").to_numpy(bool)
    if "pretrained" in finished:
        is_tuned = is_tuned & finished["pretrained"].to_numpy(bool)
    scores = trials.sign * finished["value"].to_numpy(float)
    kept = is_tuned & np.isfinite(scores)
    found: dict[str, list[float]] = {}
    for label, score in zip(finished["backbone"][kept], scores[kept], strict=True):
        found.setdefault(str(label), []).append(float(score))
    return found


def _held(
    name: str, known: Mapping[str, float], found: Mapping[str, float], sign: float
) -> Predictor:
    """Hold one predictor's scores against what was found, larger is better."""
    labels = sorted((label for label in found if label in known), key=lambda each: -known[each])
    told = tuple(Foretold(label, known[label], sign * found[label]) for label in labels)
    reached = [found[label] for label in labels]
    return Predictor(
        name,
        told,
        rank_correlation([known[label] for label in labels], reached, "backbones"),
        max(reached) - reached[0] if reached else 0.0,
        tuple(label for label in found if label not in known),
    )


def _merit(predictor: Predictor) -> float:
    found = predictor.correlation
    return found.kendall.value if isinstance(found, RankCorrelation) else -inf


def pretraining(
    trials: Trials, league: Iterable[Mapping[str, Any]]
) -> tuple[Pretraining, ...] | Unsupported:
    """Return, for each pretraining of which several snapshots were fine-tuned, what came of them.

    Args:
        league: one entry a backbone: `backbone`, and where its weights tell it `pretraining`, with
            `name`, `epoch`, `metric` and `value`, of which larger is better.
    """
    tuned = _tuned(trials)
    runs: dict[tuple[str, str], list[Snapshot]] = {}
    for entry in league:
        known, own = entry.get("pretraining"), tuned.get(entry["backbone"])
        if known and own:
            snapshot = _snapshot(entry["backbone"], known, own, trials.sign)
            runs.setdefault((known["name"], known["metric"]), []).append(snapshot)
    several = {run: snapshots for run, snapshots in runs.items() if len(snapshots) > 1}
    if not several:
        return Unsupported("needs 2 fine-tuned snapshots of one pretraining (--keep-epochs)")
    return tuple(_run(*run, snapshots, trials.sign) for run, snapshots in several.items())


def _snapshot(label: str, known: Mapping[str, Any], scores: list[float], sign: float) -> Snapshot:
    best, middle = sign * max(scores), sign * median(scores)
    return Snapshot(label, int(known["epoch"]), float(known["value"]), best, middle, len(scores))


def _run(name: str, metric: str, snapshots: list[Snapshot], sign: float) -> Pretraining:
    ordered = sorted(snapshots, key=lambda each: each.epoch)
    before = [each.pretraining for each in ordered]
    return Pretraining(
        name,
        metric,
        tuple(ordered),
        rank_correlation(before, [sign * each.best for each in ordered], "snapshots"),
        rank_correlation(before, [sign * each.median for each in ordered], "snapshots"),
    )
