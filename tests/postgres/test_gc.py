"""Checkpoints that nobody needs go, all others stay, whoever tidies and however many do."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from tunesvc import checkpoint, gc, study
from tunesvc.checkpoint import Mark
from tunesvc.errors import StorageError
from tunesvc.shelf import Folder, whole
from tunesvc.spec import StudySpec
from tunesvc.storage import Store, installation_id, open_store
from tunesvc.study import Study
from tunesvc.trial import retention

BYTES = len(b"not torch")


@pytest.fixture
def shelf(tmp_path: Path) -> Folder:
    """An empty shelf."""
    return Folder(tmp_path / "artifacts")


def make(store: Store, name: str = "digits", **changes: Any) -> Study:
    """A stored study without trials."""
    value = {"name": name, "data": "digits", "backbones": ["tiny_resnet"], "keep": "best-2"}
    return study.create(store, StudySpec.model_validate(value | changes), base=Path("/where"))


def add(made: Study, shelf: Folder, state: TrialState, value: float | None = None) -> int:
    """Add a trial with two checkpoints; return its number."""
    trials = made.optuna()
    trials.add_trial(create_trial(state=state, value=value))
    number = len(trials.trials) - 1
    put(made, shelf, number, 1)
    put(made, shelf, number, 2)
    return number


def put(made: Study, shelf: Folder, number: int, epoch: int, token: int = 7) -> str:
    """Write something under a checkpoint's name."""
    name = f"{retention.folder(made, number)}/{Mark(token, epoch, 0)}"
    shelf.write(name, b"not torch")
    return name


def fill(made: Study, shelf: Folder) -> None:
    """Six trials: the second best, the worst, the best, a pruned, a failed, a running one."""
    retention.claim_folder(shelf, made, installation_id(made.store.engine))
    for value in (0.8, 0.5, 0.9):
        add(made, shelf, TrialState.COMPLETE, value)
    for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING):
        add(made, shelf, state)


def kept(made: Study, shelf: Folder) -> dict[int, list[int]]:
    """Return the epochs of each trial's checkpoints."""
    found: dict[int, list[int]] = {}
    for mark, name in checkpoint.marked(shelf.names(f"{study.artifact_folder(made)}/trial-")):
        found.setdefault(int(name.split("trial-")[1][:5]), []).append(mark.epoch)
    return dict(sorted(found.items()))


BEST_TWO = {0: [2], 2: [2], 4: [1, 2], 5: [1, 2]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"keep": "best-2"}, BEST_TWO),
        ({"keep": "best-1"}, {2: [2], 4: [1, 2], 5: [1, 2]}),
        ({"keep": "best-10"}, {0: [2], 1: [2], 2: [2], 4: [1, 2], 5: [1, 2]}),
        ({"keep": "all"}, {0: [2], 1: [2], 2: [2], 3: [2], 4: [1, 2], 5: [1, 2]}),
        ({"objective": "loss"}, {0: [2], 1: [2], 4: [1, 2], 5: [1, 2]}),
    ],
)
def test_the_rule(
    store: Store, shelf: Folder, changes: dict[str, Any], expected: dict[int, list[int]]
) -> None:
    """The best keep their newest; those that may go on, running or failed, keep both."""
    made = make(store, **changes)
    fill(made, shelf)
    retention.forget(shelf, made, made.optuna())
    assert kept(made, shelf) == expected
    assert retention.owner(shelf, f"{study.artifact_folder(made)}/") == installation_id(
        store.engine
    )


def test_the_best_are_ranked(store: Store, shelf: Folder) -> None:
    """Best first, of equal ones the earlier, and none that did not end well."""
    made = make(store)
    fill(made, shelf)
    add(made, shelf, TrialState.COMPLETE, 0.9)
    assert retention.best(made.optuna(), 10) == [2, 6, 0, 1]
    assert retention.best(made.optuna(), 2) == [2, 6]


def test_a_zombie_s_late_checkpoint_goes_too(store: Store, shelf: Folder) -> None:
    """What is written for a trial after its end is deleted at the next tidying."""
    made = make(store)
    fill(made, shelf)
    for _ in range(2):
        for number in (1, 2):
            put(made, shelf, number, 9, token=3)
        retention.forget(shelf, made, made.optuna())
        assert kept(made, shelf) == BEST_TWO


def test_nothing_to_do_writes_nothing(
    store: Store, shelf: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tidy study is left as it is, and so is one that has no artifacts."""
    made = make(store)
    retention.forget(shelf, made, made.optuna())
    assert not shelf.root.exists()
    fill(made, shelf)
    retention.forget(shelf, made, made.optuna())
    monkeypatch.setattr(Folder, "remove", lambda *_: pytest.fail("something was removed"))
    retention.forget(shelf, made, made.optuna())


def test_several_tidy_at_once(store: Store, shelf: Folder, storage_url: str) -> None:
    """Four workers that tidy the same study get in nobody's way, and one rule holds."""
    made = make(store)
    fill(made, shelf)
    for number in range(40):
        add(made, shelf, TrialState.COMPLETE, number / 1000)
    start = threading.Barrier(4)

    def tidy(_: int) -> None:
        with open_store(storage_url) as own:
            mine = study.open_study(own, "digits")
            start.wait(timeout=60)
            retention.forget(Folder(shelf.root), mine, mine.optuna())

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(tidy, range(4)))
    assert kept(made, shelf) == BEST_TWO


