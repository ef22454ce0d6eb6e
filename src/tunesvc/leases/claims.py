"""Who runs which trial: claimed, taken over, given back, and ended after too many attempts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row

from tunesvc.leases import sql

FAILURES_IN_A_ROW = 3  # of one study, alike: it is paused


@dataclass(frozen=True)
class Lease:
    """The right to run a trial, as long as its token is the present one.

    Args:
        resumed: the trial was begun before, by whomever.
        generation: how often finished trials of the study were put back; what was read of them
            under an earlier one is out of date.
        is_over: the budget's hours are: it is only to be told.
        epoch: the last that was finished and kept, when it was claimed.
    """

    study_id: int
    trial_id: int
    number: int
    token: int
    resumed: bool
    generation: int = 0
    is_over: bool = False
    epoch: int = 0


@dataclass(frozen=True)
class Given:
    """A configuration that must run: Optuna's parameters, and the user attribute that marks it."""

    params: Mapping[str, Any]
    mark: Mapping[str, Any]


@dataclass(frozen=True)
class Terms:
    """What a study's file says of its trials.

    Args:
        trials: so many may be begun.
        hours: none is begun later than this after the first.
        seconds: a lease that is not renewed for so long is free.
        max_attempts: a trial is told FAIL when so many in a row ended badly without a new epoch.
        given: configurations that run before the sampler's, in this order.
    """

    trials: int
    hours: float | None = None
    seconds: float = 30.0
    stall_seconds: float = 300.0
    max_attempts: int = 3
    given: Sequence[Given] = ()

    @property
    def seconds_allowed(self) -> float | None:
        """The hours, in seconds."""
        return None if self.hours is None else self.hours * 3600


class LeaseLost(Exception):  # noqa: N818 (a message to whoever runs the trial, nobody's error)
    """Somebody else may be running the trial, or it is over: not a word more is written to it."""


def claim(engine: Engine, worker_id: str, study_id: int, terms: Terms) -> Lease | None:
    """Take over a trial that nobody runs any more, or begin one, in one transaction.

    Returns:
        None when there is nothing to run: the budget is spent, the study is paused, stopped or
        deleted.
    """
    with engine.begin() as connection:
        which = {
            "study_id": study_id,
            "worker_id": worker_id,
            "seconds_allowed": terms.seconds_allowed,
        }
        connection.execute(sql.KNOW_STUDY, which)
        study = connection.execute(sql.LOCK_STUDY, which).one_or_none()
        if study is None or study.paused or study.stopped:
            return None
        taken = _take_over(connection, which, terms, study)
        if taken is None and not study.is_over:
            return _begin(connection, which, terms, study)
        return taken


def _take_over(
    connection: Connection, which: Mapping[str, Any], terms: Terms, study: Row[Any]
) -> Lease | None:
    while free := connection.execute(sql.FREE_LEASE, which).one_or_none():
        attempts, reasons = free.attempts, free.reasons
        if free.is_lost:
            why = f"gave no sign of life for {free.seconds:g} seconds"
            attempts, reasons = attempts + 1, [*reasons, _reason(free.worker_id, free.epoch, why)]
            connection.execute(sql.NOTE_TAKEOVER, which)
        if attempts >= terms.max_attempts:
            fail(connection, which["study_id"], free.trial_id, reasons, reasons[-1]["why"])
            continue
        values = {"trial_id": free.trial_id, "attempts": attempts, "reasons": reasons}
        mine = {"worker_id": which["worker_id"], "seconds": terms.seconds}
        token = connection.execute(sql.TAKE_LEASE, values | mine).scalar_one()
        return Lease(
            which["study_id"], free.trial_id, free.number, token, resumed=True,
            generation=study.generation, is_over=study.is_over, epoch=free.epoch,
        )  # fmt: skip
    return None


def _begin(
    connection: Connection, which: Mapping[str, Any], terms: Terms, study: Row[Any]
) -> Lease | None:
    count = connection.execute(sql.COUNT_TRIALS, which).one()
    if count.begun >= terms.trials:
        return None
    begun, given = None, None
    if count.waiting is not None:  # somebody enqueued it
        begun = connection.execute(sql.BEGIN_WAITING, {"trial_id": count.waiting}).one_or_none()
    if begun is None:
        begun = connection.execute(sql.CREATE_TRIAL, {**which, "number": count.existing}).one()
        given = terms.given[study.given] if study.given < len(terms.given) else None
        if given is not None:
            _mark(connection, begun.trial_id, given)
    connection.execute(sql.COUNT_BEGUN, {**which, "given": int(given is not None)})
    new = {**which, "trial_id": begun.trial_id, "seconds": terms.seconds}
    token = connection.execute(sql.CREATE_LEASE, new).scalar_one()
    return Lease(
        which["study_id"], begun.trial_id, begun.number, token, resumed=False,
        generation=study.generation,
    )  # fmt: skip


def _mark(connection: Connection, trial_id: int, given: Given) -> None:
    """Fix a new trial's parameters, in the way of Optuna's `enqueue_trial`."""
    fixed = {"trial_id": trial_id, "key": "fixed_params", "value": json.dumps(dict(given.params))}
    connection.execute(sql.SET_SYSTEM_ATTRIBUTE, fixed)
    set_attributes(connection, trial_id, given.mark)


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
    set_attributes(connection, trial_id, {"reason": told, "failure": alike})
    connection.execute(sql.TELL, {"trial_id": trial_id, "state": "FAIL"})
    connection.execute(sql.END_LEASE, {"trial_id": trial_id})
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
