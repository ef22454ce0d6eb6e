"""Trials that end together are told in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from sqlalchemy import Engine

from tunesvc.leases.fenced import Fenced
from tunesvc.leases.words import Word
from tunesvc.leases.writing import write


def tell_together(engine: Engine, ends: Sequence[tuple[Fenced, Word]]) -> list[bool]:
    """End several trials, each under its own lease, in one transaction and one round trip.

    It may be repeated: what was told in the same way before counts as told.

    Args:
        ends: each trial's own storage, and its word (see `Fenced.end`).

    Returns:
        Whether each was told; False: it is in other hands, and nothing was written of it.
    """
    order = sorted(range(len(ends)), key=lambda place: ends[place][0].lease.trial_id)
    told = [False] * len(ends)
    with ExitStack() as stack:
        drafts = [stack.enter_context(ends[n][0].writing(ends[n][1])) for n in order]
        answers = write(engine, [draft.said for draft in drafts])
        for place, draft, answer in zip(order, drafts, answers, strict=True):
            ends[place][0].heed(draft, answer)
            told[place] = answer.stored_at is not None
    return told
