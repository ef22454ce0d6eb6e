"""A report's summary in optuna-dashboard: its note and its plots."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import create_trial
from optuna_dashboard import get_note, save_note
from optuna_dashboard.artifact._backend import list_study_artifacts
from PIL import Image
from sqlalchemy import text
from stored_trials import SPEC, add_trials, stored_study

from tunesvc import confirm
from tunesvc import study as studies
from tunesvc.dashboard.pages import Pages
from tunesvc.errors import TuneError
from tunesvc.report import Summaries, pictures, posting
from tunesvc.report.kept import told
from tunesvc.report.posting import FIRST, LAST, post
from tunesvc.spec import StudySpec
from tunesvc.spec.study_spec import Budget
from tunesvc.storage import Store, open_store
from tunesvc.worker import serve


def note(made: studies.Study) -> str:
    return get_note(made.optuna(made.store.plain()))


def get(pages: Pages, path: str) -> tuple[str, str]:
    """Return status and text of a page."""
    status, body = load(pages, path)
    return status, body.decode()


def load(pages: Pages, path: str) -> tuple[str, bytes]:
    """Return status and body of whatever is there."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path
    said: list[str] = []
    body = b"".join(pages(environ, lambda status, *_: said.append(status)))
    return said[0], body


def artifacts(made: studies.Study) -> dict[str, str]:
    """Return the paths of the study's pictures, by name, as optuna-dashboard lists them."""
    found = list_study_artifacts(made.store.plain().get_study_system_attrs(made.id))
    return {each["filename"]: f"/artifacts/{made.id}/{each['artifact_id']}" for each in found}


def test_pictures_are_artifacts(store: Store, tmp_path: Path) -> None:
    """Every picture of the report, drawn when it is asked for; none for whom there is none."""
    made = stored_study(store, tmp_path)
    assert post(made)
    found, pages = artifacts(made), Pages(store)
    drawn = {f"{each.key}.png" for each in told(made).sections if each.figure}
    assert set(found) == drawn >= {"importance.png", "strategies.png", "curves.png"}
    for path in found.values():
        status, body = load(pages, path)
        assert status.startswith("200")
        width, height = Image.open(io.BytesIO(body)).size
        assert 800 < width < 1400
        assert 100 < height < 1400
    (known, *_) = (path.rpartition("/")[2] for path in found.values())
    for wrong in (f"{made.id}/00000000", f"{made.id}/-", f"{made.id}/{made.id}/{known}",
                  f"999/{known}", f"{2**31}/{known}", f"x/{known}", ""):  # fmt: skip
        assert load(pages, f"/artifacts/{wrong}")[0].startswith("404"), wrong


def test_another_study_of_the_same_name_has_other_pictures(
    store: Store, storage_url: str, tmp_path: Path
) -> None:
    """Also where a server knows the name of the one that somebody else deleted."""
    made, pages = stored_study(store, tmp_path), Pages(store)
    assert post(made)
    path = next(iter(artifacts(made).values()))
    assert load(pages, path)[0].startswith("200")
    with open_store(storage_url) as elsewhere:
        elsewhere.plain().delete_study(made.id)
        again = stored_study(elsewhere, tmp_path)
    assert again.id != made.id
    assert load(pages, path)[0].startswith("404")


def test_no_other_site_may_read_a_picture(store: Store, tmp_path: Path) -> None:
    """Optuna-dashboard's own answer would let all of them."""
    made = stored_study(store, tmp_path)
    assert post(made)
    for path in (*list(artifacts(made).values())[:1], f"/artifacts/{made.id}/00000000"):
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ["PATH_INFO"] = path
        said: list[tuple[str, str]] = []
        assert list(Pages(store)(environ, lambda _, headers: said.extend(headers)))  # noqa: B023
        assert not [name for name, _ in said if name.lower().startswith("access-control")]


