"""Pretrained weights: which file a study file means, reading it safely, fitting it to a model.

Why: 2026-11: the head of a weights file is never used, not even where it has the right size: its
classes are other classes, and what a head starts from must not hang on how many there are.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from tunesvc.backbones import download, registry
from tunesvc.errors import UnknownNameError, WeightsError, suggest
from tunesvc.spec import BackboneSpec

_SUFFIXES = (".pth", ".pt", ".th", ".safetensors")
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # training aids of GoogLeNet and Inception
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_DATE = re.compile(r"(19|20)\d{6}")


@dataclass(frozen=True)
class Source:
    """A weights file; one that may be downloaded has a `url`."""

    path: Path
    url: str = ""


@dataclass(frozen=True)
class Weights:
    """What a file holds: names → CPU tensors (shared by all readers: copy them), and its hash."""

    source: Source
    tensors: Mapping[str, Tensor]
    sha256: str


def locate(spec: BackboneSpec, base: Path) -> Source | None:
    """Return the file that a study file means, present or not; None for random weights.

    Raises:
        UnknownNameError: no such backbone, or no weights of that name.
    """
    builder = registry.registered(spec.name)
    if spec.weights == "none":
        return None
    if spec.weights.endswith(_SUFFIXES) or "/" in spec.weights or "\\" in spec.weights:
        path = base / Path(spec.weights).expanduser()
        return Source(path / "weights.safetensors" if path.is_dir() else path)
    if builder is None:
        return _torchvision(spec)
    folders: dict[str, str] = vars(builder).get("weights", {})
    name = next(iter(folders), "") if spec.weights == "DEFAULT" else spec.weights
    if name not in folders:
        raise _unknown(spec, folders)
    return Source(Path(folders[name]) / "weights.safetensors")


def _torchvision(spec: BackboneSpec) -> Source:
    url = str(named(spec).url)
    return Source(download.folder() / url.rpartition("/")[2], url)


def named(spec: BackboneSpec) -> Any:
    """Return torchvision's enum member of these weights; `ResNet18_Weights.DEFAULT` will do too.

    Raises:
        UnknownNameError: the model has no weights of that name.
    """
    members = registry.enum(spec.name).__members__
    name = spec.weights.rpartition(".")[2]
    if name not in members:
        raise _unknown(spec, members)
    return members[name]


def _unknown(spec: BackboneSpec, known: Mapping[str, Any]) -> UnknownNameError:
    return UnknownNameError(
        f"backbone {spec.name}: unknown weights {spec.weights!r}",
        suggest(spec.weights, known) if known else "it has no pretrained weights",
        f"write `weights: none` for a random start, or the path of a file ({', '.join(_SUFFIXES)})",
    )


def check(source: Source, spec: BackboneSpec) -> None:
    """See that the file is there, or can be downloaded.

    Raises:
        WeightsError: it is not there and cannot be had.
    """
    if source.path.is_file():
        return
    if source.url:
        download.check(source.url, source.path)
        return
    raise WeightsError(
        f"{source.path}: no such weights file",
        f"the study file names it for {spec.name}",
        "correct `weights` (a path is relative to the study file's folder)",
    )


def read(source: Source, spec: BackboneSpec) -> Weights:
    """Read a weights file, downloading it first if need be; the last ones read are kept.

    Raises:
        WeightsError: absent, unreadable, not what its name says, or holding more than tensors.
    """
    if source.url:
        download.fetch(source.url, source.path)
    check(source, spec)
    status = source.path.stat()
    tensors, sha256 = _read(source.path, status.st_mtime_ns, status.st_size)
    return Weights(source, tensors, sha256)


@lru_cache(maxsize=2)
def _read(path: Path, _mtime_ns: int, _size: int) -> tuple[Mapping[str, Tensor], str]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    _check_digest(path, sha256)
    return dict(_tensors(_unpickled(path), path)), sha256


def _check_digest(path: Path, sha256: str) -> None:
    """Check a hash in the file's name, as torchvision's files have it; a date is none."""
    said = _DIGEST_IN_NAME.search(path.name)
    if said and not _DATE.fullmatch(said[1]) and not sha256.startswith(said[1]):
        raise WeightsError(
            f"{path}: not the file that its name says",
            f"its SHA-256 begins with {sha256[: len(said[1])]}",
            "delete it and fetch it again; or rename it, if it is what you want",
        )


def _unpickled(path: Path) -> Any:
    """Read a file without executing anything that it may hold."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: it loads, or it does not
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can end in any error
        code = re.search(r"GLOBAL (\S+)", str(error))
        raise WeightsError(
            f"{path}: cannot be read as weights",
            f"it holds code ({code[1]}), which is never executed"
            if code
            else f"it is damaged, cut off, or of another kind ({type(error).__name__})",
            "save the tensors alone: torch.save(model.state_dict(), …), or as .safetensors"
            if code
            else "fetch or save it again: a state dict (.pth, .pt, .th) or .safetensors",
        ) from error


