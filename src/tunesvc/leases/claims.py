"""Who runs which trial: claimed, taken over, given back, and ended after too many attempts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Engine

from tunesvc import trips
from tunesvc.leases import sql
from tunesvc.leases.limits import UNLIMITED, Limits

FAILURES_IN_A_ROW = 3  # of one study, alike: it is paused
WINDOW = 64  # so many given configurations travel with a claim

Why = Literal["gone", "paused", "stopped", "over", "spent", "spare"]


@dataclass(frozen=True)
class Given:
    """A configuration that must run: Optuna's parameters, and the user attribute that marks it."""

    params: Mapping[str, Any]
    mark: Mapping[str, Any]


@dataclass(frozen=True)
class Lease:
    """The right to run a trial, as long as its token is the present one.

    Args:
        resumed: the trial was begun before, by whomever.
        over: the budget that has ended, by its key in the study file: it is only to be told.
        epoch: the last that was finished and kept, when it was claimed.
        started_at: when this claim created the trial (UTC, as Optuna stores it); None: it was
            there before, and may hold anything.
        given: what it was created with.
    """

    study_id: int
    trial_id: int
    number: int
    token: int
    resumed: bool
    over: str = ""
    epoch: int = 0
    started_at: datetime | None = None
    given: Given | None = field(default=None, compare=False)

    @property
    def is_over(self) -> bool:
        """Whether a budget had ended."""
        return bool(self.over)


@dataclass(frozen=True)
class Nothing:
    """There is no trial to run. It is false, as a lease is true.

    Args:
        why: the study is gone (deleted), paused, or stopped for this worker; its time is over, or
            its trials are spent, or the epochs for one more; or a spare one was asked for, and
            others would go without.
        under_way: so many trials of the study have a lease: they run, or wait to be taken over.
    """

    why: Why
    under_way: int = 0

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Terms:
    """What a study's file says of its trials.

    Args:
        trials: so many may be begun; None: as many as the limits allow.
        limits: of what they take together.
        seconds: a lease that is not renewed for so long is free.
        max_attempts: a trial is told FAIL when so many in a row ended badly without a new epoch.
        given: configurations that run before the sampler's, in this order.
    """

    trials: int | None
    limits: Limits = UNLIMITED
    seconds: float = 30.0
    stall_seconds: float = 300.0
    max_attempts: int = 3
    given: Sequence[Given] = ()


class LeaseLost(Exception):  # noqa: N818 (a message to whoever runs the trial, nobody's error)
    """Somebody else may be running the trial, or it is over: not a word more is written to it."""


@dataclass(frozen=True)
class Claimant:
    """A worker that asks for trials.

    Args:
        held: the tokens that it knows of; its other leases may be taken: a reply was lost.
        given: how many given configurations each study had begun, when last heard.
    """

    worker_id: str
    held: Collection[int] = ()
    given: dict[int, int] = field(default_factory=dict)


def claim(
    engine: Engine, claimant: Claimant, study_id: int, terms: Terms, *, spare: bool = False
) -> Lease | Nothing:
    """Take over a trial that nobody runs any more, or begin one, in one round trip.

    Args:
        spare: only if nobody else would go without; it is noted that the trial waits to be begun.
    """
    while True:
        first = claimant.given.get(study_id, 0)
        asked = _asked(claimant, study_id, terms, first) | {"spare": spare}
        found = trips.ask(engine, sql.CLAIM, asked)
        if "why" in found:
            return Nothing(found["why"], found["under_way"])
        claimant.given[study_id] = found["given"]
        if "token" not in found:  # others have begun so many of the given: these come next
            continue
        lease = _lease(study_id, found, terms)
        if found["attempts"] < terms.max_attempts:
            return lease
        _end(engine, lease)


def _asked(claimant: Claimant, study_id: int, terms: Terms, first: int) -> dict[str, Any]:
    given = terms.given[first : first + WINDOW]
    return {
        "study_id": study_id,
        "worker_id": claimant.worker_id,
        "held": list(claimant.held),
        "trials": terms.trials,
        **terms.limits.arguments(),
        "seconds": terms.seconds,
        "first_given": first,
        "all_given": len(terms.given),
        "fixed": [json.dumps(dict(each.params)) for each in given],  # as by `enqueue_trial`
        "marks": [json.dumps(dict(each.mark)) for each in given],
    }


