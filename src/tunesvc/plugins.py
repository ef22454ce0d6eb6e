"""Name → object, for everything that others may add to.

A kind ("task", "backbone") has built-in entries, given here as import paths so that naming one
imports nothing, and those of installed packages under the entry-point group `tunesvc.<kind>`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from tunesvc.errors import UnknownNameError, UsageError, suggest

BUILT_IN: dict[str, dict[str, str]] = {
    "task": {
        "image-classification": "tunesvc.tasks.image_classification:TASK",
        "image-regression": "tunesvc.tasks.image_regression:TASK",
    },
    "backbone": {
        "tiny_resnet": "tunesvc.backbones.small:tiny_resnet",
        "tiny_mobilenet": "tunesvc.backbones.small:tiny_mobilenet",
        "two_conv_cnn": "tunesvc.backbones.small:two_conv_cnn",
    },
}


@cache
def paths(kind: str) -> dict[str, str]:
    """Return the import path ("package.module:object") of every known name of a kind.

    Raises:
        UsageError: two packages claim the same name.
    """
    found = dict(BUILT_IN[kind])
    for entry in entry_points(group=f"tunesvc.{kind}"):
        if entry.name in found and found[entry.name] != entry.value:
            raise UsageError(
                f"two plugins are called {entry.name!r}",
                f"{found[entry.name]} and {entry.value} are both registered as tunesvc.{kind}",
                "uninstall one of the two packages, or rename its entry point",
            )
        found[entry.name] = entry.value
    return found


def load(kind: str, name: str) -> Any:
    """Import and return the object registered under a name.

    Raises:
        UnknownNameError: nothing is registered under this name; the message lists what is.
        UsageError: an installed package registers it, and it cannot be imported.
    """
    known = paths(kind)
    if name not in known:
        raise UnknownNameError(f"unknown {kind} {name!r}", suggest(name, known))
    if name in BUILT_IN[kind]:
        return _imported(known[name])
    try:
        return _imported(known[name])
    except Exception as error:  # a foreign module can end in any error
        raise UsageError(
            f"the {kind} {name!r} cannot be imported",
            f"{known[name]}: {type(error).__name__}: {error}",
            f"mend the package that registers it as tunesvc.{kind}, or uninstall it",
        ) from error


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
