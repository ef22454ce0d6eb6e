"""Whether a trial keeps its study's constraints: known before it is trained, where that can be.

    drawn   what hangs on the model's shapes, from a skeleton on "meta": no weights, no data
    built   the latency, and from a rehearsed step the seconds of an epoch and, on CUDA, the memory
    ended   what it really took has the last word

Why: 2026-11: what is broken is told with the trial's end, in one write: who is killed before it has
told nothing, and whoever takes the trial over finds the same. Each constraint is stored, kept ones
too, in Optuna 5's form and beside it in the older one, which is all that optuna-dashboard 0.21
knows. They wait for the trial's next write, as everything does that samplers look at.

Why: 2026-11: an epoch's seconds are those of training and evaluation. What frozen stages give is
computed once per host, by whichever trial comes first: that says nothing of its configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from tunesvc import study, train
from tunesvc.backbones import Backbone
from tunesvc.cost import RECKONED
from tunesvc.errors import TuneError
from tunesvc.leases import MEMORY
from tunesvc.spec import TrialConfig
from tunesvc.spec.caps import Cap
from tunesvc.spec.constraints import broken, excess, told
from tunesvc.train import Placement, Run
from tunesvc.trial import costs, facts
from tunesvc.trial.delivery import Ending
from tunesvc.trial.reports import Reports

log = logging.getLogger(__name__)

KEY = "constraints"  # of a trial's system attributes, as Optuna has it
_AGAIN = 2  # times that a disturbed latency is measured once more


@dataclass
class Constraints:
    """What one attempt knows of the quantities that its study has caps on.

    Args:
        values: by name; None: nobody can tell.
    """

    reports: Reports
    placement: Placement
    values: dict[str, float | None] = field(default_factory=dict)

    @property
    def caps(self) -> tuple[Cap, ...]:
        """The caps of the study."""
        return self.reports.desk.study.spec.constraints.caps

    def drawn(self, label: str, config: TrialConfig) -> Ending | None:
        """Return how a trial ends that breaks a cap, by what can be known without its model."""
        if not self.caps:
            return None
        skeleton = self._skeleton(config)
        if skeleton is not None:
            self._reckon(skeleton, config)
        ending = self._judged()
        if ending is not None and skeleton is not None and "run" not in self.reports.known():
            trained = self.reports.desk.plan(skeleton, config).trained
            placed = self.reports.desk.placed(config, self.placement)
            run = facts.of_skeleton(label, config, skeleton, trained, placed)
            self.reports.say({"run": run})
        return ending

    def built(self, training: Run, tick: Callable[[], None] | None) -> Ending | None:
        """Return how a trial ends that breaks a cap, by what its model takes on the device.

        Args:
            training: at its beginning; where none of it is known, its step is tried.
            tick: called after every batch of that; None: it is in its midst, and its end will tell.

        Raises:
            OutOfMemory: as in training.
        """
        if not self.caps or tick is None:
            return None
        self._reckon(training.backbone, training.config)
        self._read(self.reports.known())
        self._time_again(training)
        late = {"epoch_seconds", "train_memory_mb"} & self._missing
        if late:
            found = train.rehearse(training, tick)
            told = {"epoch_seconds": found.epoch_seconds, "train_memory_mb": found.memory_mb}
            self.values |= {name: told[name] for name in late}
        return self._judged()

    def take(self, other: Constraints) -> None:
        """Know what is known of another trial, whose costs are the same."""
        self.values = dict(other.values)
        self._judged()

    def ended(self, known: Mapping[str, Any]) -> None:
        """Have the trial's end store how the constraints stand by what it took.

        Args:
            known: what the trial stores on itself.
        """
        if self.caps:
            self._read(known)
            self._judged()

    def note(self, excesses: Mapping[str, float]) -> None:
        """Have the next write store constraints: by how much each is broken; kept: at most 0."""
        storage, number = self.reports.storage, self.reports.lease.trial_id
        stored = self.reports.insist(lambda: storage.get_trial(number)).system_attrs
        every = {key: value for key, value in stored.items() if key.startswith(f"{KEY}:")}
        every |= {f"{KEY}:{name}": value for name, value in excesses.items()}
        for key, value in (every | {KEY: list(every.values())}).items():
            storage.set_trial_system_attr(number, key, value)

    def note_memory(self) -> None:
        """Have the next write store that the trial fits into no memory."""
        self.note({MEMORY: 1.0})

    # ---- what is known

    @property
    def _missing(self) -> set[str]:
        return {cap.name for cap in self.caps} - set(self.values)

    def _skeleton(self, config: TrialConfig) -> Backbone | None:
        """Return the model without its numbers; None where it cannot be made so."""
        try:
            return self.reports.desk.models.skeleton(config.backbone)
        except TuneError:
            raise
        except Exception as error:  # of a plugin: it may need its numbers
            log.info("no costs before the model is built: %s", error)
            return None

    def _reckon(self, backbone: Backbone, config: TrialConfig) -> None:
        missing, key = self._missing, facts.key(config.backbone, backbone)
        for name in missing.intersection(RECKONED):
            self.values[name] = facts.ledger.reckoned(name, key, backbone)
        wants_memory = "train_memory_mb" in missing and self.placement.device.type != "cuda"
        if not wants_memory and "trainable_m" not in missing:
            return
        trained = self.reports.desk.plan(backbone, config).trained
        if "trainable_m" in missing:
            sizes = {name: each.numel() for name, each in backbone.module.named_parameters()}
            self.values["trainable_m"] = sum(sizes[name] for name in trained) / 1e6
        if wants_memory:
            step = facts.ledger.step_memory(key, backbone, trained)
            placed = self.reports.desk.placed(config, self.placement)
            bytes_each = 2 if placed.autocast else 4
            images = config.knobs.batch_size
            self.values["train_memory_mb"] = step.mb(images, bytes_each) if step else None

    def _time_again(self, training: Run) -> None:
        """Measure a latency that breaks a cap once more, and twice, where it was disturbed."""
        for _ in range(_AGAIN):
            run = self.reports.known()["run"]
            lost = broken(self.caps, self.values)
            is_slow = any(cap.name.startswith("latency_") for cap in lost)
            if not is_slow or (run["latency"] or {"quiet": True})["quiet"]:
                return
            own, cache = facts.key(training.config.backbone, training.backbone), self._cache
            latency = costs.latency_again(run["latency"], own, training, cache)
            self.reports.say({"run": run | {"latency": latency}})
            self._read(self.reports.known())

    @property
    def _cache(self) -> Path:
        return self.reports.desk.cache

    def _read(self, known: Mapping[str, Any]) -> None:
        """Take what a trial stores on itself; what it does not tell stays as it was known."""
        for cap in self.caps:
            value = study.quantity(cap.name, known)
            if cap.name == "epoch_seconds":
                value = _epoch_seconds(known)
            before = self.values.get(cap.name)
            is_timed = cap.name.startswith("latency_")
            if is_timed and value is not None and before is not None:
                value = min(value, before)  # what disturbs a measurement only adds
            if value is not None or (is_timed and "latency" in (known.get("run") or {})):
                self.values[cap.name] = value

    def _judged(self) -> Ending | None:
        """Have everything known stored; return how a trial ends that breaks a cap."""
        values = {cap.name: self.values[cap.name] for cap in self.caps if cap.name in self.values}
        self.note({c.name: excess(c, values[c.name]) for c in self.caps if c.name in values})
        lost = broken(self.caps, values)
        if not lost:
            return None
        self.reports.say({"infeasible": {cap.name: values[cap.name] for cap in lost}})
        reason = "; ".join(told(cap, values[cap.name]) for cap in lost)
        return TrialState.PRUNED, f"breaks {reason}"


def _epoch_seconds(known: Mapping[str, Any]) -> float | None:
    """Return the mean seconds of training and evaluation; None before the first epoch."""
    phases = [each["seconds"] for each in known.get("history") or () if "seconds" in each]
    seconds = [sum(each.values()) - each.get("features", 0.0) for each in phases]
    return sum(seconds) / len(seconds) if seconds else None
