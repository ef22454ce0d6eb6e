"""What a report is made from: a study's trials and what else is known, each measure taken once.

The surface that several measures read is fitted once too; what confirmation found of the noise
goes into those that ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tunesvc.analysis import surrogate
from tunesvc.analysis.ablation import AblationPath, ablation_path, with_measured
from tunesvc.analysis.binomial import standard_error
from tunesvc.analysis.confirmation import Confirmation, Noise
from tunesvc.analysis.confirmed import Confirmed
from tunesvc.analysis.expected_best import ExpectedBest, expected_best
from tunesvc.analysis.importance import Importance, importance
from tunesvc.analysis.pareto import (
    Cost,
    Frontier,
    Spending,
    gain_per_hour,
    gain_per_hour_by_backbone,
    pareto,
)
from tunesvc.analysis.pareto_set import ParetoSet, pareto_sets
from tunesvc.analysis.predictors import (
    Predictor,
    Pretraining,
    league_scores,
    predictors,
    pretraining,
)
from tunesvc.analysis.pruning_audit import PruningAudit, pruning_audit
from tunesvc.analysis.robustness import Robustness, robustness
from tunesvc.analysis.safe_range import SafeRange, safe_ranges
from tunesvc.analysis.sensitivity import Sensitivity, sensitivity
from tunesvc.analysis.strategy_table import Cell, Gain, fine_tuning_gain
from tunesvc.analysis.surrogate import Surrogate
from tunesvc.analysis.table import Estimate, Trials, Unsupported
from tunesvc.analysis.tunability import BackboneGain, Tunability, tunability
from tunesvc.report import picking, wording
from tunesvc.report.figures import confirmation, curves, parallel, strategies, timeline

Result = TypeVar("Result")

UNCONFIRMED = Unsupported("needs new seeds of the best configurations")


@dataclass
class Evidence:
    """One study.

    Args:
        league: what is known of each backbone before fine-tuning, as plain data.
        confirmed: what `tunesvc confirm` has found.
        reruns: parameters and objective of each of its runs.
        images: of the validation split; None while unknown.
    """

    trials: Trials
    league: Sequence[Mapping[str, Any]] = ()
    confirmed: Confirmation | Unsupported = UNCONFIRMED
    reruns: Sequence[tuple[Mapping[str, Any], float]] = ()
    images: int | None = None
    _known: dict[str, Any] = field(default_factory=dict)

    def surface(self) -> Surrogate | Unsupported:
        """The fitted surface."""
        return self._once("surface", lambda: surrogate.fit(self.trials))

    def importance(self) -> Importance | Unsupported:
        """Importance of knobs and pairs."""
        return self._once("importance", lambda: importance(self.trials, surface=self.surface()))

    def pairs(self) -> Importance | Unsupported:
        """The same, where there are pairs."""
        found = self.importance()
        if isinstance(found, Unsupported) or found.pairs:
            return found
        return Unsupported("no pair of knobs could be judged with these trials")

    def tunability(self) -> Tunability | Unsupported:
        """What tuning buys each backbone."""
        return self._once("tunability", lambda: tunability(self.trials, self.surface()))

    def knobs(self) -> Tunability | Unsupported:
        """The same, where the surface tells knobs apart."""
        found, surface = self.tunability(), self.surface()
        if isinstance(found, Unsupported):
            return found
        if isinstance(surface, Unsupported):
            return surface
        if any(each.knobs for each in found.backbones):
            return found
        return Unsupported("no knob has a default to compare with")

    def path(self) -> AblationPath | Unsupported:
        """The way from the best backbone's default to its best configuration."""
        best = self.answer()
        if best is None:
            return self.unanswered()
        backbone = picking.word(self.trials, best, "backbone")
        found = self._once("path", lambda: ablation_path(self.trials, self.surface(), backbone))
        return with_measured(found, self.reruns) if isinstance(found, AblationPath) else found

    def robustness(self) -> Robustness | Unsupported:
        """The share of the space that is nearly as good as the best."""
        return self._once("robustness", lambda: robustness(self.trials, self.surface()))

    def safe_ranges(self) -> tuple[SafeRange, ...] | Unsupported:
        """In which range each knob costs at most a point."""
        found = self._once("safe ranges", lambda: safe_ranges(self.trials, self.surface()))
        return _unless_empty(found, "no knob's range could be judged with these trials")

    def sensitivity(self) -> tuple[Sensitivity, ...] | Unsupported:
        """What is expected at each value of each knob."""
        found = self._once("sensitivity", lambda: sensitivity(self.trials, self.surface()))
        return _unless_empty(found, "no knob could be judged with these trials")

    def strategies(self) -> tuple[Cell, ...] | Unsupported:
        """Backbone × strategy."""
        return self._once("strategies", lambda: strategies.measure(self.trials))

    def fine_tuning(self) -> tuple[Gain, ...] | Unsupported:
        """What pretrained weights bought."""
        found = self._once("fine-tuning", lambda: fine_tuning_gain(self.trials))
        return _unless_empty(found, "no architecture was run with and without pretrained weights")

    def pareto(self) -> tuple[ParetoSet, ...] | Unsupported:
        """The trials that no other beats, in each that the study weighs its objective against."""
        found = tuple(each for each in pareto_sets(self.trials) if each.members)
        names = ", ".join(dict.fromkeys(name for each in self.trials.against for name in each))
        return _unless_empty(found, f"needs finished trials with {names}, has none")

    def frontier(self, cost: Cost) -> Frontier | Unsupported:
        """The objective against one cost."""
        return self._once(f"cost {cost}", lambda: pareto(self.trials, cost, self.noise()))

    def spending(self) -> Spending | Unsupported:
        """What the hours bought."""
        return self._once("spending", lambda: gain_per_hour(self.trials, self.noise()))

    def spending_by_backbone(self) -> dict[str, Spending | Unsupported] | Unsupported:
        """The same for each backbone by itself."""
        found = self._once(
            "spending by backbone", lambda: gain_per_hour_by_backbone(self.trials, self.noise())
        )
        if any(isinstance(each, Spending) for each in found.values()):
            return found
        whole = self.spending()
        return whole if isinstance(whole, Unsupported) else Unsupported("no backbone's is known")

    def expected_best(self) -> ExpectedBest | Unsupported:
        """How many trials are worth it."""
        return self._once("expected best", lambda: expected_best(self.trials, self.noise()))

    def pruning(self) -> PruningAudit | Unsupported:
        """Whether pruning did harm, and what it saved."""
        return self._once("pruning", lambda: pruning_audit(self.trials))

    def confirmation(self) -> Confirmation | Unsupported:
        """What new seeds said of the best configurations."""
        return self.confirmed

    def predictors(self) -> tuple[Predictor, ...] | Unsupported:
        """Cheap predictors against what fine-tuning gave."""
        metric, direction = self.trials.metric, self.trials.direction
        found = self._once(
            "predictors",
            lambda: predictors(self.trials, league_scores(self.league, metric, direction)),
        )
        return _unless_empty(found, "needs a league table of linear probes, has none")

    def pretraining(self) -> tuple[Pretraining, ...] | Unsupported:
        """Pretraining against fine-tuning, over snapshots of one pretraining run."""
        found = self._once("pretraining", lambda: pretraining(self.trials, self.league))
        return _unless_empty(found, "needs backbones with several pretrained snapshots, has none")

    def curves(self) -> Trials | Unsupported:
        """Learning curves."""
        return curves.measure(self.trials)

    def parallel(self) -> Trials | Unsupported:
        """Parallel coordinates."""
        return parallel.measure(self.trials)

    def timeline(self) -> Trials | Unsupported:
        """What ran when."""
        return timeline.measure(self.trials)

    def best(self) -> int | None:
        """The number of the best finished trial; the earliest of equals."""
        return picking.best(self.trials)

    def answer(self) -> int | None:
        """The trial to take: which confirmation put first, else the best of the search.

        None, too, where no trial of the study had what confirmation put first.
        """
        taken = self.taken()
        if taken is None:
            return self.best()
        trial = taken.candidate.trial
        return trial if trial in self.trials.frame.index else None

    def taken(self) -> Confirmed | None:
        """What confirmation says one should take; None before it has come to a result."""
        found = self.confirmed
        return confirmation.taken(found) if isinstance(found, Confirmation) else None

    def unanswered(self) -> Unsupported:
        """Why there is no `answer`."""
        taken = self.taken()
        if taken is None:
            return Unsupported("needs a finished trial, has none")
        return Unsupported(f"no trial of the study had {taken.candidate.name}, the best there is")

    def gain_of(self, backbone: str) -> BackboneGain | None:
        """What tuning buys one backbone; None where that cannot be told."""
        found = self.tunability()
        if isinstance(found, Unsupported):
            return None
        return next((each for each in found.backbones if each.backbone == backbone), None)

    def noise(self) -> float | None:
        """Standard deviation of one configuration's value over seeds, where it was measured."""
        measured = self._noise()
        return None if measured is None else measured.spread.value

    def standard_error(self) -> float | None:
        """The binomial standard error of the best value, by the number of validation images."""
        best = self.best()
        if best is None:
            return None
        value = picking.number(self.trials, best)
        found = standard_error(self.trials.metric, value, self.images)
        return None if isinstance(found, Unsupported) else found

    def in_words(self, estimate: Estimate) -> str:
        """Return "2.6 points (0.4 to 4.1)"."""
        told = wording.difference(estimate.value, self.trials)
        return f"{told} ({wording.between(estimate.low, estimate.high, self.trials)})"

    def _noise(self) -> Noise | None:
        found = self.confirmed
        if isinstance(found, Unsupported) or isinstance(found.noise, Unsupported):
            return None
        return found.noise

    def _once(self, name: str, measure: Callable[[], Result]) -> Result:
        if name not in self._known:
            self._known[name] = measure()
        found: Result = self._known[name]
        return found


def _unless_empty(
    found: tuple[Result, ...] | Unsupported, why: str
) -> tuple[Result, ...] | Unsupported:
    return Unsupported(why) if found == () else found
