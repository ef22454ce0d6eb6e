"""Many workers at one small budget of short trials."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

from faults import tally
from faults.bench import FINISH_SECONDS
from faults.ours import Ours
from faults.plain import Plain
from faults.tally import Tally
from faults.workers import fleet

WORKERS = 16
BUDGET = 100


def hammered(sides: Sequence[Ours | Plain]) -> Tally:
    """Let 16 workers share 100 trials of one epoch; each study is one round."""
    outcomes = [_round(side) for side in sides]
    exact = sum(outcome.begun == outcome.told == BUDGET for outcome in outcomes)
    return reduce(add, outcomes).with_(note=f"exactly {BUDGET} in {exact} of {len(sides)} rounds")


def _round(side: Ours | Plain) -> Tally:
    with fleet(side, WORKERS) as workers:
        ended = workers.finish(FINISH_SECONDS)
    outcome = tally.of(side)
    broken = isinstance(side, Ours) and (workers.deaths or not ended)
    return outcome.broken() if broken else outcome
