"""What a study's best configurations are worth when they are run again with new seeds.

The best of many trials was also lucky: its value promises too much (the winner's curse). New seeds
tell what it is worth, how much of any difference is noise, and what tuning really bought.

What the intervals cover is the seed: the order of the images, augmentation, the new head. The
images stay the same, so beside them stands the binomial error of the validation split. All
differences are scores: positive is better, whatever the direction.

Why: 2026-11: untuned defaults are ranked with the tuned ones, by the mean as these are. New seeds
owe nothing to the search: if the default is better on them, it is what to use, and tuning bought
nothing. How far a difference may be chance is told whoever wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np

from tunesvc.analysis.binomial import standard_error
from tunesvc.analysis.confirmed import (
    Candidate,
    Confirmation,
    Confirmed,
    Noise,
    Rerun,
    Step,
)
from tunesvc.analysis.paired import (
    Comparison,
    Spread,
    Values,
    compare,
    finite,
    gain,
    mean,
    spread,
    spread_interval,
)
from tunesvc.analysis.race import race, ranked
from tunesvc.analysis.scale import in_points
from tunesvc.analysis.table import Direction, Estimate, Unsupported

__all__ = [
    "Candidate",
    "Comparison",
    "Confirmation",
    "Confirmed",
    "Noise",
    "Rerun",
    "Step",
    "confirmation",
]


def confirmation(
    candidates: Sequence[Candidate],
    reruns: Sequence[Rerun],
    *,
    metric: str,
    direction: Direction,
    images: int | None = None,
) -> Confirmation | Unsupported:
    """Return what running candidates again has found.

    Args:
        candidates: the study's best in its order, defaults, and steps in theirs.
        images: of the validation split.
    """
    if not any(isfinite(rerun.value) for rerun in reruns):
        return Unsupported("needs one confirming run that came to its end, has none")
    return _Table(candidates, reruns, metric, direction, images).confirmation()


class _Table:
    def __init__(
        self,
        candidates: Sequence[Candidate],
        reruns: Sequence[Rerun],
        metric: str,
        direction: Direction,
        images: int | None,
    ) -> None:
        self.candidates = candidates
        self.metric, self.direction, self.images = metric, direction, images
        self.sign = 1.0 if direction == "maximize" else -1.0
        self.values = {one.name: _values(one, reruns) for one in candidates}
        self.tests = {one.name: _values(one, reruns, test=True) for one in candidates}
        told = {one.name: one.precision for one in candidates if one.precision}
        self.in_other_precision = sum(
            bool(run.precision) and run.precision != told.get(run.candidate, run.precision)
            for run in reruns
            if isfinite(run.value)
        )
        own = [one.name for one in candidates if not one.same_as]
        self.noise = spread([self.values[name] for name in own])
        self.test_noise = spread([self.tests[name] for name in own])
        self.best = {x.name: self.values[x.name] for x in candidates if x.role == "best"}
        rivals = (x.name for x in candidates if x.role in ("best", "default"))
        self.order = ranked({name: self.values[name] for name in rivals}, self.sign)

    def confirmation(self) -> Confirmation:
        winner, runner_up = (*self.order, "", "")[:2]
        reference = self._reference(winner)
        chosen = next((x for x in self.candidates if x.role == "best"), None)
        return Confirmation(
            metric=self.metric,
            direction=self.direction,
            unit="points" if in_points(self.metric) else self.metric,
            point=0.01 if in_points(self.metric) else 1.0,
            configurations=self._configurations(),
            path=self._path(),
            winner=winner,
            runner_up=runner_up,
            favourite=chosen.name if chosen else "",
            against_runner_up=self._compared(self.values, winner, runner_up),
            noise=self._noise(winner),
            curse=self._gap(chosen) if chosen else Unsupported("the study has no finished trial"),
            bought=self._compared(self.values, winner, reference),
            bought_test=self._compared(self.tests, winner, reference),
            promised_gain=self._promised(winner, reference),
            in_other_precision=self.in_other_precision,
        )

    def _configurations(self) -> tuple[Confirmed, ...]:
        resolution = 1 / self.images if self.images and self.metric == "accuracy" else 0.0
        most = max((len(known) for known in self.best.values()), default=0)
        slow = {name for name, known in self.best.items() if len(known) < most}
        out = set(race(self.best, self.direction, resolution=resolution).out) & slow
        order = [name for name in self.order if name in self.best]
        best = [*order, *(name for name in self.best if name not in order)]
        defaults = [x.name for x in self.candidates if x.role == "default"]
        return tuple(self._confirmed(name, name in out) for name in [*best, *defaults])

    def _confirmed(self, name: str, raced_out: bool) -> Confirmed:
        known, candidate = finite(self.values[name]), self._candidate(name)
        has_test = any(map(finite, self.tests.values()))
        test = mean(self.tests[name], self.metric, self.test_noise)
        return Confirmed(
            candidate=candidate,
            seeds=len(known),
            failed=len(self.values[name]) - len(known),
            mean=mean(self.values[name], self.metric, self.noise),
            test=test if has_test else Unsupported("the study has no test split"),
            spread=float(np.std(known, ddof=1)) if len(known) >= 2 else None,
            gap=self._gap(candidate),
            raced_out=raced_out,
        )

    def _gap(self, candidate: Candidate) -> Estimate | Unsupported:
        found = mean(self.values[candidate.name], self.metric, self.noise)
        if not isinstance(found, Estimate):
            return found
        if candidate.promised is None:
            return Unsupported("no finished trial of the study had this configuration")
        promised = self.sign * candidate.promised
        low, high = sorted(promised - self.sign * end for end in (found.low, found.high))
        middle = promised - self.sign * found.value
        return Estimate(middle, low, high, found.trials, self.metric)

    def _path(self) -> tuple[Step, ...]:
        steps = [x for x in self.candidates if x.role == "step"]
        defaults = (x.name for x in self.candidates if x.is_default and steps
                    and x.backbone == steps[0].backbone)  # fmt: skip
        before = next(defaults, "")
        found = []
        for step in steps:
            values = self.values[step.name]
            after = self.values.get(before, {})
            over = gain(values, after, self.sign, self.metric, self.noise)
            found.append(Step(step, mean(values, self.metric, self.noise), over))
            before = step.name
        return tuple(found)

    def _compared(self, of: Mapping[str, Values], one: str, other: str) -> Comparison | Unsupported:
        if not one or not other:
            return Unsupported("there is nothing to compare it with")
        if one == other:
            return Unsupported("the untuned default won")
        return compare((one, of[one]), (other, of[other]), self.sign, self.metric)

    def _noise(self, winner: str) -> Noise | Unsupported:
        if not isinstance(self.noise, Spread):
            return self.noise
        seeds = spread_interval(self.noise, self.metric)
        if not winner:
            return Noise(seeds, self.images, Unsupported("no configuration has a value"))
        value = float(np.mean(finite(self.values[winner])))
        return Noise(seeds, self.images, standard_error(self.metric, value, self.images))

    def _promised(self, winner: str, reference: str) -> float | None:
        if not winner or not reference:
            return None
        one, other = self._candidate(winner).promised, self._candidate(reference).promised
        return None if one is None or other is None else self.sign * (one - other)

    def _reference(self, winner: str) -> str:
        """Return the untuned default of the winner's backbone."""
        if not winner:
            return ""
        backbone = self._candidate(winner).backbone
        defaults = (x.name for x in self.candidates if x.is_default and x.backbone == backbone)
        return next(defaults, "")

    def _candidate(self, name: str) -> Candidate:
        return next(one for one in self.candidates if one.name == name)


def _values(candidate: Candidate, reruns: Sequence[Rerun], *, test: bool = False) -> Values:
    name = candidate.same_as or candidate.name
    own = [rerun for rerun in reruns if rerun.candidate == name]
    return {rerun.seed: rerun.test if test else rerun.value for rerun in own}