def test_a_picture_that_cannot_be_drawn_is_our_fault(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not told as one that is not there: the server's log and a 500 tell."""
    made = stored_study(store, tmp_path)
    assert post(made)

    def broken(*_: str) -> bytes:
        raise ValueError("nobody draws this")

    monkeypatch.setattr(pictures, "_drawn", broken)
    with pytest.raises(ValueError, match="nobody draws this"):
        load(Pages(store), next(iter(artifacts(made).values())))


@pytest.mark.parametrize(
    "error", [StorageInternalError("away"), TuneError("no report of this", "why", "how")]
)
def test_a_picture_that_cannot_be_had_now_is_told_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """As a report is that cannot be made: come again."""
    made = stored_study(store, tmp_path)
    assert post(made)

    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("tunesvc.dashboard.pictures.told", failing)
    assert load(Pages(store), next(iter(artifacts(made).values())))[0].startswith("503")


def test_what_was_posted_in_an_older_form_is_posted_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that was finished before there were pictures gets them."""
    made = stored_study(store, tmp_path)
    with monkeypatch.context() as older:
        older.setattr(posting, "FORM", posting.FORM - 1)
        older.setattr(pictures, "note", lambda *_: None)
        assert post(made)
    assert not artifacts(made)
    assert post(made)
    assert artifacts(made)
    assert not post(made)


def test_pictures_that_are_no_longer_drawn_are_not_listed(store: Store, tmp_path: Path) -> None:
    """And those of others stay."""
    made = stored_study(store, tmp_path)
    assert post(made)
    before = artifacts(made)
    others = json.dumps({"artifact_id": "abc", "filename": "mine.png", "mimetype": "image/png"})
    store.optuna.set_study_system_attr(made.id, "artifacts:abc", others)
    report = told(made)
    fewer = replace(report, sections=tuple(e for e in report.sections if e.key != "curves"))
    pictures.note(made, fewer)
    assert set(artifacts(made)) == set(before) - {"curves.png"} | {"mine.png"}


def test_summary_is_posted_once(store: Store, tmp_path: Path) -> None:
    """Words and plots; again only when trials have ended since."""
    made = stored_study(store, tmp_path)
    assert post(made)
    first = note(made)
    assert first.startswith(FIRST)
    assert "tiny_resnet" in first
    plots = [
        key
        for key in made.store.plain().get_study_system_attrs(made.id)
        if key.startswith("dashboard:plot_data:")
    ]
    assert {key.split(":")[2] for key in plots} >= {"tunesvc-importance", "tunesvc-strategies"}
    assert not post(made)
    add_trials(made, 5)
    assert post(made)
    assert "65 trials" in note(made)
    assert note(made) != first


def test_words_of_people_stay(store: Store, tmp_path: Path) -> None:
    """What somebody wrote above and below is kept, also when the summary is replaced."""
    made = stored_study(store, tmp_path, trials=25)
    save_note(made.optuna(), "Talk to Ada before deleting.")
    assert post(made)
    save_note(made.optuna(), note(made) + "\nBelow.")
    add_trials(made, 1)
    assert post(made)
    told = note(made)
    assert told.startswith("Talk to Ada before deleting.\n")
    assert told.endswith("\nBelow.")
    assert (told.count(FIRST), told.count(LAST)) == (1, 1)


def test_one_of_many_posts(
    store: Store,
    storage_url: str,
    tmp_path: Path,
    at_once: Callable[[Callable[[Any], Any], list[Any]], list[Any]],
) -> None:
    """Of four processes at the same moment, one posts."""
    stored_study(store, tmp_path, trials=25)
    assert sorted(at_once(_post, [storage_url] * 4)) == [False, False, False, True]


def test_words_stay_where_a_line_of_ours_is_gone(store: Store, tmp_path: Path) -> None:
    """Somebody deleted the line below our part: nobody knows where it ended, so all of it stays."""
    made = stored_study(store, tmp_path, trials=25)
    save_note(made.optuna(), f"Above.\n\n{FIRST}\n\nold words\n\nBelow.")
    assert post(made)
    told = note(made)
    assert all(words in told for words in ("Above.", "old words", "Below."))
    assert (told.count(FIRST), told.count(LAST)) == (1, 1)
    assert told.index("Below.") < told.index(FIRST)


def _post(url: str) -> bool:
    with open_store(url) as store:
        return post(studies.open_study(store, "made"))


def test_another_posts_for_one_that_died(store: Store, tmp_path: Path) -> None:
    """A claim that was never followed by words is free after a minute, and not before."""
    made = stored_study(store, tmp_path, trials=25)
    assert post(made)
    claim = text(
        "UPDATE study_system_attributes SET value_json = jsonb_set(jsonb_set(value_json::jsonb, "
        "'{done}', 'false'), '{at}', to_jsonb(extract(epoch FROM clock_timestamp()) - :ago))::text "
        "WHERE key = 'tunesvc:posted'"
    )
    for ago, is_free in ((1, False), (61, True)):
        with store.engine.begin() as connection:
            connection.execute(claim, {"ago": ago})
        assert post(made) is is_free


def test_nothing_is_posted_before_a_trial_has_ended(store: Store, tmp_path: Path) -> None:
    """An empty study keeps an empty note."""
    made = stored_study(store, tmp_path, trials=0)
    assert not post(made)
    assert note(made) == ""


def test_reports_beside_the_dashboard(store: Store, tmp_path: Path) -> None:
    """One address: optuna-dashboard, a list of reports, each report, and words otherwise."""
    name = "résumé+v1.0"
    made = stored_study(store, tmp_path, name=name, trials=25)
    pages = Pages(store)
    assert get(pages, "/api/studies")[0].startswith("200")
    status, listed = get(pages, "/report")
    assert status == "200 OK"
    assert f'href="/report/{quote(name)}"' in listed
    # A server hands the path over as latin-1, whatever it is (PEP 3333).
    status, told = get(pages, f"/report/{name}".encode().decode("latin-1"))
    assert status == "200 OK"
    assert name in told
    assert get(pages, "/report/<b>none")[0] == "404 Not Found"
    assert "<b>none" not in get(pages, "/report/<b>none")[1]
    assert (
        json.loads(get(pages, "/api/studies")[1])["study_summaries"][0]["study_name"] == made.name
    )


def test_workers_post_what_they_brought_to_its_end(store: Store, tmp_path: Path) -> None:
    """Without a dashboard: the note is there when the worker leaves, and tells what confirmed it;
    the companion has none of its own."""
    spec = SPEC | {"name": "made", "budget": {"trials": 2, "epochs": 1}, "league": False}
    spec |= {"confirm": {"top": 1, "seeds": 2, "ablation": False}}
    made = studies.create(store, StudySpec.model_validate(spec), base=tmp_path)
    serve(store.url, [], device="cpu", until_done=True)
    assert "tunesvc report" in note(made)
    assert "Confirmed with 2 new seeds" in note(made)
    assert note(studies.open_study(store, "made.confirm")) == ""


def test_a_summary_that_cannot_be_posted_is_logged(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong: the worker that posts goes on, and tries again when it looks next."""
    made = stored_study(store, tmp_path, trials=25)
    budget = made.spec.model_copy(update={"budget": Budget(trials=25, epochs=3)})
    made = studies.create(store, budget, base=tmp_path)

    def broken(study: studies.Study) -> bool:
        raise RuntimeError("no pictures here")

    summaries = Summaries()
    with monkeypatch.context() as patch:
        patch.setattr("tunesvc.report.posting.post", broken)
        summaries.post([made])
        summaries.wait()
    assert [each.message for each in caplog.records] == ["no summary of made: no pictures here"]
    assert note(made) == ""
    summaries.post([made])
    summaries.wait()
    assert "tunesvc report" in note(made)


def test_a_confirmation_is_posted(store: Store, tmp_path: Path) -> None:
    """Runs that confirm a study change what is said of it."""
    made = stored_study(store, tmp_path, trials=25)
    assert post(made)
    held = confirm.advance(made, confirm.Wish(top=1, seeds=1)).companion
    assert not post(made)
    held.optuna().add_trial(create_trial(value=0.9))
    assert post(made)
