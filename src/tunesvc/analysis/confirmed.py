"""What is confirmed, and what was found: plain data. See `confirmation`."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Literal

from tunesvc.analysis.paired import Comparison
from tunesvc.analysis.table import Direction, Estimate, Unsupported

Role = Literal["best", "default", "step"]


@dataclass(frozen=True)
class Candidate:
    """A configuration that is run again.

    Args:
        name: it is known by: "trial 12", "default of tiny_resnet", "step 3".
        role: one of the study's best, an untuned default, or a step of the way between the two.
        trial: of the study; None where no trial of it had it.
        backbone: label.
        promised: what that trial found, in the objective's unit.
        is_default: it is its backbone's untuned configuration; one of the best may be that, too.
        change: what a step changed: "lr 0.001 → 0.01".
        precision: of the trial's matrix products: "float32"; "" where that is not known.
        same_as: a step whose configuration another candidate has, too: that one's runs are its own.
    """

    name: str
    role: Role
    trial: int | None
    backbone: str
    promised: float | None
    is_default: bool = False
    change: str = ""
    same_as: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Rerun:
    """A run of a candidate that has ended.

    Args:
        seed: its number; the same for every candidate that was run with that seed.
        value: of the objective on the validation split; NaN: it did not come to its end.
        test: the same on the test split; NaN: there is none.
        precision: of its matrix products; "" where that is not known.
    """

    candidate: str
    seed: int
    value: float
    test: float = nan
    precision: str = ""


@dataclass(frozen=True)
class Confirmed:
    """One configuration over its seeds.

    Args:
        seeds: runs that came to their end.       failed: runs that did not.
        mean, test: on the validation and the test split, in the objective's unit.
        spread: standard deviation over its seeds, in the objective's unit; None below two.
        gap: what the study's trial promised less what was found, as a score: positive where it
            promised too much.
        raced_out: it was clearly worse, and got no more seeds.
    """

    candidate: Candidate
    seeds: int
    failed: int
    mean: Estimate | Unsupported
    test: Estimate | Unsupported
    spread: float | None
    gap: Estimate | Unsupported
    raced_out: bool


@dataclass(frozen=True)
class Step:
    """One step of the way from the default to the best: `gain` is over the one before."""

    candidate: Candidate
    mean: Estimate | Unsupported
    gain: Estimate | Unsupported


@dataclass(frozen=True)
class Noise:
    """How much of a difference is chance.

    Args:
        spread: standard deviation of one run's value over seeds, pooled over the configurations.
        images: number of validation images; None while unknown.
        binomial: standard error of an accuracy because there are only so many images; it is the
            same luck for every configuration, so differences have less of it.
    """

    spread: Estimate
    images: int | None
    binomial: float | Unsupported


@dataclass(frozen=True)
class Confirmation:
    """What was found.

    Args:
        unit: that differences are best told in: "points" of a share, else the metric's own.
        point: one of that unit, in the metric's own: 0.01 of a share, else 1.
        configurations: the study's best, the best mean first, then the defaults.
        path: the steps from the default to the best, in order.
        winner, runner_up: names of the best and the second-best mean, of the study's best and the
            defaults; "" where there is none.
        favourite: name of the trial that the study called its best; "" where it has none.
        curse: its `gap`.
        bought: the winner against the default of its backbone; unsupported where a default won.
        promised_gain: what that same difference was among the study's own trials.
        in_other_precision: runs whose matrix products were of another precision than those of the
            study's trial.
    """

    metric: str
    direction: Direction
    unit: str
    point: float
    configurations: tuple[Confirmed, ...]
    path: tuple[Step, ...]
    winner: str
    runner_up: str
    favourite: str
    against_runner_up: Comparison | Unsupported
    noise: Noise | Unsupported
    curse: Estimate | Unsupported
    bought: Comparison | Unsupported
    bought_test: Comparison | Unsupported
    promised_gain: float | None
    in_other_precision: int = 0
