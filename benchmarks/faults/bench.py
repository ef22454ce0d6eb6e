"""What the rows share: the ground, their sizes, and the undisturbed study."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from faults import ours, plain, tally, toy
from faults.ground import Ground
from faults.ours import Ours
from faults.plain import Plain
from faults.workers import Fleet, fleet


@dataclass(frozen=True)
class Sizes:
    """How much of each fault."""

    trials: int  # of the studies under (a), (b), (h); all others have fewer
    kills: int
    kill_seconds: float  # between two
    restarts: int  # of Postgres
    rounds: int  # of the crowd
    relaunches: int  # of `up`


LONG = Sizes(trials=200, kills=50, kill_seconds=2, restarts=10, rounds=10, relaunches=5)
SHORT = Sizes(trials=16, kills=5, kill_seconds=1.5, restarts=3, rounds=2, relaunches=1)

FINISH_SECONDS = 900.0  # for any study to end, once it is left in peace


@dataclass
class Bench:
    """A ground and the sizes of what happens on it."""

    ground: Ground
    sizes: Sizes

    def ours(self, trials: int, epochs: int = toy.EPOCHS, **changed: Any) -> Ours:
        """Return a new study for tunesvc's workers."""
        return ours.new(
            self.ground.database(), self.ground.new_folder("ours"), trials, epochs, **changed
        )

    def plain(self, trials: int, epochs: int = toy.EPOCHS) -> Plain:
        """Return a new study for `study.optimize`."""
        return plain.new(self.ground.database(), self.ground.new_folder("plain"), trials, epochs)

    @cached_property
    def reference(self) -> list[tally.Values]:
        """Run the study undisturbed, once; every row's values are compared with these.

        The budget is not in the digest: the same seeds hold for studies of fewer trials.
        """
        side = self.ours(self.sizes.trials)
        with fleet(side, 2) as workers:
            ended = workers.finish(FINISH_SECONDS)
        outcome = tally.of(side)
        if not ended or workers.deaths or outcome.lost or outcome.repeated_epochs:
            raise RuntimeError(f"the undisturbed study is not whole: {outcome}")
        return tally.values(side)

    def count(
        self, side: Ours | Plain, workers: Fleet, *, ended: bool, kills: int = 0, note: str = ""
    ) -> tally.Tally:
        """Count a study after its fault, against the undisturbed one where that is possible."""
        outcome = tally.of(side, self.reference if isinstance(side, Ours) else None)
        notes = [note] if note else []
        if workers.deaths:
            notes.append(f"{len(workers.deaths)} workers died of it")
        if not ended:
            notes.append("not done when the time was over")
        counted = outcome.with_(kills, ", ".join(notes))
        broken = workers.deaths or not ended or outcome.repeated_epochs > 2 * kills
        return counted.broken() if isinstance(side, Ours) and broken else counted
