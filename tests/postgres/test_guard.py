"""The dashboard's login and guard: real HTTP, a real database, real leases."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from optuna_dashboard import wsgi
from served import Answer, Client, served
from sqlalchemy import text
from stored_trials import stored_study

from tunesvc import study as studies
from tunesvc.confirm import SUFFIX
from tunesvc.dashboard import changes, users
from tunesvc.leases import Lease, Leases, Terms
from tunesvc.storage import Store, open_store
from tunesvc.study import Study

PASSWORD = "four words of mine"
OTHER = "six other words of hers"


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A users file's text: the editor ada, the reader bob."""
    path = tmp_path_factory.mktemp("access") / "users.yaml"
    users.add(path, "ada", PASSWORD, "editor")
    users.add(path, "bob", OTHER)
    return path.read_text()


@pytest.fixture
def file(kept: str, tmp_path: Path) -> Path:
    """A users file with ada and bob."""
    path = tmp_path / "users.yaml"
    path.write_text(kept)
    path.chmod(0o600)
    return path


@pytest.fixture
def store(storage_url: str) -> Iterator[Store]:
    """A store for a server's threads."""
    with open_store(storage_url, connections=9) as opened:
        yield opened


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Study:
    """A study of 3 finished trials."""
    return stored_study(store, tmp_path, trials=3)


@pytest.fixture
def client(store: Store, file: Path) -> Iterator[Client]:
    """Somebody who is not logged in."""
    with served(store, file) as port:
        yield Client(port)


@pytest.fixture
def ada(client: Client) -> Client:
    """The editor, logged in."""
    return entered(client, "ada", PASSWORD)


@pytest.fixture
def bob(client: Client) -> Client:
    """The reader, logged in."""
    return entered(client, "bob", OTHER)


@pytest.fixture
def lease(made: Study) -> Iterator[Lease]:
    """A trial of the study that a worker runs."""
    with closing(Leases(made.store.engine)) as worker:
        held = worker.claim(made.id, Terms(trials=9))
        assert isinstance(held, Lease)
        yield held


def entered(client: Client, name: str, password: str) -> Client:
    """Log somebody in."""
    assert client.login(name, password).status == 303
    assert client.cookie
    return client


def reason(answer: Answer) -> str:
    """Return why a program's request was refused."""
    return str(json.loads(answer.text)["reason"])


def names(store: Store) -> list[str]:
    """Return the names of all studies, Optuna's own too."""
    return [each.study_name for each in store.optuna.get_all_studies()]


def count(store: Store, question: str) -> int:
    """Return what a statement counts."""
    with store.engine.connect() as connection:
        return int(connection.execute(text(question)).scalar_one())


# ---- in and out


def test_everything_needs_a_login(client: Client, made: Study) -> None:
    """A person is led to the form and on from there; a program is told 401."""
    for path in (
        "/",
        "/dashboard",
        "/report",
        f"/report/{made.name}",
        "/status",
        "/static/bundle.js",
    ):
        answer = client.get(path)
        assert answer.status == 303, path
        assert answer.headers["location"].startswith("/login?next=")
        assert made.name not in answer.text
    for path in ("/api/studies", "/metrics", "/csv/1", "/api/meta", "/favicon.ico", "/none"):
        answer = client.ask("GET", path)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert made.name not in answer.text
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
        assert client.change(method, f"/api/studies/{made.id}").status == 401
    assert names(made.store) == [made.name]


def test_what_is_open(client: Client) -> None:
    """That the process and its database answer, and nothing of what is in it."""
    assert client.ask("GET", "/healthz").status == 200
    ready = client.ask("GET", "/readyz")
    assert (ready.status, ready.text.strip()) == (200, "ready")
    assert client.ask("GET", "/tunesvc/bar.css").headers["content-type"].startswith("text/css")
    assert client.change("POST", "/healthz").status == 401
    for path in ("/healthz/", "/healthz/../api/studies", "//api/studies", "/HEALTHZ"):
        assert client.ask("GET", path).status == 401, path


