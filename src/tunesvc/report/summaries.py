"""The summaries of studies that have come to their end, posted beside other work.

Why: 2026-11: the dashboard posts while trials end; but a study may be run by workers alone. So they
post, too; `posting` sees to it that one of all does. Measured with 8 to 500 trials: 0.6 s of a core
each time, and as much once for the imports. After every few trials that would be more than 1 % of
a worker's time wherever these take less than a minute; at a study's end it is not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from tunesvc import study as studies
from tunesvc.study import Study

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60.0  # a worker that leaves waits so long for its thread


@dataclass
class Summaries:
    """What one process has posted. Whatever goes wrong is logged, and nothing else."""

    _known: dict[int, int] = field(default_factory=dict)  # trials that had ended, by study
    _thread: threading.Thread | None = None

    def post(self, found: Iterable[Study]) -> bool:
        """Post in a thread those that are done and were not posted so; come back at once.

        Returns:
            False while the last call's are still being posted: then these are not.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        if chosen := list(found):
            self._thread = threading.Thread(target=self._post, args=(chosen,), daemon=True)
            self._thread.start()
        return True

    def wait(self) -> None:
        """Wait until what was begun is posted, or for a minute."""
        if self._thread is not None:
            self._thread.join(LONGEST_SECONDS)

    def _post(self, found: list[Study]) -> None:
        for study in found:
            try:
                finished = self._due(study)
                if finished is not None:
                    from tunesvc.report.posting import post

                    post(_reported(study))
                    self._known[study.id] = finished
            except Exception as error:  # the database is away, it was just deleted, …
                log.warning("no summary of %s: %s", study.name, error)

    def _due(self, study: Study) -> int | None:
        """Return how many trials have ended if that is to be told; None where it is not."""
        now = studies.status(study)
        is_due = now.state == "done" and self._known.get(study.id) != now.finished
        return now.finished if is_due else None


def _reported(study: Study) -> Study:
    """Return the study in whose report this one is told: what confirms another is told in that."""
    of = studies.confirms(study.spec)
    return studies.open_study(study.store, of) if of else study
