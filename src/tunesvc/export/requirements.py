"""`requirements.txt` of an exported folder: what `tunesvc predict` needs there, in these versions.

Why: 2026-11: exact versions of what decides a prediction's numbers; what tunesvc needs besides
comes with it. Local parts of a version ("+cu126") name a build that other machines may not have.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, entry_points, version

from tunesvc import __version__

_DECIDING = ("torch", "torchvision", "numpy", "pillow", "safetensors")
_FOR_ONNX = ("onnxruntime",)


def requirements(*, backbone: str, task: str, onnx: bool) -> str:
    """Return the file's text.

    Args:
        backbone, task: names; packages that brought them are named, too.
        onnx: `model.onnx` is there.
    """
    lines = [f"# Written under Python {platform.python_version()}.", f"tunesvc=={__version__}"]
    lines += [_pinned(name) for name in _DECIDING]
    lines += sorted({*_brought("backbone", backbone), *_brought("task", task)})
    if onnx:
        lines += ["# To run model.onnx:", *(f"# {_pinned(name)}" for name in _FOR_ONNX)]
    return "\n".join(lines) + "\n"


def _pinned(name: str) -> str:
    return f"{name}=={version(name).partition('+')[0]}"


def _brought(kind: str, name: str) -> list[str]:
    """Return the package whose entry point a name is; nothing where it is one of ours."""
    found = entry_points(group=f"tunesvc.{kind}", name=name)
    packages = {point.dist.name for point in found if point.dist is not None}
    return [_known(package) for package in sorted(packages)]


def _known(package: str) -> str:
    try:
        return _pinned(package)
    except PackageNotFoundError:
        return package
