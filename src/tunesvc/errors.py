"""Every error that a user can meet, and the exit code that each ends in.

    TuneError                  1
    ├── UsageError             2   the command line asks for something that cannot be
    │   ├── SpecError          2   the study file is wrong; knows its file and line
    │   ├── UnknownNameError   2   a name that no registry holds; knows the names that are
    │   └── StudyError         2   no such study, or a different one under this name
    ├── StorageError           3   Postgres or the artifact folder: down, refused, disk full
    ├── DataError              4   images, labels, splits
    ├── WeightsError           4   pretrained weights: absent, foreign, unsafe
    └── TrainingError          5   a run that cannot go on

A worker that cannot go on where a new one can (it hung, its device is out of order) ends in
`REPLACE`, whatever the error.

A message has three parts, what happened, why, and how to fix it, so that it fits one screen and
nobody has to read a traceback. Tracebacks are for our own bugs.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

REPLACE = 70  # EX_SOFTWARE of sysexits.h


class TuneError(Exception):
    """What happened, why, and how to fix it.

    The arguments are positional so that the error survives pickling between processes.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what, self.why, self.fix = what, why, fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(TuneError):
    """The command asks for something that cannot be."""

    exit_code = 2


class SpecError(UsageError):
    """The study file is wrong; `what` begins with its path, line and column."""


class UnknownNameError(UsageError):
    """A name that no registry holds."""


class StudyError(UsageError):
    """No such study, or a different one under this name."""


class StorageError(TuneError):
    """Postgres or the artifact folder cannot be reached, started or written to."""

    exit_code = 3


class DataError(TuneError):
    """Images, labels or splits cannot be used as they are."""

    exit_code = 4


class WeightsError(TuneError):
    """Pretrained weights are absent, do not fit, or cannot be trusted."""

    exit_code = 4


class TrainingError(TuneError):
    """A training run cannot go on."""

    exit_code = 5


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" where a known name is close, else the known names in a row."""
    names = sorted(known)
    close = get_close_matches(wrong, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:40])
    return f"known: {shown}" + (f", … ({len(names)} in all)" if len(names) > 40 else "")
