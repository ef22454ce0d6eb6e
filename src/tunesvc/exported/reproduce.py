"""Train an exported model again, from its `study.json` alone, and compare.

    σ    standard deviation of one run between seeds: the study's noise floor
    d    objective of the model now minus what was found

Two runs that differ in nothing but chance lie further apart than 1.96·√2·σ once in twenty times.
With the same seeds, device, precision and threads nothing is left to chance: then every epoch is
the same to the last bit, and so is the model; of a head that was trained in a stack with others,
where sums are rounded in another order, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from tunesvc import data, places, train
from tunesvc.data import Listing
from tunesvc.errors import DataError, UsageError
from tunesvc.exported import sources, training
from tunesvc.exported.compared import Compared, EpochCompared, Reproduction
from tunesvc.exported.description import task_of
from tunesvc.exported.folder import STUDY, Folder, read, start, tensors
from tunesvc.exported.record import Record, TrainingRun
from tunesvc.spec import DataSpec
from tunesvc.train import Placement, Run

_LEVEL = 0.95


def _nothing(_epoch: EpochCompared) -> None:
    pass


def reproduce(
    directory: Path,
    *,
    data_path: Path | None = None,
    device: str | None = None,
    on_epoch: Callable[[EpochCompared], None] = _nothing,
    cache: Path | None = None,
) -> Reproduction:
    """Train an exported model again with the same seeds, and compare; nothing is written.

    On a device like the one that trained it, in the precision and with the threads of then.

    Args:
        data_path: where the data lies now; None: where the study had it.
        device: None: the best there is.
        on_epoch: called after each epoch.
        cache: of decoded images and features; None: this machine's.

    Raises:
        UsageError: it is no exported model, or does not tell where it comes from.
        DataError, WeightsError, TrainingError: it cannot be trained here.
    """
    folder = read(directory)
    with _as_then(_record(folder), train.place(device)) as placement:
        again = _Again(folder, data_path, placement, cache or places.cache())
        return again.compared(on_epoch)


class _Again:
    def __init__(
        self, folder: Folder, data_path: Path | None, placement: Placement, cache: Path
    ) -> None:
        self.folder, self.record = folder, _record(folder)
        self.placement, self.cache = placement, cache
        self.task = task_of(folder.description)
        self.data = sources.data_of(self.record)
        if data_path is not None:
            self.data = _moved(self.data, data_path)
        self.base = sources.base(folder.path, self.record, data=None if data_path else self.data)
        self.listing = data.scan(self.data, target=self.task.target, base=self.base)
        _check_classes(folder, self.listing)
        self.same_weights = True

    def compared(self, on_epoch: Callable[[EpochCompared], None]) -> Reproduction:
        epochs: list[EpochCompared] = []
        states: list[dict[str, Tensor]] = []
        for number, run in enumerate(self.record.runs):
            training_run = self._begun(number, run)
            for epoch in self._epochs(training_run, run):
                epochs.append(epoch)
                on_epoch(epoch)
            states.append(_state(training_run))
        if len(states) > 1:
            training.blend(training_run, states)
        record = self.record
        return Reproduction(
            record.metric,
            self.listing.fingerprint == record.fingerprint,
            self.same_weights,
            _same_hardware(record, self.placement),
            tuple(epochs),
            self._measured(training_run, "val", record.validation),
            self._measured(training_run, "test", record.test),
            _is_identical(_state(training_run), tensors(self.folder.path)),
            _band(record),
        )

    def _begun(self, number: int, run: TrainingRun) -> Run:
        begin = start(self.folder.path, number) if run.has_start else None
        made = training.prepare(
            run, self.data, self.base, self.placement, listing=self.listing, task=self.task,
            trained_on=self.record.trained_on, start=begin, cache=self.cache,
        )  # fmt: skip
        self.same_weights &= made.backbone.weights_sha256 == run.weights_sha256
        return made

    def _epochs(self, made: Run, run: TrainingRun) -> Iterator[EpochCompared]:
        found = {each["epoch"]: each for each in run.history}
        for told in training.epochs(made, stacked=run.stacked):
            before = found.get(told["epoch"], {})
            yield EpochCompared(run.trial, told["epoch"], _pairs(before, told))

    def _measured(self, made: Run, name: str, found: Mapping[str, float]) -> Mapping[str, Compared]:
        if not found or name not in self.listing.splits:
            return {}
        split = made.val
        if name != "val":
            transform = made.backbone.transform
            split = training.split(self.listing, name, self.data, transform, self.cache)
        return _pairs(found, train.evaluate(made, split))


def _record(folder: Folder) -> Record:
    if folder.record is None or not folder.record.runs:
        raise UsageError(
            f"{folder.path}: does not tell how it was trained",
            f"it has no {STUDY}" if folder.record is None else f"{STUDY} names no run",
            "export the model again",
        )
    return folder.record


def _moved(told: DataSpec, path: Path) -> DataSpec:
    """Return the same data, lying elsewhere."""
    where = sources.key(told)
    if where is None:
        raise UsageError(f"the study's data ({told.kind}) lies nowhere: leave --data out")
    return told.model_copy(update={where: str(path.resolve())})


def _check_classes(folder: Folder, listing: Listing) -> None:
    known = folder.description.classes
    if listing.classes != known:
        odd = sorted(set(known) ^ set(listing.classes))
        raise DataError(
            "the data has other classes than the model",
            f"{', '.join(map(repr, odd[:5]))} {'is' if len(odd) == 1 else 'are'} in one of them "
            "only"
            if odd
            else "they come in another order",
            "name the data that the study was made on: --data PATH",
        )


def _pairs(found: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Compared]:
    """Return what both have, as numbers; JSON may have "NaN" for one."""
    return {
        name: Compared(float(found[name]), float(value))
        for name, value in again.items()
        if name != "epoch" and found.get(name) is not None
    }


def _state(run: Run) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in run.module.state_dict().items()}


def _is_identical(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )


@contextmanager
def _as_then(record: Record, here: Placement) -> Iterator[Placement]:
    """Compute as what trained the model did, where the device is such a one; else as it is.

    Why: 2026-11: sums of floats hang on how many threads share them, so with others a model is not
    the same bit for bit.
    """
    then, before = record.hardware, torch.get_num_threads()
    if then.get("device_name") != here.describe()["device_name"] or not then.get("threads"):
        yield here
        return
    torch.set_num_threads(then["threads"])
    try:
        is_half = then["precision"] != "float32"
        half = then["precision"] if is_half else here.half
        yield replace(here.settled(autocast=is_half), half=half, threads=then["threads"])
    finally:
        torch.set_num_threads(before)


def _same_hardware(record: Record, placement: Placement) -> bool:
    return bool(record.hardware) and dict(record.hardware) == placement.describe()


def _band(record: Record) -> float | None:
    """Return 1.96·√2·σ, of the split that the objective is compared on."""
    if record.noise is None:
        return None
    deviation = record.noise.deviation if record.validation else record.noise.test_deviation
    z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
    return None if deviation is None else z * sqrt(2) * deviation
