"""Hyperparameter optimization as a service for fine-tuning pretrained models.

The public names are those of `__all__`; how they are used in a notebook stands in docs/how-to.md.

    open_study(name)    a stored study, to be read: its trials as a table, its best
    load(folder)        a model that `tunesvc export` wrote

What is not listed here may change with any version.

Why: 2026-11: each name is imported when it is first used. `import tunesvc` takes milliseconds;
torch would take seconds, and whoever reads a study needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesvc.errors import TuneError
    from tunesvc.exported import Model, Prediction, load
    from tunesvc.public import Best, Study, open_study
    from tunesvc.spec import StudySpec
    from tunesvc.study import Status

__version__ = "0.1.0"

__all__ = [
    "Best",
    "Model",
    "Prediction",
    "Status",
    "Study",
    "StudySpec",
    "TuneError",
    "__version__",
    "load",
    "open_study",
]

_HOME = {
    "Best": "tunesvc.public",
    "Model": "tunesvc.exported",
    "Prediction": "tunesvc.exported",
    "Status": "tunesvc.study",
    "Study": "tunesvc.public",
    "StudySpec": "tunesvc.spec",
    "TuneError": "tunesvc.errors",
    "load": "tunesvc.exported",
    "open_study": "tunesvc.public",
}

if not TYPE_CHECKING:  # else a misspelt name would be of type Any

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
