"""How many images pass through a trial's model at once: as many as fit into the device's memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tunesvc import train
from tunesvc.errors import TrainingError
from tunesvc.spec import TrialConfig
from tunesvc.train import OutOfMemory, Placement, Run
from tunesvc.trial import facts
from tunesvc.trial.reports import Reports

log = logging.getLogger(__name__)


class DoesNotFit(TrainingError):  # noqa: N818 (what it says)
    """Not even one image at a time fits into the device's memory."""


@dataclass
class Fitting:
    """What one attempt has learned of its device's memory."""

    reports: Reports
    placement: Placement
    _most: int | None = field(init=False, default=None)  # images, since more did not fit

    def limit(self, training: Run) -> None:
        """Let a run take no more images at once than what fitted before, here or elsewhere."""
        place, is_anew = self._place(training.config), self._most is not None
        leases = self.reports.leases
        fitted = self.reports.insist(lambda: leases.fitted(anew=is_anew, **place))
        limits = (training.micro_batch, fitted, self._most)
        training.micro_batch = min(limit for limit in limits if limit is not None)

    def halve(self, error: OutOfMemory, training: Run | None) -> None:
        """Let fewer images pass through the model at once, from the next try on.

        Raises:
            DoesNotFit: it was one image already.
        """
        tried = min(error.micro_batch, training.micro_batch if training else 1)
        if tried <= 1:
            raise self._too_large(error.what) from error
        self.reports.desk.clear()
        self._most = tried // 2
        told = "trial %d: out of memory; now %d images at a time"
        log.warning(told, self.reports.lease.number, self._most)

    def remember(self, training: Run) -> None:
        """Spare later trials the search for the size that fitted."""
        if self._most is not None:
            place, self._most = self._place(training.config), None
            leases = self.reports.leases
            self.reports.insist(lambda: leases.note_fitted(training.micro_batch, **place))

    @contextmanager
    def room_for_the_model(self) -> Iterator[None]:
        """Tell apart a model that is itself too large for the device."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not train.is_out_of_memory(error):
                raise
            raise self._too_large(str(error)) from None  # its frames hold the half of the model

    def _place(self, config: TrialConfig) -> dict[str, str | int]:
        desk = self.reports.desk
        placed = desk.placed(config, self.placement)
        return facts.of_memory(config, desk.transform(config).crop, placed)

    def _too_large(self, why: str) -> DoesNotFit:
        return DoesNotFit(
            f"out of memory on {self.placement.device} with a single image at a time",
            why.splitlines()[0],
            "leave this backbone out, give `data.image_size`, or use a device with more memory",
        )