def _lease(study_id: int, found: Mapping[str, Any], terms: Terms) -> Lease:
    began, index = found.get("started_at"), found["given"]
    is_given = began is not None and index < len(terms.given)
    return Lease(
        study_id=study_id,
        trial_id=found["trial_id"],
        number=found["number"],
        token=found["token"],
        resumed=found["resumed"],
        over=found["over"],
        epoch=found["epoch"],
        started_at=None if began is None else datetime.fromisoformat(began),
        given=terms.given[index] if is_given else None,
    )


def _end(engine: Engine, lease: Lease) -> None:
    """Tell a trial FAIL whose workers were all lost."""
    with suppress(LeaseLost), engine.begin() as connection:
        check(connection, lease)
        reasons = connection.execute(sql.ATTEMPTS, {"trial_id": lease.trial_id}).one().reasons
        fail(connection, lease.study_id, lease.trial_id, reasons, reasons[-1]["why"])


def set_attributes(connection: Connection, trial_id: int, attributes: Mapping[str, Any]) -> None:
    """Write a trial's user attributes."""
    for key, value in attributes.items():
        which = {"trial_id": trial_id, "key": key, "value": json.dumps(value)}
        connection.execute(sql.SET_USER_ATTRIBUTE, which)


def note_attempt(
    connection: Connection,
    lease: Lease,
    worker_id: str,
    why: str,
    *,
    alike: str | None,
    max_attempts: int,
) -> str | None:
    """Store that an attempt ended badly, and free the trial for the next; or tell it FAIL.

    Args:
        alike: what failures of the same cause have in common; None: it is the configuration.

    Returns:
        None when there is a next attempt, else the reason of each.

    Raises:
        LeaseLost: it is no longer this worker's to judge.
    """
    check(connection, lease)
    known = connection.execute(sql.ATTEMPTS, {"trial_id": lease.trial_id}).one()
    if known.released:  # it was noted before, and the reply lost
        return None
    reasons = [*known.reasons, _reason(worker_id, known.epoch, why)]
    if known.attempts + 1 >= max_attempts:
        return fail(connection, lease.study_id, lease.trial_id, reasons, alike)
    values = {"attempts": known.attempts + 1, "reasons": reasons}
    connection.execute(sql.NOTE_ATTEMPT, {"trial_id": lease.trial_id} | values)
    return None


def fail(
    connection: Connection,
    study_id: int,
    trial_id: int,
    reasons: list[dict[str, Any]],
    alike: str | None,
) -> str:
    """Tell a trial FAIL with the reason of each attempt; return them as told.

    The study is paused when its last trials all failed alike: the cause is not the configuration,
    and the rest of the budget is to be kept for when it is mended.
    """
    told = _tell(reasons)
    connection.execute(sql.TELL, {"trial_id": trial_id, "state": "FAIL"})
    epochs = connection.execute(sql.END_LEASE, {"trial_id": trial_id}).scalar_one()
    known = {"reason": told, "failure": alike, "epochs_finished": epochs}
    set_attributes(connection, trial_id, known)
    which = {"study_id": study_id, "count": FAILURES_IN_A_ROW}
    latest = [_masked(row.failure) for row in connection.execute(sql.LAST_TOLD, which)]
    if alike and latest == [_masked(json.dumps(alike))] * FAILURES_IN_A_ROW:
        why = f"{FAILURES_IN_A_ROW} trials in a row failed alike: {alike}"
        connection.execute(sql.PAUSE, {"study_id": study_id, "why": why})
    return told


def _masked(failure: str | None) -> str:
    """Return what two failures of the same cause have in common: all but the numbers."""
    return re.sub(r"\d+", "#", failure or "")


def check(connection: Connection, lease: Lease) -> None:
    """Hold the lease's row until the transaction ends.

    Raises:
        LeaseLost: somebody else has it, or the trial is over.
    """
    which = {"trial_id": lease.trial_id, "token": lease.token}
    if connection.execute(sql.HOLDS, which).one_or_none() is None:
        raise LeaseLost


def _reason(worker_id: str | None, epoch: int | None, why: str) -> dict[str, Any]:
    return {"who": worker_id or "", "epoch": epoch, "why": why}


def _tell(reasons: list[dict[str, Any]]) -> str:
    if len(reasons) == 1:
        return str(reasons[0]["why"])
    lines = []
    for index, reason in enumerate(reasons, start=1):
        who = f" ({reason['who']})" if reason["who"] else ""
        after = f", after epoch {reason['epoch']}" if reason.get("epoch") else ""
        lines.append(f"attempt {index}{who}{after}: {reason['why']}")
    return "\n".join(lines)
