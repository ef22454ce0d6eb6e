"""What a study may spend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from tunesvc.spec.model import Model


class Budget(Model):
    """What may be spent by all workers together; the first budget that ends, ends the study.

    `gpu_hours` counts the hours of devices: each worker's, whatever its device, from the moment it
    has a trial until that ends, with all that it does twice because another worker was lost. On a
    CPU they are the worker's hours: two workers on one machine spend two of them in an hour. The
    server's clock counts: a laptop that sleeps in the middle of a trial spends them too.

    `epochs_total` counts epochs that were finished and reported, each once, however often a worker
    was lost in it. A trial is begun where all its epochs fit in beside those that others may still
    need, so there is not one more; up to a trial's epochs less one may stay unspent.

    When `hours` or `gpu_hours` end, trials that run finish their epoch and are told PRUNED.
    """

    trials: int | None = Field(
        30,
        ge=1,
        description="trials begun, the defaults' included; null, and where it is left out beside "
        "gpu_hours or epochs_total: as many as these allow",
    )
    hours: float | None = Field(None, gt=0, description="no trial is begun after so long")
    gpu_hours: float | None = Field(
        None, gt=0, description="of devices, that all workers together may spend on trials"
    )
    epochs_total: int | None = Field(None, ge=1, description="that all trials together may train")
    epochs: int = Field(5, ge=1, description="of each trial")

    @model_validator(mode="before")
    @classmethod
    def _trials_by_the_others(cls, written: Any) -> Any:
        if not isinstance(written, Mapping) or "trials" in written:
            return written
        others = (written.get("gpu_hours"), written.get("epochs_total"))
        return written if others == (None, None) else {**written, "trials": None}

    @model_validator(mode="after")
    def _ends(self) -> Budget:
        if self.trials is None and not (self.hours or self.gpu_hours or self.epochs_total):
            raise ValueError(
                "with trials: null the study never ends; give hours, gpu_hours or epochs_total"
            )
        if self.epochs_total is not None and self.epochs_total < self.epochs:
            raise ValueError(
                f"epochs_total: {self.epochs_total} is less than one trial's epochs: {self.epochs}"
            )
        return self
