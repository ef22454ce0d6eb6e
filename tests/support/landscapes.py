"""Synthetic studies whose truth is known: what a measure says of them can be held against it.

A landscape is a search space and a surface over it. Its true shares of variance are computed from
the surface itself, over the uniform distribution on the space, without noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import qmc

from tunesvc.analysis.encoding import Encoding, levels
from tunesvc.analysis.table import Dimension, Direction, Scalar, Trials

Array = NDArray[np.float64]
Point = Mapping[str, Array]  # parameter → its place in [0, 1], NaN where it is not drawn

EPOCHS = 9
RUNGS = (1, 3)  # the epochs at which the pruner decides
KEPT = 3  # one in so many goes on
LOG2_SAMPLES = 15  # of the truth
LOG2_EFFECT = 9  # of one effect at one point


@dataclass(frozen=True)
class Truth:
    """Shares of the surface's variance, each within the branch where its parameters are drawn."""

    landscape: Landscape

    @property
    def mains(self) -> Mapping[str, float]:
        """The share of each parameter alone."""
        return _mains(self.landscape)

    @property
    def pairs(self) -> Mapping[tuple[str, str], float]:
        """What two parameters are worth beyond what each is worth alone; in the space's order."""
        return _pairs(self.landscape)


@dataclass(frozen=True)
class Landscape:
    """A search space and a surface over it.

    Args:
        surface: noise-free value of points; its mean and spread are of no concern, see `value`.
        null: parameters without any effect.
        noise: standard deviation of a trial's value around the surface, in units of the surface's.
        heavy: noise has long tails (Student's t with 3 degrees of freedom).
        slow: learning is the slower the smaller this parameter is; so learning curves cross.
    """

    name: str
    space: tuple[Dimension, ...]
    surface: Callable[[Point], Array]
    null: tuple[str, ...]
    noise: float = 0.3
    direction: Direction = "maximize"
    pruned: bool = False
    slow: str = "lr"
    heavy: bool = False

    def value(self, unit: Array) -> Array:
        """Return the noise-free value of points, (n, parameters): an accuracy, or a loss."""
        _, mean, spread = _moments(self)
        level, scale = (0.75, 0.08) if self.direction == "maximize" else (1.0, 0.3)
        return level + scale * (self._raw(unit) - mean) / spread

    def deviation(self) -> float:
        """Return the standard deviation of a trial's noise, in the objective's unit."""
        return self.noise * (0.08 if self.direction == "maximize" else 0.3)

    def truth(self) -> Truth:
        """Return the true shares."""
        return Truth(self)

    @property
    def top(self) -> str:
        """The parameter, among those drawn everywhere, with the largest share."""
        everywhere = {d.name for d in self.space if not d.when}
        mains = self.truth().mains
        return max(everywhere, key=lambda name: mains[name])

    def __hash__(self) -> int:
        return hash(self.name)

    def _raw(self, unit: Array) -> Array:
        return self.surface({d.name: unit[:, i] for i, d in enumerate(self.space)})


def number(name: str, *, log: bool = False) -> Dimension:
    """Return a range of real numbers."""
    return Dimension(name, name.partition("@")[0], "float", 1e-5 if log else 0.0, 1.0, log)


def choice(name: str, count: int) -> Dimension:
    """Return a parameter with some values: a0, a1, …"""
    return Dimension(
        name, name, "categorical", choices=tuple(f"{name[0]}{i}" for i in range(count))
    )


def inside(dimension: Dimension, **when: tuple[Scalar, ...]) -> Dimension:
    """Return a parameter that is drawn under a condition only."""
    return Dimension(**(vars(dimension) | {"when": when}))


