"""Where a record's data and pretrained weights lie now: a folder may have moved since, or they."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tunesvc.backbones import weights
from tunesvc.data.sources import place
from tunesvc.errors import UsageError
from tunesvc.exported.record import Record
from tunesvc.spec import DataSpec


def data_of(record: Record) -> DataSpec:
    """Return the study's data, as its file says.

    Raises:
        UsageError: this version of tunesvc does not know such data.
    """
    try:
        told: DataSpec = TypeAdapter(DataSpec).validate_python(record.spec.get("data"))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"the study's data cannot be understood: {first['msg']}",
            "study.json was written by another version of tunesvc",
            "install that version (requirements.txt beside the model names it)",
        ) from error
    return told


def key(spec: DataSpec) -> str | None:
    """Return which key of a data set says where it lies; None: it lies nowhere."""
    return next(iter(spec.where & {"path", "root"}), None)


def lies_at(spec: DataSpec, base: Path) -> Path | None:
    """Return where a data set lies, there or not; None where its spec does not tell."""
    told = getattr(spec, key(spec) or "", None)
    return None if told is None else place(base, told)


def bases(directory: Path, record: Record) -> list[Path]:
    """Return from where relative paths may start.

    As the exported folder lies now; as all lay when it was written; the working folder.
    """
    then = [Path(record.base_then)] if record.base_then else []
    return [(directory.resolve() / record.base).resolve(), *then, Path.cwd()]


def base(directory: Path, record: Record, *, data: DataSpec | None) -> Path:
    """Return the first of `bases` from which everything is found; else where all lay then.

    Args:
        data: that is to be found; None: it is known where it lies.

    Raises:
        UnknownNameError: nobody here has a run's backbone.
    """
    known = bases(directory, record)
    for each in known:
        where = None if data is None else lies_at(data, each)
        if each.is_dir() and (where is None or where.exists()) and _has_weights(record, each):
            return each
    return Path(record.base_then) if record.base_then else known[0]


def _has_weights(record: Record, base: Path) -> bool:
    """Whether the files are there that runs start from; those that can be downloaded are."""
    found = (weights.locate(run.backbone, base) for run in record.runs if run.config().pretrained)
    return all(each is None or each.url or each.path.exists() for each in found)
