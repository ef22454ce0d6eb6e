"""A report's pictures among the artifacts of its study, where optuna-dashboard shows them.

A study's attribute names each; the image itself is nowhere: it is drawn when it is looked at, from
the report that is kept. So there is nothing that could be left behind or out of date.

Why: 2026-11: under an id of the study's number and the section's name, since optuna-dashboard asks
its store for an id alone, of hexadecimal digits.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from functools import lru_cache
from zlib import crc32

from tunesvc import places
from tunesvc.report.document import Report, Told
from tunesvc.study import Study

PREFIX = "artifacts:"  # of a study's attribute, as optuna-dashboard has it

_drawing = threading.Lock()  # matplotlib's settings are the process's
_LONGEST = 30.0  # seconds, of one picture


def entries(study_id: int, report: Report) -> dict[str, str]:
    """Return a study's attributes that name the pictures of its report."""
    names = {_id(study_id, told): f"{told.key}.png" for told in report.sections if told.figure}
    return {
        PREFIX + each: json.dumps({"artifact_id": each, "filename": name,
                                   "mimetype": "image/png", "encoding": None})
        for each, name in names.items()
    }  # fmt: skip


def note(study: Study, report: Report) -> None:
    """Have a study's attributes name the pictures of its report, and no others of ours."""
    storage = study.store.optuna
    known = storage.get_study_system_attrs(study.id)
    wanted, ours = entries(study.id, report), f"{PREFIX}{study.id:x}-"
    gone = {key: "null" for key in known if key.startswith(ours) and key not in wanted}
    for key, value in (gone | wanted).items():
        if known.get(key) != value:
            storage.set_study_system_attr(study.id, key, value)


def study_of(artifact_id: str) -> int:
    """Return the number of the study whose picture an id stands for.

    Raises:
        ValueError: it is no id of ours.
    """
    number = int(artifact_id.partition("-")[0], 16)
    if number >= 2**31:  # Postgres has none
        raise ValueError(artifact_id)
    return number


def image(study: Study, report: Report, artifact_id: str) -> bytes | None:
    """Return a picture as a PNG; None where the report has no such picture. Safe in threads."""
    for told in report.sections:
        if told.figure and _id(study.id, told) == artifact_id:
            with _drawing:
                return _drawn(told.figure, told.title)
    return None


def finish() -> None:
    """Let no picture be begun any more, and wait for the one that is being drawn.

    Why: 2026-11: Python ended beneath a thread that was drawing, and aborted with a core dump.
    """
    _drawing.acquire(timeout=_LONGEST)


@lru_cache(maxsize=64)
def _drawn(figure: str, title: str) -> bytes:
    # Else it looks for a home, which a service may not have, to remember the fonts that it found.
    os.environ.setdefault("MPLCONFIGDIR", str(places.cache() / "matplotlib"))
    from tunesvc.report.drawn import png

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        return png(figure, title)


def _id(study_id: int, told: Told) -> str:
    return f"{study_id:x}-{crc32(told.key.encode()):08x}"
