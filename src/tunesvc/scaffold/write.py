"""Folder, backbones and preset → a study and its commented file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesvc.errors import UnknownNameError, UsageError, suggest
from tunesvc.scaffold.folder import FolderFacts, look
from tunesvc.scaffold.page import SCHEMA, page
from tunesvc.space import auto
from tunesvc.spec import Choices, Range, StudySpec, schema
from tunesvc.spec.load import validate
from tunesvc.spec.mistakes import KeyPath
from tunesvc.spec.yaml_file import Document, Position

_SMALL = ("mobilenet_v3_small", "resnet18")
_MIDDLE = (*_SMALL, "resnet50", "efficientnet_b0")
_LARGE = (*_MIDDLE, "convnext_tiny", "vit_b_16", "swin_t")


@dataclass(frozen=True)
class Preset:
    """How much one is ready to spend.

    `steps` is what a trial should train for at batches of 32; the epochs follow from the number of
    images, within `epochs`. Source: BiT-HyperRule (arXiv 1912.11370) takes 500 steps for data sets
    below 20,000 images; half a preset above and a third below it are for the hurried and the
    patient.
    """

    backbones: tuple[str, ...]
    trials: int
    steps: int
    epochs: tuple[int, int]
    pruner: Mapping[str, Any]


PRESETS = {
    "quick": Preset(_SMALL, 12, 150, (3, 8), {"kind": "asha", "min_resource": 1}),
    "balanced": Preset(_MIDDLE, 40, 500, (5, 20), {"kind": "asha", "min_resource": 1}),
    "thorough": Preset(_LARGE, 120, 1000, (8, 40), {"kind": "hyperband", "min_resource": 2}),
}


def write_for_folder(
    folder: Path,
    *,
    backbones: Sequence[str] | None = None,
    preset: str = "balanced",
    trials: int | None = None,
    name: str | None = None,
    destination: Path = Path("studies"),
    home: Path | None = None,
) -> Path:
    """Look at a folder of images, and write a study file for it with its ready space spelled out.

    Args:
        folder: one folder per class, perhaps inside train/ and val/.
        backbones, preset, trials, name: wishes; without them as the preset says.
        destination: the folder that is written to.
        home: the folder that the file's relative path starts from; None: `destination`.

    Raises:
        DataError: the folder holds no classes of images.
        UsageError: no such preset, no trials, or the file is there already.
    """
    facts = look(folder)
    plain = draft(
        facts,
        backbones=backbones,
        preset=preset,
        trials=trials,
        name=name,
        path=_path(folder, home or destination),
    )
    space = _for_few(auto.space_for(plain), facts.images)
    return write(plain.model_copy(update={"search_space": space}), facts, destination)


def draft(
    facts: FolderFacts,
    *,
    backbones: Sequence[str] | None,
    preset: str,
    trials: int | None,
    name: str | None,
    path: str,
) -> StudySpec:
    """Return the study, its search space still being `auto`.

    Raises:
        UsageError: no such preset, or no trials.
    """
    if preset not in PRESETS:
        raise UnknownNameError(f"unknown preset {preset!r}", suggest(preset, PRESETS))
    if trials is not None and trials < 1:
        raise UsageError(f"--trials {trials}: at least one is needed")
    chosen = PRESETS[preset]
    written = {
        "name": name or _name(facts.path),
        "description": f"preset {preset}",
        "data": {"kind": "folder", "path": path},
        "backbones": list(backbones or chosen.backbones),
        "budget": {"trials": trials or chosen.trials, "epochs": _epochs(chosen, facts.images)},
        "pruner": dict(chosen.pruner),
    }
    positions: dict[KeyPath, Position] = {(): Position(1, 1), ("name",): Position(1, 1)}
    return validate(StudySpec, Document(written, positions), f"{written['name']}.yaml")


def write(spec: StudySpec, facts: FolderFacts, destination: Path) -> Path:
    """Write the commented study file, and the schema by which editors complete it.

    Args:
        spec: its search space is spelled out.
        facts: what the comments tell.
        destination: the folder for it, made if need be.

    Raises:
        UsageError: the file is there already; it is left as it is.
    """
    destination.mkdir(parents=True, exist_ok=True)
    path = destination / f"{spec.name}.yaml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(page(spec, facts))
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already",
            "a study file is never overwritten",
            f"use it (tunesvc up {path}), or give the new one another name with --name",
        ) from error
    if not (destination / SCHEMA).exists():
        (destination / SCHEMA).write_text(schema_text(), encoding="utf-8")
    return path


def schema_text() -> str:
    """Return the JSON schema as the file that stands beside study files."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _name(folder: Path) -> str:
    return re.sub(r"[^\w.+-]+", "-", folder.absolute().name).strip("-")[:200] or "images"


def _path(folder: Path, destination: Path) -> str:
    """Return a path that is relative to the study file where both lie in the working folder."""
    here, there = Path.cwd(), folder.absolute()
    if not (there.is_relative_to(here) and destination.absolute().is_relative_to(here)):
        return there.as_posix()
    up = len(destination.absolute().relative_to(here).parts)
    return Path(*[".."] * up, there.relative_to(here)).as_posix()


def _epochs(preset: Preset, images: int) -> int:
    low, high = preset.epochs
    return max(low, min(high, math.ceil(preset.steps * 32 / images)))


def _for_few(space: Mapping[str, tuple[Range, ...]], images: int) -> dict[str, tuple[Range, ...]]:
    """Make batches small enough for eight steps in an epoch."""
    fitting = [size for size in (8, 16, 32, 64, 128) if size <= 16 or size * 8 <= images][-3:]
    return {**space, "batch_size": (Choices(choices=list(fitting)),)}
