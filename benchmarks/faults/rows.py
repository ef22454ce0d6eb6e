"""The table's rows: a fault, tunesvc under it, and plain Optuna under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from faults import clocks, crowd, files, postgres, relaunch, signals
from faults.bench import Bench
from faults.tally import Tally

Outcome = Tally | str


@dataclass(frozen=True)
class Row:
    """One fault; `plain` is a reason where Optuna has nothing to compare."""

    letter: str
    fault: str
    ours: Callable[[Bench], Outcome]
    plain: Callable[[Bench], Outcome] | str
    plain_in_short: bool = False


def _trials(bench: Bench, most: int) -> int:
    return min(most, bench.sizes.trials)


ROWS = (
    Row(
        "a",
        "kill -9 of a random worker (4 workers)",
        lambda bench: signals.killed(bench, bench.ours(bench.sizes.trials)),
        lambda bench: signals.killed(bench, bench.plain(bench.sizes.trials)),
        plain_in_short=True,
    ),
    Row(
        "b",
        "SIGTERM of a random worker (4 workers)",
        lambda bench: signals.asked(bench, bench.ours(bench.sizes.trials)),
        lambda bench: signals.asked(bench, bench.plain(bench.sizes.trials)),
    ),
    Row(
        "c",
        "Postgres restarted, fast and immediate (4 workers)",
        lambda bench: postgres.restarted(bench, bench.ours(_trials(bench, 80))),
        lambda bench: postgres.restarted(bench, bench.plain(_trials(bench, 80))),
        plain_in_short=True,
    ),
    Row(
        "d",
        "SIGSTOP of a worker past its lease, then SIGCONT (2 workers)",
        lambda bench: signals.frozen(bench, bench.ours(_trials(bench, 6))),
        lambda bench: signals.frozen(bench, bench.plain(_trials(bench, 6))),
    ),
    Row(
        "e",
        "newest checkpoint truncated, deleted, bit-flipped",
        lambda bench: files.damaged(bench, bench.ours(_trials(bench, 6))),
        "has no checkpoints of its own",
    ),
    Row(
        "e",
        "disk full below the checkpoints (tmpfs)",
        lambda bench: files.full(bench, bench.ours(_trials(bench, 12))),
        "has no checkpoints of its own",
    ),
    Row(
        "f",
        "clocks an hour ahead and behind, one kill -9 (3 workers)",
        lambda bench: clocks.skewed(bench, bench.ours(_trials(bench, 12))),
        lambda bench: clocks.skewed(bench, bench.plain(_trials(bench, 12))),
    ),
    Row(
        "g",
        "16 workers at a budget of 100 one-epoch trials",
        lambda bench: crowd.hammered(
            [bench.ours(crowd.BUDGET, 1) for _ in range(bench.sizes.rounds)]
        ),
        lambda bench: crowd.hammered(
            [bench.plain(crowd.BUDGET, 1) for _ in range(bench.sizes.rounds)]
        ),
    ),
    Row(
        "h",
        "`up` killed with -9 and started again",
        lambda bench: relaunch.relaunched(bench, bench.ours(_trials(bench, 60))),
        "has no such command",
    ),
)
