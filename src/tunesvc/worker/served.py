"""Which studies a worker serves, and what is due when one of them is done.

A worker that finds nothing to run orders what is to be run again of studies that are done, where
their files ask for it, and posts their summaries.

Why: 2026-11: confirming needs pandas and SciPy's statistics, half a second of imports that a worker
is spared until a study asks for it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesvc import report, study
from tunesvc.errors import StudyError
from tunesvc.leases import Leases
from tunesvc.storage import Store
from tunesvc.study import Study

if TYPE_CHECKING:
    from tunesvc.confirm import Asked

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # between two looks for what is due


@dataclass
class Served:
    """The studies of one worker.

    Args:
        names: those that it was named; empty: all open ones.
        unusable: ids of studies that this machine cannot serve.
    """

    store: Store
    leases: Leases
    names: Sequence[str]
    unusable: set[int] = field(default_factory=set)
    summaries: report.Summaries = field(default_factory=report.Summaries)
    _asked: Asked | None = None
    _seen: dict[str, Study] = field(default_factory=dict)  # by name
    _next: float = -math.inf  # when to look for what is due, monotonic

    def studies(self) -> list[Study]:
        """Return the studies to serve: not those that were stopped since this worker began.

        With those that it was named go those that confirm them, where their files ask for that.
        """
        if self.names:
            found = self._left(each for name in self.names if (each := self._named(name)))
            found += self._left(_companions(found))
        else:
            usable = (x for x in study.all_open(self.store) if x.id not in self.unusable)
            found = self._left(usable)
        self._seen |= {each.name: each for each in found}
        return found

    def is_done(self) -> bool:
        """Whether all have used their budgets and run no trial; what follows is ordered."""
        if not self._have_ended():
            return False
        self._order()
        return self._have_ended()

    def is_dismissed(self) -> bool:
        """Whether every study that the worker was named has been stopped, or deleted."""
        return bool(self.names) and not self.studies()

    def tend(self) -> None:
        """See to what is due, now and then."""
        if time.monotonic() > self._next:
            self._order()
            self._post()
            self._next = time.monotonic() + LOOK_SECONDS

    def leave(self) -> None:
        """See to what is due for the last time."""
        self.summaries.wait()
        self._post()
        self.summaries.wait()

    def _post(self) -> None:
        if self.summaries.post(self._seen.values()) and not self.names:
            self._seen.clear()  # what is open is seen again

    def _order(self) -> None:
        found = self.studies() if self.names else self._left(study.to_confirm(self.store))
        if any(_is_to_be_confirmed(each) for each in found):
            from tunesvc.confirm import Asked

            self._asked = self._asked or Asked()
            self._asked.order(found)

    def _have_ended(self) -> bool:
        return all(study.status(each).state == "done" for each in self.studies())

    def _left(self, found: Iterable[Study]) -> list[Study]:
        return [each for each in found if not self.leases.is_stopped(each.id)]

    def _named(self, name: str) -> Study | None:
        """Return a study by its name; None if it was deleted since this worker served it."""
        try:
            return study.open_study(self.store, name)
        except StudyError:
            if name not in self._seen:
                raise
            log.warning("study %s was deleted", name)
            return None


def _companions(found: Sequence[Study]) -> list[Study]:
    """Return the companions, as far as they exist, of studies whose files ask for them."""
    if not any(_is_to_be_confirmed(each) for each in found):
        return []
    from tunesvc.confirm import asked

    return asked(found)


def _is_to_be_confirmed(each: Study) -> bool:
    return each.spec.confirmation is not None