def study(landscape: Landscape, n: int, seed: int, params: pd.DataFrame | None = None) -> Trials:
    """Return a study of `n` trials: drawn at random, or at these configurations in this order."""
    rng = np.random.default_rng((seed, n))
    encoding = Encoding(empty(landscape))
    if params is None:
        one = (encoding.sample(1, rng) for _ in range(n))  # one by one: they are independent
        params = pd.concat([*one], ignore_index=True)
    unit = encoding.unit(params)
    finals = landscape.value(unit) + landscape.deviation() * _errors(landscape, len(unit), rng)
    curves = [_curve(landscape, unit[i], finals[i], rng) for i in range(len(unit))]
    lengths = _asha(curves, landscape.direction) if landscape.pruned else [EPOCHS] * len(unit)
    return table(landscape, params, [curve[:e] for curve, e in zip(curves, lengths, strict=True)])


def empty(landscape: Landscape) -> Trials:
    """Return the study before its first trial."""
    names = [d.name for d in landscape.space]
    return table(landscape, pd.DataFrame({name: [] for name in names}, dtype=object), [])


def table(landscape: Landscape, params: pd.DataFrame, curves: Sequence[Sequence[float]]) -> Trials:
    """Return trials with these configurations and learning curves; short ones are pruned."""
    whole = [len(curve) == EPOCHS for curve in curves]
    last = [curve[-1] for curve in curves]
    n = len(curves)
    frame = pd.DataFrame(
        {
            "state": ["COMPLETE" if done else "PRUNED" for done in whole],
            "value": np.where(whole, last, np.nan) if n else np.empty(0),
            "last": np.array(last, dtype=float),
            "epochs": [len(curve) for curve in curves],
            "backbone": params.get("backbone", pd.Series(["b"] * n, dtype=object)).to_numpy(),
            "strategy": params.get("strategy", pd.Series(["s"] * n, dtype=object)).to_numpy(),
            "default": np.zeros(n, dtype=bool),
            "drawn": ["random"] * n,
            "control": np.zeros(n, dtype=bool),
            "stop_epoch": np.full(n, np.nan),
            "seconds": [10.0 * len(curve) for curve in curves],
            "worker": ["host:1"] * n,
            "reason": [""] * n,
        },
        index=pd.RangeIndex(n, name="number"),
    )
    for dimension in landscape.space:
        values = params[dimension.name].to_numpy(dtype=object)
        frame[f"param:{dimension.name}"] = values
        knob = f"knob:{dimension.knob}"
        frame[knob] = np.where(pd.isna(values), frame[knob], values) if knob in frame else values
    return Trials(
        study=landscape.name,
        metric="accuracy" if landscape.direction == "maximize" else "loss",
        direction=landscape.direction,
        epochs=EPOCHS,
        space=landscape.space,
        frame=frame,
        curves={i: tuple(enumerate(map(float, c), start=1)) for i, c in enumerate(curves)},
        backbones=tuple(dict.fromkeys(frame["backbone"])),
        defaults={},
        sampler="random",
        pruner="asha" if landscape.pruned else "none",
    )


def _errors(landscape: Landscape, n: int, rng: np.random.Generator) -> Array:
    """Return noise of variance 1."""
    if landscape.heavy:
        return np.asarray(rng.standard_t(3, n) / np.sqrt(3))
    return rng.standard_normal(n)


def _curve(
    landscape: Landscape, unit: Array, final: float, rng: np.random.Generator
) -> list[float]:
    """Return a value an epoch, the last of which is `final`."""
    epochs = np.arange(1, EPOCHS + 1)
    start, risen = way(landscape, unit[None], epochs)
    wobble = 0.5 * landscape.deviation() * rng.standard_normal(EPOCHS) * (epochs < EPOCHS)
    return list(start + (final - start) * risen + wobble)


def way(landscape: Landscape, unit: Array, epochs: NDArray[np.int_]) -> tuple[float, Array]:
    """Return where learning curves start, and which part of the way they are after these epochs.

    Args:
        unit: (n, parameters), or one point for all epochs.
    """
    names = [d.name for d in landscape.space]
    pace = unit[:, names.index(landscape.slow)] if landscape.slow in names else np.full(1, 0.5)
    years = 2.0 + 0.4 * (1 - np.nan_to_num(pace, nan=0.5))
    risen = (1 - np.exp(-epochs / years)) / (1 - np.exp(-EPOCHS / years))
    return 0.4 if landscape.direction == "maximize" else 2.5, np.asarray(risen)


