"""The folder of an exported model: written whole, read carefully.

    config.json          what is needed to use the model (`description`); written last
    model.safetensors    its parameters and buffers
    study.json           where it comes from (`record`)
    start.safetensors    what heads began from that did not begin at random, where there are any

Why: 2026-11: reading it runs no code: JSON and safetensors, never pickle. `config.json` vouches for
the weights with their SHA-256, so that a copy that was cut off, or mixed up, is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from tunesvc.errors import UsageError, WeightsError
from tunesvc.exported import place
from tunesvc.exported.description import FORMAT, Description
from tunesvc.exported.record import Record
from tunesvc.spec.model import Model

CONFIG, WEIGHTS, STUDY, STARTS = (
    "config.json",
    "model.safetensors",
    "study.json",
    "start.safetensors",
)
Start = tuple[Tensor, Tensor]  # a head's weight (C, D) and bias (C,)

_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True)
class Folder:
    """What a folder says of its model; `record` is None where there is no `study.json`."""

    path: Path
    description: Description
    record: Record | None


def _nothing(_draft: Path) -> None:
    pass


def check_place(directory: Path, *, force: bool = False) -> None:
    """See that a model may be written there, before long work.

    Raises:
        UsageError: something is there, and no exported model that `force` may replace.
    """
    place.check(directory, is_ours=_is_exported, force=force)


def _is_exported(directory: Path) -> bool:
    try:
        found = json.loads((directory / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"format", "tunesvc", "sha256"} <= found.keys()


def write(
    directory: Path,
    module: nn.Module,
    description: Description,
    record: Record | None,
    *,
    starts: Mapping[int, Start] | None = None,
    force: bool = False,
    also: Callable[[Path], None] = _nothing,
) -> Path:
    """Write a model; the folder appears in one step.

    Args:
        module: whose state dict is written.
        record: `base` as an absolute path.
        starts: what the heads of runs (by their place in `record.runs`) began from.
        force: replace an exported model that is there.
        also: writes more files, into the folder that it is given; what it raises passes, and
            nothing has changed then.

    Raises:
        UsageError: as `check_place`.
        StorageError: it cannot be written.
    """
    check_place(directory, force=force)
    with place.replaced(directory, force=force) as draft:
        weights = safetensors.torch.save(_copied(module.state_dict()))
        (draft / WEIGHTS).write_bytes(weights)
        if record is not None:
            record = _placed(record, directory.resolve(), starts or {})
            (draft / STUDY).write_text(_text(record), encoding="utf-8")
        if starts:
            (draft / STARTS).write_bytes(safetensors.torch.save(_named(starts)))
        also(draft)
        place.sync(draft)
        sha256 = hashlib.sha256(weights).hexdigest()
        described = description.model_copy(update={"sha256": sha256})
        (draft / CONFIG).write_text(_text(described), encoding="utf-8")
    return directory


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors takes them: no two of them share memory."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _placed(record: Record, directory: Path, starts: Mapping[int, Start]) -> Record:
    base = Path(record.base).resolve()
    try:
        near = os.path.relpath(base, directory)
    except ValueError:  # another drive
        near = str(base)
    runs = tuple(
        run.model_copy(update={"has_start": number in starts})
        for number, run in enumerate(record.runs)
    )
    placed = {"base": Path(near).as_posix(), "base_then": str(base), "runs": runs}
    return record.model_copy(update=placed)


def _named(starts: Mapping[int, Start]) -> dict[str, Tensor]:
    return _copied(
        {
            f"{number}.{name}": tensor
            for number, start in starts.items()
            for name, tensor in zip(("weight", "bias"), start, strict=True)
        }
    )


def _text(value: Model) -> str:
    return value.model_dump_json(indent=2) + "\n"


def read(directory: Path) -> Folder:
    """Read what a folder says, and check the weights against it; they are not loaded.

    Raises:
        UsageError: it is no exported model, or one of a later format.
        WeightsError: the weights are absent, or not those that the folder was written with.
    """
    if not (directory / CONFIG).is_file():
        raise UsageError(
            f"{directory}: not an exported model",
            "there is no such folder" if not directory.is_dir() else f"it has no {CONFIG}",
            "name a folder that `tunesvc export … -o DIR` has written",
        )
    description = _parsed(directory / CONFIG, Description)
    _check_weights(directory, description)
    is_told = (directory / STUDY).is_file()
    return Folder(directory, description, _parsed(directory / STUDY, Record) if is_told else None)


def _parsed(path: Path, model: type[_M]) -> _M:
    try:
        said = json.loads(path.read_bytes())
        if isinstance(said, dict) and isinstance(said.get("format"), int):
            _check_format(path, said["format"])
        return model.model_validate_json(json.dumps(said))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read", error.strerror or str(error), "check its permissions"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _foreign(path, f"{where}: {first['msg']}" if where else first["msg"]) from error
    except ValueError as error:
        raise _foreign(path, str(error)) from error


def _check_format(path: Path, number: int) -> None:
    if number > FORMAT:
        raise UsageError(
            f"{path}: of a later format",
            f"it is of format {number}, and this version of tunesvc knows formats up to {FORMAT}",
            "install a newer tunesvc (requirements.txt beside the model names it)",
        )


def _foreign(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path}: not as `tunesvc export` writes it", why, "restore it, or export the model again"
    )


def _check_weights(directory: Path, description: Description) -> None:
    path = directory / WEIGHTS
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read",
            error.strerror or str(error),
            "copy the whole folder again, or export the model again",
        ) from error
    if found != description.sha256:
        raise WeightsError(
            f"{path}: not the weights that {CONFIG} speaks of",
            f"its SHA-256 begins with {found[:12]}, and {description.sha256[:12] or 'none'} is "
            "expected",
            "the copy is damaged or mixed up: copy the whole folder again",
        )


def tensors(directory: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Return what a safetensors file of the folder holds, on the CPU.

    Raises:
        WeightsError: it cannot be read.
    """
    path = directory / name
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: cannot be read as weights", str(error), "copy the whole folder again"
        ) from error


def start(directory: Path, number: int) -> Start:
    """Return what the head of a run began from.

    Raises:
        WeightsError: it is not there.
    """
    found = tensors(directory, STARTS)
    try:
        return found[f"{number}.weight"], found[f"{number}.bias"]
    except KeyError as error:
        raise WeightsError(
            f"{directory / STARTS}: has no head of run {number}", "", "copy the whole folder again"
        ) from error
