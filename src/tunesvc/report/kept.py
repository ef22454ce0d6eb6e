"""Reports of stored studies, made when trials have ended and kept until more do.

A kept report is a JSON file of the host's cache, one a study, replaced in one step. It bears the
state of the study that it was made from: which trials have ended, how many and when the last; what
is stored with the study; the same of its confirmation; and the versions of what measured and drew.

Why: 2026-11: what runs is not part of that state, though the timeline shows it: else a study that
is being worked on would be measured anew at every start as well as at every end.

Why: 2026-11: the dashboard is asked again and again while trials end every few seconds. `page`
therefore shows a report for twenty times as long as it took to make: at most a twentieth of one
core goes into measuring, and the page says when it was made.

Why: 2026-11: measures and pictures are imported when a report is made: SciPy, scikit-learn and
plotly take a second or two, and a kept report needs none of them.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from tunesvc import __version__, places
from tunesvc import study as studies
from tunesvc.report import rendering
from tunesvc.report.document import Report
from tunesvc.shelf import whole
from tunesvc.study import Study

if TYPE_CHECKING:
    from tunesvc.report.evidence import Evidence

KEPT_DAYS = 30  # without being made anew
PATIENCE = 20  # times as long as a report took, the dashboard shows it unasked

_LIBRARIES = ("numpy", "pandas", "plotly", "scikit-learn", "scipy")
_making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class _Sql:
    # Studies that are named after it confirm it; a few too many do no harm.
    STATE = text("""
        WITH ours AS (SELECT study_id FROM studies
                      WHERE study_id = :study_id OR starts_with(study_name, :name || '.')),
             ended AS (SELECT study_id, state, count(*) AS n, max(datetime_complete) AS latest
                       FROM trials JOIN ours USING (study_id)
                       WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL') GROUP BY study_id, state)
        SELECT concat_ws(' ',
            (SELECT string_agg(ended::text, ' ' ORDER BY study_id, state) FROM ended),
            (SELECT md5(string_agg(a::text, ',' ORDER BY study_id, key))
             FROM study_user_attributes a JOIN ours USING (study_id)))
    """)


def told(
    study: Study, *, patience: float = 0, looked: MutableMapping[str, Evidence] | None = None
) -> Report:
    """Return a study's report: the kept one if nothing has ended since. Safe in threads.

    Args:
        patience: a kept one may also be older by so many times as it took to make.
        looked: evidence by study, for whoever makes several reports of them; added to.
    """
    with _making[study.uid]:
        file, known = _kept(study.uid)
        if known and 0 <= time.time() - known["made_at"] < patience * known["seconds"]:
            return Report.of(known["report"])
        state = _state(study)
        if known and known["state"] == state:
            return Report.of(known["report"])
        from tunesvc.report import making

        started = time.time()
        report = making.make(_looked(study, looked))
        _keep(file, state, report, started)
        return report


def beside(
    several: Sequence[Study], *, looked: MutableMapping[str, Evidence] | None = None
) -> Report:
    """Return the report of several studies side by side, kept likewise."""
    name = sha256("+".join(study.uid for study in several).encode()).hexdigest()[:16]
    with _making[name]:
        file, known = _kept(name)
        state = [words for study in several for words in _state(study)]
        if known and known["state"] == state:
            return Report.of(known["report"])
        from tunesvc.report import making

        started = time.time()
        evidences = [_looked(study, looked) for study in several]
        report = making.beside(evidences, [told(study, looked=looked) for study in several])
        _keep(file, state, report, started)
        return report


def page(study: Study) -> bytes:
    """Return a study's page (UTF-8), at times a little old: see above. Safe in threads."""
    return rendering.html(told(study, patience=PATIENCE)).encode()


def evidence(study: Study) -> Evidence:
    """Return what is known of a study now."""
    from tunesvc import confirm, results
    from tunesvc.report.evidence import Evidence

    trials = results.trials(study)
    league = [asdict(entry) for entry in studies.league(study).values()]
    found, reruns = confirm.found(study), confirm.measured(study)
    return Evidence(trials, league, found, reruns, _images(study))


def _looked(study: Study, looked: MutableMapping[str, Evidence] | None) -> Evidence:
    if looked is None:
        return evidence(study)
    if study.uid not in looked:
        looked[study.uid] = evidence(study)
    return looked[study.uid]


def _images(study: Study) -> int | None:
    """Return the size of the validation split, if a trial has stored it."""
    for trial in study.optuna().get_trials(deepcopy=False):
        images = trial.user_attrs.get("run", {}).get("images", {})
        if "val" in images:
            return int(images["val"])
    return None


def _state(study: Study) -> list[str]:
    """Return what a report depends on, briefly; two that are equal make the same report."""
    values = {"study_id": study.id, "name": study.name}
    with study.store.engine.connect() as connection:
        return [_made_with(), study.uid, str(connection.execute(_Sql.STATE, values).scalar_one())]


def _made_with() -> str:
    """Return versions, and when the code of the measures was last changed."""
    package = Path(__file__).parents[1]
    sources = [
        path.stat() for room in ("analysis", "report") for path in (package / room).rglob("*.*")
    ]
    stamp = f"{len(sources)} {sum(stat.st_mtime_ns for stat in sources)}"
    return " ".join([__version__, stamp, *(version(name) for name in _LIBRARIES)])


def _kept(name: str) -> tuple[Path, dict[str, Any] | None]:
    """Return where a report is kept, and what was, if this version made it."""
    file = _folder() / f"{name}.json"
    try:
        known = json.loads(file.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return file, None
    return file, known if known["state"][:1] == [_made_with()] else None


def _keep(file: Path, state: list[Any], report: Report, started: float) -> None:
    now = time.time()
    known = {"state": state, "made_at": now, "seconds": now - started, "report": asdict(report)}
    with whole(file) as draft:
        draft.write(json.dumps(known).encode())
    for old in _folder().glob("*.json"):  # of studies that nobody looks at any more, or deleted
        with suppress(FileNotFoundError):
            if now - old.stat().st_mtime > KEPT_DAYS * 86_400:
                old.unlink()


def _folder() -> Path:
    return places.cache() / "reports"