def _tensors(found: Any, path: Path) -> Iterator[tuple[str, Tensor]]:
    while isinstance(found, Mapping) and (inner := [k for k in _WRAPPERS if k in found]):
        found = found[inner[0]]
    foreign = found if not isinstance(found, Mapping) else None
    for key, value in found.items() if isinstance(found, Mapping) else ():
        if not isinstance(value, Tensor):
            foreign = value
            break
        yield _modern(str(key)), value
    if foreign is not None or not found:
        raise WeightsError(
            f"{path}: not a state dict",
            f"it holds {type(foreign).__name__} where names and tensors are expected",
            "save the tensors alone: torch.save(model.state_dict(), …)",
        )


def _modern(key: str) -> str:
    """Return a parameter's present name: wrappers cut off, torchvision's old files translated.

    Source: torchvision `densenet._load_state_dict`, `MLPBlock._load_from_state_dict`.
    """
    key = key.removeprefix("module.").removeprefix("_orig_mod.")
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
    return re.sub(r"\.mlp\.linear_([12])\.", lambda m: f".mlp.{3 * (int(m[1]) - 1)}.", key)


def assign(module: nn.Module, weights: Weights, head: str) -> None:
    """Give a module copies of the tensors of a file, the head's excepted.

    Raises:
        WeightsError: a parameter is missing, unknown, or of another shape.
    """
    wanted = {
        key: value
        for key, value in module.state_dict(keep_vars=True).items()
        if not key.startswith(f"{head}.")
    }
    rest = (f"{head.partition('.')[0]}.", *_AUXILIARY)
    given = {
        key: value
        for key, value in _resized(module, weights).items()
        if key in wanted or not key.startswith(rest)
    }
    problems = list(_problems(wanted, given))
    if problems:
        raise _misfit(module, weights, problems)
    state = OrderedDict(
        (key, value.to(wanted[key].dtype, copy=True)) for key, value in given.items()
    )
    # Without it, modules take the state for one of an older version.
    vars(state)["_metadata"] = vars(module.state_dict())["_metadata"]
    module.load_state_dict(state, strict=False, assign=True)


def _resized(module: nn.Module, weights: Weights) -> Mapping[str, Tensor]:
    """Interpolate the position embeddings of a ViT that was trained at another image size."""
    if not isinstance(module, VisionTransformer):
        return weights.tensors
    try:
        state = OrderedDict(weights.tensors)
        found: dict[str, Tensor] = interpolate_embeddings(
            module.image_size, module.patch_size, state
        )
    except (KeyError, ValueError):
        return weights.tensors  # not a ViT's: the misfit is told with all the others
    return found


def _problems(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    for key, value in wanted.items():
        if key not in given:
            if not key.endswith("num_batches_tracked"):
                yield f"{key} {tuple(value.shape)} is missing"
        elif given[key].shape != value.shape:
            yield f"{key} is {tuple(given[key].shape)}, and {tuple(value.shape)} is expected"
    yield from (f"{key} is not in the model" for key in given if key not in wanted)


def _misfit(module: nn.Module, weights: Weights, problems: list[str]) -> WeightsError:
    more = [f"and {len(problems) - 3} more"] if len(problems) > 3 else []
    return WeightsError(
        f"{weights.source.path}: these weights do not fit {type(module).__name__}",
        "; ".join([*problems[:3], *more]),
        "name the backbone that they belong to, or give its `kwargs`, such as width_mult: 0.35",
    )


def meta(source: Source | None) -> dict[str, Any]:
    """Return what `meta.json` beside a file tells about its weights; {} where there is none.

    Raises:
        WeightsError: the file is not a JSON mapping.
    """
    if source is None or source.url:
        return {}
    path = source.path.parent / "meta.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__} instead of a mapping")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path}: cannot be read",
            str(error),
            "restore it, or delete it: it only describes the weights beside it",
        ) from error
    return found
