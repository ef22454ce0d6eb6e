"""What optuna-dashboard asks for artifacts: a report's pictures, and nothing else.

Why: 2026-11: it writes none: files that somebody uploads would be served from this site's own
address. `changes` lets no upload pass in the first place.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from bottle import HTTPError

from tunesvc import study
from tunesvc.errors import StudyError
from tunesvc.report import pictures
from tunesvc.report.kept import PATIENCE, told
from tunesvc.storage import Store


class Pictures:
    """The pictures of every study's report, as an artifact store of Optuna's."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return a picture to be read.

        Raises:
            HTTPError: there is none of this id.
        """
        try:
            number = pictures.study_of(artifact_id)
            opened = study.open_study(
                self._store, self._store.optuna.get_study_name_from_id(number)
            )
            found = pictures.image(opened, told(opened, patience=PATIENCE), artifact_id)
        except (ValueError, KeyError, StudyError):  # no id of ours; no such study, or not of ours
            found = None
        if found is None:
            raise HTTPError(404, "There is no such picture, or no longer.")
        return io.BytesIO(found)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:  # noqa: ARG002 (Optuna's)
        """Refuse: see above.

        Raises:
            HTTPError: always.
        """
        raise HTTPError(404, "Nothing can be uploaded here.")

    def remove(self, artifact_id: str) -> None:
        """Do nothing: a study that is deleted takes its attributes with it."""