def _asha(curves: Sequence[Sequence[float]], direction: Direction) -> list[int]:
    """Return after how many epochs each trial, in its turn, is stopped.

    Source: Li et al. 2020 (arXiv 1810.05934): on, if among the best third of those that came so
    far.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    seen: dict[int, list[float]] = {rung: [] for rung in RUNGS}
    return [_stopped(curve, seen, sign) for curve in curves]


def _stopped(curve: Sequence[float], seen: dict[int, list[float]], sign: float) -> int:
    for rung in RUNGS:
        score = sign * curve[rung - 1]
        seen[rung].append(score)
        if sorted(seen[rung], reverse=True).index(score) >= max(1, len(seen[rung]) // KEPT):
            return rung
    return EPOCHS


# Truth ---------------------------------------------------------------------------------------


@cache
def _moments(landscape: Landscape) -> tuple[int, float, float]:
    values = landscape._raw(_drawn(landscape, _points(landscape, 0)))
    return len(values), float(values.mean()), float(values.std())


@cache
def _mains(landscape: Landscape) -> dict[str, float]:
    return {d.name: _closed(landscape, (d.name,)) for d in landscape.space}


@cache
def _pairs(landscape: Landscape) -> dict[tuple[str, str], float]:
    pairs = {}
    for a, b in combinations([d.name for d in landscape.space], 2):
        if _together(landscape, (a, b)).any():
            alone = (_closed(landscape, (name,), within=(a, b)) for name in (a, b))
            pairs[a, b] = _closed(landscape, (a, b)) - sum(alone)
    return pairs


@cache
def _points(landscape: Landscape, half: int) -> Array:
    width = len(landscape.space)
    both = qmc.Sobol(2 * width, rng=np.random.default_rng(0)).random_base2(LOG2_SAMPLES)
    return np.asarray(both[:, half * width : (half + 1) * width])


def _drawn(landscape: Landscape, latent: Array) -> Array:
    """Return points with NaN where a parameter is not drawn, and midpoints of choices."""
    unit = latent.copy()
    names = [d.name for d in landscape.space]
    for i, dimension in enumerate(landscape.space):
        if count := levels(dimension):
            unit[:, i] = (np.floor(latent[:, i] * count) + 0.5) / count
        for knob, allowed in dimension.when.items():
            parent = landscape.space[names.index(knob)]
            index = np.floor(np.nan_to_num(unit[:, names.index(knob)]) * len(parent.choices))
            wanted = [parent.choices.index(value) for value in allowed]
            absent = np.isnan(unit[:, names.index(knob)]) | ~np.isin(index, wanted)
            unit[absent, i] = np.nan
    return unit


def _together(landscape: Landscape, names: Sequence[str]) -> NDArray[np.bool_]:
    columns = [[d.name for d in landscape.space].index(name) for name in names]
    return ~np.isnan(_drawn(landscape, _points(landscape, 0))[:, columns]).any(axis=1)


def _halves(
    landscape: Landscape, frozen: Sequence[str], within: Sequence[str]
) -> tuple[Array, Array]:
    """Return values of two samples that share the frozen parameters, inside a branch."""
    names = [d.name for d in landscape.space]
    here = [names.index(name) for name in within]
    one, other = _points(landscape, 0), _points(landscape, 1)
    # Both halves are moved into the branch through the parents' latent places.
    one, other = _entered(landscape, one, here), _entered(landscape, other, here)
    held = [names.index(name) for name in frozen]
    other[:, held] = one[:, held]
    first, second = _drawn(landscape, one), _drawn(landscape, other)
    inside_both = ~np.isnan(first[:, here]).any(axis=1) & ~np.isnan(second[:, here]).any(axis=1)
    return landscape._raw(first[inside_both]), landscape._raw(second[inside_both])


def _entered(landscape: Landscape, latent: Array, here: Sequence[int]) -> Array:
    """Return the points, those of conditions that matter squeezed into the values allowed."""
    names = [d.name for d in landscape.space]
    out = latent.copy()
    todo = list(here)
    while todo:
        for knob, allowed in landscape.space[todo.pop()].when.items():
            i = names.index(knob)
            count = len(landscape.space[i].choices)
            places = np.array([landscape.space[i].choices.index(value) for value in allowed])
            pick = np.minimum((latent[:, i] * len(places)).astype(int), len(places) - 1)
            out[:, i] = (places[pick] + 0.5) / count
            todo.append(i)
    return out


def _closed(
    landscape: Landscape, frozen: Sequence[str], within: Sequence[str] | None = None
) -> float:
    """Return the share of variance that frozen parameters are behind, by pick and freeze.

    Source: Janon et al. 2014 (arXiv 1303.6451), eq. 6; both halves from one Sobol sequence.
    """
    one, other = _halves(landscape, frozen, within or frozen)
    mean = (one + other).mean() / 2
    variance = ((one**2 + other**2) / 2).mean() - mean**2
    return float(((one * other).mean() - mean**2) / variance) if variance > 0 else 0.0


def at_places(landscape: Landscape, names: Sequence[str], unit: Array) -> Array:
    """Return the true effect of one parameter, or of two beyond each alone, at points: (n,)."""
    where = [[d.name for d in landscape.space].index(name) for name in names]
    latent = _entered(landscape, _points(landscape, 0)[: 2**LOG2_EFFECT], where)

    def mean(point: Array, held: Sequence[int]) -> float:
        moved = latent.copy()
        moved[:, held] = point[held]
        return float(landscape.value(_drawn(landscape, moved)).mean())

    def effect(point: Array) -> float:
        whole = mean(point, where) - mean(point, [])
        return whole - sum(effect_alone(point, i) for i in where) if len(where) == 2 else whole

    def effect_alone(point: Array, i: int) -> float:
        return mean(point, [i]) - mean(point, [])

    there = ~np.isnan(unit[:, where]).any(axis=1)
    return np.array([effect(p) if here else 0.0 for p, here in zip(unit, there, strict=True)])


# Landscapes ----------------------------------------------------------------------------------


def steps(place: Array, *effects: float) -> Array:
    """Return the effect of a choice; 0 where it is not drawn."""
    index = np.floor(np.nan_to_num(place) * len(effects)).astype(int)
    return np.where(np.isnan(place), 0.0, np.asarray(effects)[index])


def hill(place: Array, at: float, width: float = 0.5) -> Array:
    """Return a parabola with its top at `at`; 0 where the parameter is not drawn."""
    return np.nan_to_num(-(((place - at) / width) ** 2))


_PLAIN = (
    number("lr", log=True),
    number("weight_decay", log=True),
    number("dropout"),
    number("warmup"),
    number("momentum"),
    Dimension("batch_size", "batch_size", "categorical", choices=(16, 32, 64, 128)),
    Dimension("blocks", "blocks", "int", 1, 6),
    choice("augmentation", 3),
    number("null"),
    choice("null_choice", 3),
)


def _additive(p: Point) -> Array:
    return (
        2.2 * hill(p["lr"], 0.65)
        + 1.5 * hill(p["weight_decay"], 0.3, 0.6)
        + 1.4 * (1 - p["dropout"])
        + steps(p["batch_size"], 0.0, 0.3, 0.5, -0.6)
        + 0.6 * p["blocks"]
        + steps(p["augmentation"], 0.0, 0.4, 0.6)
        + 0.3 * p["warmup"]
    )


def _interaction(p: Point) -> Array:
    slope = steps(p["augmentation"], 0.25, 0.5, 0.75)
    return (
        2.6 * hill(p["lr"], 0.3 + 0.5 * slope)
        + 3.5 * (p["lr"] - 0.5) * (p["weight_decay"] - 0.5)
        + 0.9 * p["dropout"]
        + steps(p["batch_size"], 0.0, 0.2, 0.4, -0.3)
        + 0.3 * p["momentum"]
    )


_CATEGORICAL = (
    choice("backbone", 5),
    choice("strategy", 4),
    number("lr", log=True),
    number("weight_decay", log=True),
    number("dropout"),
    choice("augmentation", 3),
    number("warmup"),
    number("null"),
    choice("null_choice", 2),
)


def _categorical(p: Point) -> Array:
    return (
        steps(p["backbone"], 0.0, 1.2, 1.5, -1.4, 0.4)
        + steps(p["strategy"], 0.0, 0.9, -0.9, 0.3)
        + 1.3 * hill(p["lr"], 0.6)
        + steps(p["backbone"], 0.5, -0.5, 0.2, 0.0, -0.2)
        * steps(p["strategy"], 1.0, -1.0, 0.5, -0.5)
        + 0.5 * p["dropout"]
        + steps(p["augmentation"], 0.0, 0.2, 0.35)
    )


_CONDITIONAL = (
    choice("backbone", 3),
    Dimension("strategy", "strategy", "categorical", choices=("probe", "full", "partial")),
    Dimension("optimizer", "optimizer", "categorical", choices=("sgd", "adamw")),
    inside(number("lr@probe", log=True), strategy=("probe",)),
    inside(number("lr@body", log=True), strategy=("full", "partial")),
    inside(number("momentum"), optimizer=("sgd",)),
    inside(number("freeze"), strategy=("partial",)),
    number("weight_decay", log=True),
    number("null"),
    inside(number("null_body"), strategy=("full", "partial")),
)


def _conditional(p: Point) -> Array:
    return (
        steps(p["backbone"], 0.0, 0.6, 0.2)
        + steps(p["strategy"], 0.0, 2.0, 1.0)
        + steps(p["optimizer"], 0.0, 0.2)
        + 0.9 * hill(p["lr@probe"], 0.5)
        + 1.8 * hill(p["lr@body"], 0.4)
        + 0.5 * np.nan_to_num(p["momentum"])
        + 1.2 * np.nan_to_num(p["freeze"])
        + 0.4 * p["weight_decay"]
    )


def _cliff(p: Point) -> Array:
    fine = 0.6 * hill(p["lr"], 0.6) + steps(p["augmentation"], 0.0, 0.2, 0.3) + 0.3 * p["dropout"]
    safe = 0.75 + steps(p["batch_size"], 0.0, 0.05, 0.1, 0.15) - 0.1 * p["momentum"]
    return np.where(p["lr"] > safe, -1.6, fine)


def _loss(p: Point) -> Array:
    return np.exp(-0.5 * _additive(p))


# Held out: measures were developed without it.
_EIGHT = (
    number("lr", log=True),
    number("weight_decay", log=True),
    number("dropout"),
    number("momentum"),
    number("warmup"),
    choice("augmentation", 3),
    Dimension("blocks", "blocks", "int", 1, 6),
    number("null"),
)


def _ridge(p: Point) -> Array:
    along = p["lr"] + 0.4 * p["weight_decay"]
    return np.exp(-(((along - 0.8) / 0.35) ** 2)) + 0.5 * np.sin(2 * p["dropout"] + p["lr"])


LANDSCAPES = {
    landscape.name: landscape
    for landscape in (
        Landscape("additive", _PLAIN, _additive, ("null", "null_choice", "momentum")),
        Landscape("interaction", _PLAIN, _interaction, ("null", "null_choice", "warmup", "blocks")),
        Landscape("categorical", _CATEGORICAL, _categorical, ("null", "null_choice", "warmup")),
        Landscape("conditional", _CONDITIONAL, _conditional, ("null", "null_body")),
        Landscape("cliff", _PLAIN, _cliff, ("null", "null_choice", "warmup", "blocks")),
        Landscape(
            "minimise", _PLAIN, _loss, ("null", "null_choice", "momentum"), direction="minimize"
        ),
        Landscape(
            "ridge",
            _EIGHT,
            _ridge,
            ("null", "momentum", "warmup", "augmentation", "blocks"),
            heavy=True,
        ),
        Landscape(
            "pruned", _CATEGORICAL, _categorical, ("null", "null_choice", "warmup"), pruned=True
        ),
    )
}
