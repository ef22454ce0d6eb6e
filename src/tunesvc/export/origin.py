"""Where pretrained weights come from, and under which licence.

Why: 2026-11: nothing is guessed. torchvision states a licence with some of its weights only, a file
says nothing unless `meta.json` beside it does; then the card says where to look, for whoever ships
the model has to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesvc.backbones import weights
from tunesvc.spec import BackboneSpec


@dataclass(frozen=True)
class Origin:
    """Of a backbone's weights.

    Args:
        name: of the file, or torchvision's name of them.
        licence: as it is stated, or where to read.
    """

    name: str
    licence: str


def origin(backbone: BackboneSpec, base: Path, *, pretrained: bool) -> Origin:
    """Return it.

    Args:
        base: folder that the study file's relative paths start from.
        pretrained: whether the model began from them.
    """
    source = weights.locate(backbone, base) if pretrained else None
    if source is None:
        return Origin("none", "not needed: it began from random weights")
    if source.url:
        member = weights.named(backbone)
        meta = member.meta
        read = meta.get("recipe") or source.url
        licence = meta.get("license") or f"unknown: read {read}, and the terms of their images"
        return Origin(f"torchvision's {member}", str(licence))
    told = weights.meta(source)
    folder = source.path.parent.name if source.path.stem == "weights" else ""
    name = f"{folder}/{source.path.name}" if folder else source.path.name
    read = "unknown: read what came with it"
    return Origin(name, str(told.get("license") or told.get("licence") or read))
