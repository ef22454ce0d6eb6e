"""A report's pictures, where optuna-dashboard's page looks for a study's artifacts (WSGI).

Why: 2026-11: answered here: optuna-dashboard would let any site's scripts read them, and fails
where a study is gone. Files that somebody uploads would be served from this site's own address:
`changes` lets no upload pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from tunesvc import study
from tunesvc.dashboard import answers
from tunesvc.dashboard.origin import SAFE
from tunesvc.errors import StudyError, TuneError
from tunesvc.report import pictures
from tunesvc.report.kept import PATIENCE, told
from tunesvc.storage import Store

ARTIFACTS = "/artifacts/"
_PATH = re.compile(f"{ARTIFACTS}([0-9]{{1,9}})/([0-9a-f]{{8}})")


class Pictures:
    """The pictures of every study's report; threads may share it.

    optuna-dashboard is given it as its artifact store, for its page to show artifacts at all, and
    never asks it: see `Pages`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        if environ["REQUEST_METHOD"] not in SAFE:
            why = "A picture is only to be looked at."
            return answers.refusal(environ, start_response, HTTPStatus.METHOD_NOT_ALLOWED, why)
        try:
            body = self._image(environ.get("PATH_INFO", ""))
        except TuneError as error:  # no report can be made now
            return answers.refusal(
                environ, start_response, HTTPStatus.SERVICE_UNAVAILABLE, str(error)
            )
        except (SQLAlchemyError, StorageInternalError):
            why = "The database is away. Load this page again in a moment."
            return answers.refusal(environ, start_response, HTTPStatus.SERVICE_UNAVAILABLE, why)
        if body is None:
            why = "There is no such picture, or no longer."
            return answers.refusal(environ, start_response, HTTPStatus.NOT_FOUND, why)
        shape = [("Content-Type", "image/png"), ("Content-Length", str(len(body)))]
        start_response("200 OK", shape)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _image(self, path: str) -> bytes | None:
        asked = _PATH.fullmatch(path)
        if asked is None:
            return None
        try:
            name = self._store.optuna.get_study_name_from_id(int(asked[1]))
            opened = study.open_study(self._store, name)
        except (KeyError, StudyError):  # no such study, or not of ours
            return None
        if opened.id != int(asked[1]):  # another study of the same name, made since
            return None
        return pictures.image(told(opened, patience=PATIENCE), asked[2])
