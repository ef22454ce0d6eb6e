"""Confirmations that study files ask for (`confirm: true`): begun when the study is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from tunesvc import study as studies
from tunesvc.confirm.companion import companion
from tunesvc.confirm.plan import Wish
from tunesvc.confirm.rounds import Standing, advance
from tunesvc.errors import StudyError
from tunesvc.storage import is_passing
from tunesvc.study import Study

log = logging.getLogger(__name__)


def wish(study: Study) -> Wish | None:
    """Return what the study's file asks to be run again when it is done; None: nothing."""
    asked = study.spec.confirmation
    return Wish(asked.top, asked.seeds, int(asked.ablation)) if asked else None


@dataclass(frozen=True)
class _Seen:
    finished: int  # trials of the study
    wish: Wish
    standing: Standing | None  # None: nothing can be confirmed


@dataclass
class Asked:
    """The confirmations that are asked for, as one process knows them; to be looked at often.

    Why: 2026-11: every worker that has nothing else to do sees to them, and so does `up`. So no
    particular process is needed: whoever first sees a study done orders the runs, and `advance`
    takes care that each is ordered once.
    """

    _seen: dict[int, _Seen] = field(default_factory=dict)
    _beyond: set[int] = field(default_factory=set)  # what this process cannot confirm

    def order(self, found: Iterable[Study]) -> None:
        """Order what comes next of all of these studies; one that fails is left to others."""
        for study in found:
            try:
                if study.id not in self._beyond:
                    self.advance(study)
            except Exception as error:  # a plugin that is not here, a surface without a solution, …
                if is_passing(error):
                    raise
                log.warning("%s is not confirmed from here: %s", study.name, error)
                self._beyond.add(study.id)

    def advance(self, study: Study) -> Standing | None:
        """Order what comes next; return how far it is, or None where nothing is to be confirmed."""
        wanted = wish(study)
        finished = None if wanted is None else _finished(study)
        if wanted is None or finished is None:
            return None
        known = self._seen.get(study.id)
        if known and (known.finished, known.wish) == (finished, wanted) and _is_settled(known):
            return known.standing
        standing = _advanced(study, wanted)
        self._seen[study.id] = _Seen(finished, wanted, standing)
        return standing


def asked(found: Iterable[Study]) -> list[Study]:
    """Return the companions of studies whose files ask for them, as far as they exist."""
    return [held for each in found if wish(each) and (held := companion(each))]


def _finished(study: Study) -> int | None:
    """Return how many trials have ended if the study is done; None where it is not, or deleted."""
    with suppress(StudyError):
        now = studies.status(study)
        return now.finished if now.state == "done" else None
    return None


def _is_settled(known: _Seen) -> bool:
    """Whether nothing new can be ordered: it is over, or runs are still under way."""
    if known.standing is None or known.standing.is_done:
        return True
    return _finished(known.standing.companion) is None


def _advanced(study: Study, wanted: Wish) -> Standing | None:
    try:
        return advance(study, wanted)
    except StudyError as error:  # no trial came to its end, its name is too long, …
        log.warning("%s is not confirmed: %s", study.name, error)
        return None
