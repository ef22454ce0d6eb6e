"""What lies in the artifacts and is of no more use: found, told, freed.

Why: 2026-11: several databases may keep their artifacts in one place. A folder is freed only if it
says that it is this database's; whatever else lies there is told, and left.

Why: 2026-11: the shelf is listed before the database is read. A study is stored before anything of
it is written, so a folder without a study had one, and it was deleted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text

from tunesvc import study as studies
from tunesvc.errors import StudyError
from tunesvc.shelf import Shelf, clear
from tunesvc.storage import Store, installation_id
from tunesvc.trial import retention

OLD_SECONDS = 3600.0  # a draft that nobody has written to for so long has lost its writer


class _Sql:
    HOMES = text("""
        SELECT s.study_name, a.value_json::json #>> '{}' AS uid
        FROM studies s JOIN study_user_attributes a USING (study_id) WHERE a.key = 'tunesvc:uid'
    """)


@dataclass(frozen=True)
class Garbage:
    """Something that `tunesvc gc` tells of."""

    kind: Literal["study", "checkpoint", "draft", "foreign"]  # what is foreign is never freed
    name: str  # one that ends in "/" means all below it
    bytes: int
    why: str


def find(store: Store, shelf: Shelf) -> list[Garbage]:
    """Return what can be freed, and what is not this database's; nothing is deleted.

    Running trials' checkpoints, failed trials', and those that a study's rule keeps are not in it.
    """
    names, drafts = shelf.names(""), shelf.drafts(OLD_SECONDS)
    installation, living = installation_id(store.engine), _studies(store)
    found = []
    ours = set()
    for home, files in _by_home(names).items():
        is_owned = home + retention.OWNER in files
        if not is_owned or retention.owner(shelf, home) != installation:
            why = "not of this database: left"
            found.append(Garbage("foreign", home, _bytes(shelf, files), why))
            continue
        ours.add(home)
        if home in living:
            found.extend(_superfluous(store, shelf, living[home], files))
        else:
            why = "its study was deleted"
            found.append(Garbage("study", home, _bytes(shelf, files), why))
    why = "its writer was killed"
    left = ((draft, size) for draft, size in drafts.items() if _home(draft) in ours)
    return found + [Garbage("draft", draft, size, why) for draft, size in left]


def free(shelf: Shelf, garbage: Iterable[Garbage]) -> int:
    """Delete what `find` returned, but for what is foreign; return how many bytes that frees.

    Raises:
        StorageError: the shelf refuses; what was deleted until then is gone.
    """
    freed = 0
    for item in garbage:
        if item.kind == "foreign":
            continue
        if item.kind == "study":
            clear(shelf, item.name)
        elif item.kind == "draft":
            shelf.discard(item.name)
        else:
            shelf.remove(item.name)
        freed += item.bytes
    return freed


def _studies(store: Store) -> dict[str, str]:
    """Return the study that each folder is of."""
    with store.engine.connect() as connection:
        rows = connection.execute(_Sql.HOMES).all()
    return {f"{name}-{uid}/": name for name, uid in rows}


def _superfluous(store: Store, shelf: Shelf, study: str, files: list[str]) -> Iterator[Garbage]:
    try:
        opened = studies.open_study(store, study)
        surplus = retention.surplus(files, opened, opened.optuna())
    except (StudyError, KeyError):  # deleted just now, or of another version: its rule is unknown
        return
    for name, why in surplus.items():
        yield Garbage("checkpoint", name, _bytes(shelf, [name]), why)


def _by_home(names: Iterable[str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name in names:
        found[_home(name)].append(name)
    return found


def _home(name: str) -> str:
    """Return the first part with its "/"; a file that lies in no folder is its own."""
    head, slash, _ = name.partition("/")
    return head + slash


def _bytes(shelf: Shelf, names: Iterable[str]) -> int:
    return sum(_size(shelf, name) for name in names)


def _size(shelf: Shelf, name: str) -> int:
    try:
        return shelf.size(name)
    except FileNotFoundError:  # its worker tidied up meanwhile
        return 0
