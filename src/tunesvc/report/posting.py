"""A report's summary where people look who watch a study in optuna-dashboard.

The words go into the study's note, between two lines of ours: what somebody wrote above or below
them stays. The first pictures go onto the study's page, as plots that can be hovered over; all of
them are among its artifacts, as images: see `pictures`.

Why: 2026-11: who posts claims it first, in one statement, for the version of the study that it
saw: of several dashboards and workers one measures, and none undoes a newer one's words. A claim
whose holder died is free after a minute.
"""

from __future__ import annotations

import json
from urllib.parse import quote

import plotly.io
from optuna_dashboard import get_note, save_note, save_plotly_graph_object
from sqlalchemy import text

from tunesvc import trips
from tunesvc.confirm import SUFFIX
from tunesvc.report import pictures
from tunesvc.report.document import Report
from tunesvc.report.kept import told
from tunesvc.report.rendering import markdown
from tunesvc.study import Study

# Definitions of links that nothing links to: Markdown shows nothing for them.
FIRST, LAST = "[//]: # (tunesvc report)", "[//]: # (end of tunesvc report)"
PICTURES = ("importance", "strategies", "cost-seconds", "expected")  # kept small: sent at each poll
FORM = 2  # of what is posted: what stands there in an older one is posted again
CLAIM_SECONDS = 60


class _Sql:
    ENDED = text("""
        SELECT concat_ws(' ', count(*), max(datetime_complete)) FROM trials JOIN studies
        USING (study_id) WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')
                           AND (study_id = :study_id OR study_name = :companion)
    """)
    # True for whoever may post; nothing where it stands there already, or another is at it.
    CLAIM = text("""
        INSERT INTO study_system_attributes AS known (study_id, key, value_json)
        VALUES (:study_id, 'tunesvc:posted', json_build_object('version', CAST(:version AS text),
            'done', false, 'at', extract(epoch FROM clock_timestamp()))::text)
        ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
        WHERE (known.value_json::json ->> 'version' <> :version
               OR NOT (known.value_json::json ->> 'done')::boolean)
          AND ((known.value_json::json ->> 'done')::boolean
               OR (known.value_json::json ->> 'at')::float8
                  < extract(epoch FROM clock_timestamp()) - :seconds)
        RETURNING true
    """)


def post(study: Study) -> bool:
    """Post a study's summary if trials have ended since the last one was; return whether it was.

    Also if runs have ended that confirm it.
    """
    engine = study.store.engine
    with trips.alone(engine) as connection:
        both = {"study_id": study.id, "companion": study.name + SUFFIX}
        ended = connection.execute(_Sql.ENDED, both).scalar_one()
        version = f"{ended} {FORM}"
        claim = {"study_id": study.id, "version": version, "seconds": CLAIM_SECONDS}
        if ended == "0" or not connection.execute(_Sql.CLAIM, claim).scalar():
            return False
    _write(study, told(study))
    done = json.dumps({"version": version, "done": True, "at": 0})
    study.store.optuna.set_study_system_attr(study.id, "tunesvc:posted", json.loads(done))
    return True


def _write(study: Study, report: Report) -> None:
    stored = study.optuna()
    whole = f"[The whole report, with its pictures](/report/{quote(study.name, safe='')})"
    ours = f"{markdown(report, short=True).strip()}\n\n{whole}"
    save_note(stored, _merged(get_note(stored), ours))
    pictures.note(study, report)
    for section in report.sections:
        if section.key in PICTURES and section.figure:
            figure = plotly.io.from_json(section.figure)
            figure.update_layout(title=section.title, height=None, margin_t=90)
            figure.update_layout(title={"y": 0.97, "yanchor": "top"})
            save_plotly_graph_object(stored, figure, graph_object_id=f"tunesvc-{section.key}")


def _merged(note: str, ours: str) -> str:
    """Return a note with our part replaced, or added below what is there.

    Where one of our two lines is gone, nobody knows where our part ended: all of it stays.
    """
    before, first, rest = note.partition(FIRST)
    _, last, after = rest.partition(LAST)
    if not (first and last):
        kept = note.replace(FIRST, "").replace(LAST, "").strip()
        before, after = (f"{kept}\n\n" if kept else ""), ""
    return f"{before}{FIRST}\n\n{ours}\n\n{LAST}{after}"
