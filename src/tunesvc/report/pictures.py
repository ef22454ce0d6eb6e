"""A report's pictures among the artifacts of its study, where optuna-dashboard shows them.

A study's attribute names each; the image itself is nowhere: it is drawn when it is looked at, from
the report that is kept. So there is nothing that could be left behind or out of date.

Why: 2026-11: under an id made of the section's name, for optuna-dashboard's ids consist of
hexadecimal digits; those of others' artifacts are longer.
"""

from __future__ import annotations

import json
import os
import re
import threading
import warnings
from functools import lru_cache
from zlib import crc32

from tunesvc import places
from tunesvc.report.document import Report, Told
from tunesvc.study import Study

PREFIX = "artifacts:"  # of a study's attribute, as optuna-dashboard has it
_OURS = re.compile(f"{PREFIX}[0-9a-f]{{8}}")

_drawing = threading.Lock()  # matplotlib's settings are the process's
_LONGEST = 30.0  # seconds, of one picture


def entries(report: Report) -> dict[str, str]:
    """Return a study's attributes that name the pictures of its report."""
    names = {_id(told): f"{told.key}.png" for told in report.sections if told.figure}
    return {
        PREFIX + each: json.dumps({"artifact_id": each, "filename": name,
                                   "mimetype": "image/png", "encoding": None})
        for each, name in names.items()
    }  # fmt: skip


def note(study: Study, report: Report) -> None:
    """Have a study's attributes name the pictures of its report, and no others of ours."""
    storage = study.store.optuna
    known = storage.get_study_system_attrs(study.id)
    wanted = entries(report)
    gone = {key: "null" for key in known if _OURS.fullmatch(key) and key not in wanted}
    for key, value in (gone | wanted).items():
        if known.get(key) != value:
            storage.set_study_system_attr(study.id, key, value)


def image(report: Report, artifact_id: str) -> bytes | None:
    """Return a picture as a PNG; None where the report has no such picture. Safe in threads."""
    for told in report.sections:
        if told.figure and _id(told) == artifact_id:
            return _drawn(told.figure, told.title)
    return None


def finish() -> None:
    """Let no picture be begun any more, and wait for the one that is being drawn.

    Why: 2026-11: Python ended beneath a thread that was drawing, and aborted with a core dump.
    """
    _drawing.acquire(timeout=_LONGEST)


@lru_cache(maxsize=256)  # of some 50 kB each
def _drawn(figure: str, title: str) -> bytes:
    # Else it looks for a home, which a service may not have, to remember the fonts that it found.
    os.environ.setdefault("MPLCONFIGDIR", str(places.cache() / "matplotlib"))
    from tunesvc.report.drawn import png

    with _drawing, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        return png(figure, title)


def _id(told: Told) -> str:
    return f"{crc32(told.key.encode()):08x}"