def test_login_and_logout(client: Client, made: Study) -> None:
    """The form leads to what was asked for; after logging out the cookie is worth nothing."""
    led = client.get(f"/report/{made.name}?a=b")
    form = client.get(led.headers["location"])
    assert form.status == 200
    assert f'value="/report/{made.name}?a=b"' in form.text
    entered = client.login("ada", PASSWORD, f"/report/{made.name}?a=b")
    assert (entered.status, entered.headers["location"]) == (303, f"/report/{made.name}?a=b")
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"tunesvc-{0}=")
    assert "; Path=/; HttpOnly; SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert client.get(f"/report/{made.name}").status == 200
    assert client.get("/login?next=/status").headers["location"] == "/status"
    stolen = client.cookie
    assert client.change("POST", "/logout").headers["location"] == "/login"
    assert client.cookie == ""
    client.cookie = stolen
    assert client.ask("GET", "/api/studies").status == 401


def test_login_refused(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """One sentence, whoever it is; the log has neither the password nor a stranger's words."""
    caplog.set_level(logging.INFO, "tunesvc.dashboard")
    attempts = [("ada", OTHER), ("nobody", PASSWORD), ("ada", ""), ("", ""), ("a\nb<i>", "x")]
    for name, password in attempts:
        answer = client.login(name, password)
        assert answer.status == 401
        assert "The name or the password is wrong." in answer.text
        assert "set-cookie" not in answer.headers
        assert "<i>" not in answer.text
    entered(client, "ada", PASSWORD)
    told = caplog.text
    assert "login from 127.0.0.1 refused: ada" in told
    assert "login from 127.0.0.1 refused: unknown name" in told
    assert "ada logged in from 127.0.0.1" in told
    for secret in (PASSWORD, OTHER, "nobody", "a\nb", client.cookie.partition("=")[2]):
        assert secret not in told


def test_guessing_is_slowed_down(client: Client) -> None:
    """The right password too has to wait then; another user has not."""
    answers = [client.login("ada", "wrong").status for _ in range(7)]
    assert answers[:5] == [401] * 5
    assert 429 in answers[5:]
    client.login("ada", "wrong")
    refused = client.login("ada", PASSWORD)
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "Try again in" in refused.text
    entered(client, "bob", OTHER)


def test_other_programs_cookies_do_no_harm(ada: Client) -> None:
    """All programs of a machine share them, whatever their port."""
    ada.cookie = f'theme={{"dark": true}}; {ada.cookie}; tunesvc-1=x'
    assert ada.ask("GET", "/api/studies").status == 200


@pytest.mark.parametrize(
    ("body", "kind"), [("x=" + "1" * 9000, "form"), ("\xff\xfe", "form"), ("{}", "json"), ("", "")]
)
def test_what_is_no_form(client: Client, body: str, kind: str) -> None:
    """It lets nobody in, and breaks nothing."""
    assert client.change("POST", "/login", body).status == 401


def test_a_request_that_is_too_long(ada: Client, made: Study) -> None:
    """It is refused before anything reads it."""
    told = {"Content-Length": "2000000"}
    assert ada.change("PUT", f"/api/studies/{made.id}/note", **told).status == 413


def test_a_changed_user_is_logged_out(ada: Client, file: Path) -> None:
    """With another role, another password, or none any more."""
    users.add(file, "ada", PASSWORD, "reader")
    assert ada.ask("GET", "/api/studies").status == 401
    entered(ada, "ada", PASSWORD)
    assert ada.ask("GET", "/api/studies").status == 200
    users.remove(file, "ada")
    assert ada.ask("GET", "/api/studies").status == 401
    assert ada.login("ada", PASSWORD).status == 401


def test_a_broken_users_file_lets_nobody_in(ada: Client, file: Path) -> None:
    """And says so without its path; mended, who was logged in still is."""
    whole = file.read_text()
    file.write_text("ada: [")
    for answer in (ada.ask("GET", "/api/studies"), ada.login("ada", PASSWORD)):
        assert answer.status == 503
        assert str(file) not in answer.text
    assert ada.ask("GET", "/healthz").status == 200
    file.write_text(whole)
    assert ada.ask("GET", "/api/studies").status == 200


def test_an_old_hash_is_replaced_at_login(client: Client, file: Path) -> None:
    """Who logged in with it stays logged in."""
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    file.write_text(json.dumps({"ada": {"role": "editor", "password": weak}}))
    entered(client, "ada", PASSWORD)
    assert weak not in file.read_text()
    assert client.ask("GET", "/api/studies").status == 200


# ---- tokens


def test_a_token_in_place_of_a_login(client: Client, file: Path, made: Study) -> None:
    """It needs no cookie and no origin, and has a role; another's is refused whoever sends it."""
    reader, editor = users.new_token(file, "prometheus"), users.new_token(file, "bot", "editor")
    for token in (reader, editor):
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.ask("GET", "/api/studies", bearer).status == 200
        assert "tunesvc_" in client.ask("GET", "/metrics", bearer).text
    note = f"/api/studies/{made.id}/note", json.dumps({"version": 1, "body": "read"})
    json_kind = {"Content-Type": "application/json"}
    by_reader = client.ask(
        "PUT", note[0], json_kind | {"Authorization": f"Bearer {reader}"}, note[1]
    )
    assert (by_reader.status, reason(by_reader)) == (
        403,
        "prometheus is a reader, and may change nothing.",
    )
    by_editor = client.ask(
        "PUT", note[0], json_kind | {"Authorization": f"bearer {editor}"}, note[1]
    )
    assert by_editor.status == 204
    wrong = client.ask("GET", "/api/studies", {"Authorization": f"Bearer {reader[:-1]}"})
    assert wrong.status == 401
    users.remove(file, "bot")
    assert client.ask("GET", "/api/studies", {"Authorization": f"Bearer {editor}"}).status == 401


def test_a_wrong_token_is_no_cover_for_a_session(ada: Client) -> None:
    """Nor are other words in its place a way around the look at the origin."""
    assert ada.ask("GET", "/api/studies", {"Authorization": "Bearer x"}).status == 401
    basic = {"Authorization": "Basic eDp4", "Origin": "http://evil.org"}
    assert ada.ask("POST", "/api/studies", basic, "{}").status == 403


# ---- from other sites


@pytest.mark.parametrize(
    "told",
    [
        {"Origin": "http://evil.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
)
def test_another_site_changes_nothing(ada: Client, made: Study, told: dict[str, str]) -> None:
    """With the cookie of somebody who may; the same from our own page passes."""
    path, asked = f"/api/studies/{made.id}", {"Content-Type": "application/json"} | told
    refused = ada.ask("DELETE", path, asked, "{}")
    assert refused.status == 403
    assert "another site" in reason(refused)
    assert names(made.store) == [made.name]
    assert ada.ask("POST", "/logout", asked).status == 403
    if told:
        assert Client(ada.port).login("ada", PASSWORD, **told).status == 403
    assert ada.ask("DELETE", path, {"Sec-Fetch-Site": "same-origin"}, "{}").status == 204
    assert names(made.store) == []


def test_a_strangers_name_for_this_machine(store: Store, made: Study) -> None:
    """Without a login, a page whose name was made to lead here reads nothing (DNS rebinding)."""
    with served(store, None) as port:
        client = Client(port)
        assert client.ask("GET", "/api/studies").status == 200
        for path in ("/api/studies", "/dashboard", "/report/made", "/metrics"):
            answer = client.ask("GET", path, {"Host": f"evil.org:{port}"})
            assert answer.status == 403
            assert made.name not in answer.text
        assert client.ask("GET", "/api/studies", {"Host": f"localhost:{port}"}).status == 200
        foreign = client.change("DELETE", f"/api/studies/{made.id}", Origin="http://evil.org")
        assert foreign.status == 403
        assert client.get("/login").headers["location"] == "/dashboard"
        assert client.change("DELETE", f"/api/studies/{made.id}").status == 204
    assert names(store) == []


# ---- what a reader may


def test_a_reader_looks(bob: Client, made: Study) -> None:
    """Every page and everything that optuna-dashboard asks for, and HEAD."""
    for path in (
        *("/dashboard", f"/dashboard/studies/{made.id}", "/report", f"/report/{made.name}"),
        *("/status", "/metrics", "/api/meta", "/api/studies", f"/api/studies/{made.id}"),
        *(f"/api/studies/{made.id}/param_importances", f"/csv/{made.id}", "/static/bundle.js"),
        *(f"/api/studies/{made.id}/plot/{kind}" for kind in ("contour", "edf", "timeline")),
    ):
        assert bob.ask("GET", path, {"Accept-Encoding": "identity"}).status == 200, path
    head = bob.ask("HEAD", f"/report/{made.name}")
    assert (head.status, head.text) == (200, "")
    assert int(bob.ask("HEAD", "/dashboard").headers["content-length"]) > 1000


def test_a_reader_changes_nothing(
    bob: Client, made: Study, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever optuna-dashboard offers that is no GET; the log says who tried."""
    routes = [each for each in wsgi(made.store.plain()).routes if each.method != "GET"]
    assert len(routes) > 10
    for route in routes:
        path = route.rule.replace("<study_id:int>", str(made.id)).replace("<trial_id:int>", "1")
        answer = bob.change(route.method, path)
        assert answer.status == 403, path
        assert reason(answer) == "bob is a reader, and may change nothing."
    assert names(made.store) == [made.name]
    assert f"bob, a reader, may not DELETE '/api/studies/{made.id}'" in caplog.text


# ---- what an editor may


def test_an_editor_writes_notes_and_makes_studies(ada: Client, made: Study) -> None:
    """What harms no worker."""
    note = json.dumps({"version": 1, "body": "seen"})
    assert ada.change("PUT", f"/api/studies/{made.id}/note", note).status == 204
    wanted = json.dumps({"study_name": "own", "directions": ["minimize"]})
    assert ada.change("POST", "/api/studies", wanted).status == 201
    own = optuna.load_study(study_name="own", storage=made.store.optuna)
    renamed = ada.change("POST", f"/api/studies/{own._study_id}/rename", '{"study_name": "mine"}')
    assert renamed.status == 201
    assert names(made.store) == [made.name, "mine"]


def test_a_study_is_not_deleted_under_its_workers(
    ada: Client, made: Study, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    """One sentence says what to do; without them it is deleted with all our rows."""
    refused = ada.change("DELETE", f"/api/studies/{made.id}")
    assert refused.status == 409
    assert reason(refused) == (
        "Study made is being worked on: 1 of its trials are running. "
        "Stop its workers first (tunesvc stop made)."
    )
    assert "ada may not change made: Study made is being worked on" in caplog.text
    assert names(made.store) == ["made"]
    with made.store.engine.begin() as connection:
        connection.execute(text("UPDATE tunesvc.lease SET expires_at = NULL"))
    assert ada.change("DELETE", f"/api/studies/{made.id}/").status == 204
    for table in ("studies", "trials", "tunesvc.study", "tunesvc.lease"):
        assert count(made.store, f"SELECT count(*) FROM {table}") == 0
    assert ada.change("DELETE", f"/api/studies/{made.id}").status == 404


def test_a_study_with_a_companion_is_not_deleted_by_half(ada: Client, made: Study) -> None:
    """`tunesvc delete` deletes both."""
    spec = made.spec.model_dump(mode="json") | {
        "name": made.name + SUFFIX,
        "pruner": {"kind": "none"},
        "sampler": {
            "kind": "given",
            "of": studies.artifact_folder(made),
            "configurations": {"best": {"params": {"backbone": "tiny_resnet"}}},
            "runs": [{"configuration": "best", "seed": 1}],
        },
        "budget": {"trials": 1, "epochs": 1},
    }
    studies.create(made.store, type(made.spec).model_validate(spec), base=made.base)
    refused = ada.change("DELETE", f"/api/studies/{made.id}")
    assert refused.status == 409
    assert "tunesvc delete made" in reason(refused)
    assert len(names(made.store)) == 2


def test_a_study_of_ours_keeps_its_name(ada: Client, made: Study) -> None:
    """Workers, checkpoints and reports go by it."""
    refused = ada.change("POST", f"/api/studies/{made.id}/rename", '{"study_name": "other"}')
    assert refused.status == 409
    assert "tunesvc new-study FILE --name" in reason(refused)
    assert names(made.store) == ["made"]


def test_a_trial_of_ours_is_told_by_its_worker(ada: Client, made: Study, lease: Lease) -> None:
    """Neither a value nor an attribute comes from elsewhere."""
    for what, body in (
        ("tell", {"state": "Complete", "values": [-999]}),
        ("user-attrs", {"user_attrs": {"history": []}}),
    ):
        refused = ada.change("POST", f"/api/trials/{lease.trial_id}/{what}", json.dumps(body))
        assert refused.status == 409
        assert reason(refused).startswith("Trial 3 of made is told by the worker that runs it")
    trial = made.store.optuna.get_trial(lease.trial_id)
    assert trial.state is TrialState.RUNNING
    assert not trial.user_attrs


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/llm/trial_filter_query"),
        ("POST", "/incompatible-rdb-schema"),
        ("POST", "/api/artifacts/1"),
        ("DELETE", "/api/studies/{0}%FF"),
        ("DELETE", "/api/studies/-1"),
        ("DELETE", "/api/studies/{0}%0A"),
        ("DELETE", "/api/studies/%D9%A1"),
        ("PATCH", "/api/studies/{0}"),
        ("POST", "/report/made"),
    ],
)
def test_nothing_else_is_changed(ada: Client, made: Study, method: str, path: str) -> None:
    """What nobody has thought about is not offered, however its path is written."""
    assert ada.change(method, path.format(made.id)).status == 404
    assert names(made.store) == [made.name]


def test_every_change_of_optuna_dashboard_was_thought_about(store: Store) -> None:
    """A new version's new one makes this fail; it is refused until then."""
    known = {
        (each.method, each.rule) for each in wsgi(store.plain()).routes if each.method != "GET"
    }
    off = {
        rule for _, rule in known if rule.startswith(("/api/llm/", "/api/artifacts/", "/incomp"))
    }
    ours = {
        changes.HARMLESS: set(),
        changes.DELETION: set(),
        changes.RENAMING: set(),
        changes.TELLING: set(),
    }
    unknown = set()
    for method, rule in sorted(known):
        path = (
            rule.replace("<study_id:int>", "1")
            .replace("<trial_id:int>", "2")
            .replace("<history_id>", "0a-f")
        )
        found = [pattern for pattern in ours if pattern.fullmatch(f"{method} {path}")]
        for pattern in found:
            ours[pattern].add(rule)
        if not found and rule not in off:
            unknown.add((method, rule))
    assert unknown == set()
    assert [len(ours[each]) for each in (changes.DELETION, changes.RENAMING, changes.TELLING)] == [
        1,
        1,
        2,
    ]


# ---- what browsers are told


def test_headers_are_on_every_answer(client: Client, made: Study) -> None:
    """On pages, data, refusals and mistakes; nothing with data is kept."""
    paths = ["/login", "/healthz", "/api/studies", "/none"]
    answers = [client.get(path) for path in paths]
    entered(client, "ada", PASSWORD)
    inside = ["/dashboard", "/report", f"/report/{made.name}", "/status", "/api/studies", "/none"]
    answers += [client.get(path) for path in inside]
    answers.append(client.change("DELETE", "/api/studies/999"))
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in answer.headers
        assert answer.headers["server"] == "tunesvc"
    assert client.get("/static/bundle.js").headers["cache-control"] == "private, no-cache"


def test_under_tls_the_cookie_is_secure(store: Store, file: Path) -> None:
    """Where the proxy says so, or the option; a stranger's word is not taken."""
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    for where, is_tls in (
        ({"proxy": "127.0.0.1"}, True),
        ({"proxy": "192.0.2.1"}, False),
        ({}, False),
        ({"is_tls": True}, True),
    ):
        with served(store, file, **where) as port:
            client = Client(port)
            answer = client.login("ada", PASSWORD, **told)
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-tunesvc-") is is_tls
            assert ("; Secure" in cookie) is is_tls
            assert ("strict-transport-security" in answer.headers) is is_tls
            assert client.ask("GET", "/api/studies", told).status == 200


def test_a_mistake_of_ours_shows_nothing(
    ada: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The browser is told one sentence, the log the rest."""

    def broken(*_: object) -> None:
        raise RuntimeError("s3cret of ours")

    monkeypatch.setattr(changes, "refused", broken)
    answer = ada.change("DELETE", "/api/studies/1")
    assert answer.status == 500
    assert reason(answer) == "Something went wrong here. The dashboard's log says what."
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "s3cret" not in answer.text
    assert "Traceback" not in answer.text
    assert "s3cret of ours" in caplog.text


def test_our_bar_is_on_optunas_page(ada: Client) -> None:
    """Who is logged in, and the way out; the page is one's own, whatever the browser has kept."""
    page = ada.get("/dashboard", **{"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})
    assert page.status == 200
    assert "last-modified" not in page.headers
    assert page.text.count('class="tunesvc-bar') == 1
    assert "ada <small>(editor)</small>" in page.text
    assert 'action="/logout"' in page.text
    assert ada.get("/").headers["location"] == "/dashboard"