def test_a_folder_is_claimed_once(store: Store, shelf: Folder) -> None:
    """The first worker writes whose it is, the next find it; another database is refused."""
    made = make(store)
    retention.claim_folder(shelf, made, "one")
    before = (shelf.root / study.artifact_folder(made) / "owner.json").stat()
    retention.claim_folder(shelf, made, "one")
    assert (shelf.root / study.artifact_folder(made) / "owner.json").stat() == before
    with pytest.raises(StorageError, match="another database"):
        retention.claim_folder(shelf, made, "two")
    assert retention.owner(shelf, f"{study.artifact_folder(made)}/") == "one"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_an_unreadable_owner_is_none(store: Store, shelf: Folder, content: bytes) -> None:
    """A claim that says nothing is no claim: gc leaves such a folder, and a worker claims it."""
    made = make(store)
    put(made, shelf, 0, 1)
    shelf.write(f"{study.artifact_folder(made)}/owner.json", content)
    assert [found.kind for found in gc.find(store, shelf)] == ["foreign"]
    retention.claim_folder(shelf, made, installation_id(store.engine))
    assert gc.find(store, shelf) == []


def test_an_empty_place(store: Store, shelf: Folder) -> None:
    """Where nothing lies nothing is found, and nothing is made."""
    assert gc.find(store, shelf) == []
    assert gc.free(shelf, []) == 0
    assert not shelf.root.exists()


def test_what_the_rule_does_not_keep_is_found_and_freed(store: Store, shelf: Folder) -> None:
    """Each checkpoint with its bytes and its reason; looking deletes nothing."""
    made = make(store)
    fill(made, shelf)
    found = gc.find(store, shelf)
    assert {item.kind for item in found} == {"checkpoint"}
    assert len(found) == 6  # two trials' both, and the older one of the two that are kept
    reasons = [item.why for item in found if "trial-00003" in item.name]
    assert reasons == ["trial 3 has ended and is not kept (best-2)"] * 2
    assert all(len(epochs) == 2 for epochs in kept(made, shelf).values())
    assert gc.free(shelf, found) == 6 * BYTES
    assert kept(made, shelf) == BEST_TWO
    assert gc.find(store, shelf) == []


def test_a_deleted_study_s_artifacts(store: Store, shelf: Folder) -> None:
    """All that a deleted study left goes, also its owner's note; its namesake's stay."""
    made = make(store)
    fill(made, shelf)
    before = shelf.names("")
    study.delete(made, force=True)
    again = make(store)
    retention.claim_folder(shelf, again, installation_id(store.engine))
    put(again, shelf, 0, 1)
    (found,) = gc.find(store, shelf)
    assert (found.kind, found.name) == ("study", f"{study.artifact_folder(made)}/")
    assert found.bytes == sum(shelf.size(name) for name in before)
    assert gc.free(shelf, [found]) == found.bytes
    assert {name.partition("/")[0] for name in shelf.names("")} == {study.artifact_folder(again)}


def test_other_databases_artifacts_are_left(store: Store, shelf: Folder) -> None:
    """Folders of another database, or of nobody, are told and never freed, whatever is in them."""
    made = make(store)
    fill(made, shelf)
    foreign = make(store, "foreign")
    put(foreign, shelf, 0, 1)
    retention.claim_folder(shelf, foreign, "another")
    shelf.write("photos/cat.jpg", b"miaow")
    shelf.write("notes.txt", b"mine")
    study.delete(foreign)
    left = [item for item in gc.find(store, shelf) if item.kind == "foreign"]
    homes = [f"{study.artifact_folder(foreign)}/", "notes.txt", "photos/"]
    assert [item.name for item in left] == homes
    assert [item.bytes for item in left][1:] == [4, 5]
    before = shelf.names("")
    assert gc.free(shelf, left) == 0
    assert shelf.names("") == before


def test_a_database_that_is_another(store: Store, shelf: Folder) -> None:
    """To a database with another id, all of it is foreign."""
    made = make(store)
    fill(made, shelf)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE tunesvc.installation SET id = gen_random_uuid()"))
    assert [item.kind for item in gc.find(store, shelf)] == ["foreign"]


def test_drafts_of_killed_writers(store: Store, shelf: Folder) -> None:
    """An old draft goes, one under way stays; so does another database's."""
    made = make(store)
    retention.claim_folder(shelf, made, installation_id(store.engine))
    hour_ago = (time.time() - gc.OLD_SECONDS - 60,) * 2
    for home in (study.artifact_folder(made), "foreign"):
        left = shelf.root / home / "trial-00000" / ".x.1234.draft"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half")
        os.utime(left, hour_ago)
    with whole(shelf.root / retention.folder(made, 0) / "y") as file:
        file.write(b"whole")
        (found,) = gc.find(store, shelf)
        assert (found.kind, found.bytes) == ("draft", 4)
        assert gc.free(shelf, [found]) == 4
    assert gc.find(store, shelf) == []
    assert shelf.read(f"{retention.folder(made, 0)}/y") == b"whole"
    assert (shelf.root / "foreign" / "trial-00000" / ".x.1234.draft").exists()


def test_a_study_of_another_version_is_left(store: Store, shelf: Folder) -> None:
    """A study file that this version cannot read has a rule it does not know."""
    made = make(store)
    fill(made, shelf)
    store.optuna.set_study_user_attr(made.id, "tunesvc:spec", {"name": "digits", "new": 1})
    assert gc.find(store, shelf) == []


def test_trials_begun_by_nobody_s_study_are_unknown(store: Store, shelf: Folder) -> None:
    """Checkpoints of numbers that the study does not have, as after a restored backup, stay."""
    made = make(store)
    fill(made, shelf)
    retention.forget(shelf, made, made.optuna())
    name = put(made, shelf, 77, 1)
    retention.forget(shelf, made, made.optuna())
    assert gc.find(store, shelf) == []
    assert name in shelf.names("")
