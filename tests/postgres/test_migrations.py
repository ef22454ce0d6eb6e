"""Our schema beside Optuna's: made once, moved forward, gone with its study."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import optuna
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from tunesvc.errors import StorageError
from tunesvc.leases import Fenced, Lease, Leases, Terms
from tunesvc.storage import Store, installation_id, migrations, open_store

AtOnce = Callable[[Callable[..., Any], list[Any]], list[Any]]

TABLES = {"installation", "study", "worker", "lease", "micro_batch", "spent", "alembic_version"}


def sql(engine: Engine, statements: str, **values: object) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        result = connection.execute(text(statements), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def tables(engine: Engine, schema: str) -> set[str]:
    names = "SELECT table_name FROM information_schema.tables WHERE table_schema = :schema"
    return {name for (name,) in sql(engine, names, schema=schema)}


def forget(engine: Engine) -> None:
    """Make the database one that only Optuna has been in."""
    sql(engine, "DROP SCHEMA tunesvc CASCADE")


def _installation(url: str) -> str:
    with open_store(url) as store:
        return installation_id(store.engine)


def test_eight_processes_make_the_tables_once(empty_url: str, at_once: AtOnce) -> None:
    """All find the same installation, and no table of Optuna's in our schema."""
    assert len(set(at_once(_installation, [empty_url] * 8))) == 1
    with open_store(empty_url) as store:
        assert tables(store.engine, "tunesvc") == TABLES
        assert {"alembic_version", "studies", "trials"} <= tables(store.engine, "public")


def test_installation_is_one(store: Store) -> None:
    """A second one is refused by the database itself."""
    with pytest.raises(DBAPIError, match="installation_is_one"):
        sql(store.engine, "INSERT INTO tunesvc.installation DEFAULT VALUES")


def test_head_is_the_head() -> None:
    """The constant names the last file of `versions/`."""
    config = Config()
    config.set_main_option("script_location", "tunesvc.storage:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_current_tables_cost_one_question_of_ours(store: Store) -> None:
    """What is there, Optuna's version, our revision: no more, and without importing Alembic."""
    script = """
import sys
from sqlalchemy import Engine, event, make_url
from tunesvc.storage.tables import prepare
asked = []
event.listen(Engine, "before_cursor_execute", lambda c, cu, statement, *_: asked.append(statement))
prepare(make_url(sys.argv[1]))
print(len(asked), "alembic" in sys.modules)
"""
    command = [sys.executable, "-c", script, store.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]


def test_opening_leaves_logging_alone(empty_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither handlers nor levels of the program are changed, and no logger is disabled."""
    own = logging.getLogger("somebody")
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    with open_store(empty_url):
        pass
    assert (list(root.handlers), root.level) == before
    assert not own.disabled


def test_user_who_may_not_create_schemas(empty_url: str, guest: str) -> None:
    """The error says what to grant; a schema that an administrator made for the user serves too."""
    url = make_url(empty_url).set(username=guest).render_as_string()
    with pytest.raises(StorageError, match="may not do this") as caught:
        open_store(url).__enter__()
    assert "permission denied for database" in caught.value.why
    assert "GRANT CREATE ON DATABASE" in caught.value.fix
    admin = create_engine(empty_url, poolclass=NullPool)
    sql(admin, f"CREATE SCHEMA tunesvc AUTHORIZATION {guest}")
    assert _installation(url)


@pytest.fixture
def guest(admin: Engine, empty_url: str) -> Iterator[str]:
    """A user who may make tables in `public`, and nothing else."""
    name = f"guest_{os.urandom(4).hex()}"
    sql(admin, f"CREATE ROLE {name} LOGIN")
    owner = create_engine(empty_url, poolclass=NullPool)
    sql(owner, f"GRANT ALL ON SCHEMA public TO {name}")
    yield name
    sql(owner, f"DROP OWNED BY {name} CASCADE")
    sql(admin, f"DROP ROLE {name}")


OURS = {"tunesvc_trials_number", "tunesvc_trials_unfinished", "tunesvc_params_name"}


def indexes(engine: Engine) -> set[str]:
    names = "SELECT indexname FROM pg_indexes WHERE indexname ~ '^tunesvc_'"
    return {name for (name,) in sql(engine, names)}


def test_indexes_beside_optunas(store: Store) -> None:
    """They are there, a number is given once, and one step back takes them away again."""
    assert indexes(store.engine) == OURS
    study = optuna.create_study(storage=store.optuna)
    study.ask()
    again = "INSERT INTO trials (study_id, number, state) VALUES (:study, 0, 'RUNNING')"
    with pytest.raises(DBAPIError, match="tunesvc_trials_number"):
        sql(store.engine, again, study=study._study_id)
    with store.engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "tunesvc.storage:migrations")
        command.stamp(config, "0002")
        command.downgrade(config, "0001")
    assert indexes(store.engine) == set()
    assert study.ask().number == 1


def test_number_given_twice_leaves_one_index_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A database of an early Optuna, in which that happened, is opened all the same."""
    forget(store.engine)
    sql(store.engine, "DROP INDEX tunesvc_trials_number")
    study = optuna.create_study(storage=RDBStorage(store.url))
    for _ in range(2):
        sql(
            store.engine,
            "INSERT INTO trials (study_id, number, state) VALUES (:study, 0, 'RUNNING')",
            study=study._study_id,
        )
    with open_store(store.url) as opened:
        assert indexes(opened.engine) == OURS - {"tunesvc_trials_number"}
        assert tables(opened.engine, "tunesvc") == TABLES
    assert "without the index tunesvc_trials_number" in caplog.text


def test_indexes_on_another_owners_tables(
    empty_url: str, guest: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may use Optuna's tables, and not change them, goes without."""
    RDBStorage(empty_url)
    owner = create_engine(empty_url, poolclass=NullPool)
    sql(owner, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {guest}")
    sql(owner, f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {guest}")
    sql(owner, f"CREATE SCHEMA tunesvc AUTHORIZATION {guest}")
    assert _installation(make_url(empty_url).set(username=guest).render_as_string())
    assert indexes(owner) == set()
    assert "must be owner of" in caplog.text


def test_newer_tables_are_refused(store: Store) -> None:
    """Tables of a later tunesvc: what to install; nothing is changed."""
    sql(store.engine, "UPDATE tunesvc.alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match="newer than the tunesvc") as caught:
        open_store(store.url).__enter__()
    assert "9999" in caught.value.why
    assert caught.value.fix == "pip install -U tunesvc"
    assert sql(store.engine, "SELECT version_num FROM tunesvc.alembic_version") == [("9999",)]


def test_killed_in_the_middle(store: Store) -> None:
    """The server loses the migrating process: nothing of the schema is left, and the next one
    makes it whole."""
    forget(store.engine)
    failed: list[StorageError] = []

    def migrate() -> None:
        try:
            open_store(store.url).__enter__()
        except StorageError as error:
            failed.append(error)

    with create_engine(store.url).begin() as blocker:
        blocker.execute(text("LOCK TABLE trials IN ROW EXCLUSIVE MODE"))  # REFERENCES waits for it
        thread = threading.Thread(target=migrate)
        thread.start()
        waiting = """
            SELECT pid FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND query ~ 'CREATE SEQUENCE tunesvc'
        """
        deadline = time.monotonic() + 120
        while not (found := sql(store.engine, waiting)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        sql(store.engine, "SELECT pg_terminate_backend(:pid)", pid=found[0][0])
        thread.join()
    assert failed
    assert tables(store.engine, "tunesvc") == set()
    assert _installation(store.url)
    assert tables(store.engine, "tunesvc") == TABLES


def test_studies_of_earlier_versions_are_taken_over(store: Store) -> None:
    """State that was kept in Optuna's attributes; running trials get a lease that is free."""
    forget(store.engine)
    plain = store.plain()
    study = optuna.create_study(storage=plain, study_name="ours")
    study.set_user_attr("tunesvc:digest", "d")
    study.set_user_attr("tunesvc:paused", True)
    done, running = study.ask(), study.ask()
    done.set_user_attr("default", "resnet")
    study.tell(done, 1.0)
    running.set_user_attr("grid", 3)
    for step in range(2):
        running.report(0.5, step)
    fresh = optuna.create_study(storage=plain, study_name="fresh")
    fresh.set_user_attr("tunesvc:digest", "e")
    fresh.set_user_attr("tunesvc:paused", False)
    optuna.create_study(storage=plain, study_name="foreign").ask()

    with open_store(store.url):
        pass
    studies = """
        SELECT study_id, paused_at > now() - interval '1 minute', given, takeovers, generation
        FROM tunesvc.study ORDER BY study_id
    """
    assert sql(store.engine, studies) == [
        (study._study_id, True, 2, 0, 0),
        (fresh._study_id, None, 0, 0, 0),
    ]
    started = "SELECT extract(epoch FROM started_at) FROM tunesvc.study ORDER BY study_id"
    began = done._cached_frozen_trial.datetime_start
    assert began is not None
    ((first,), (second,)) = sql(store.engine, started)
    assert float(first) == pytest.approx(began.timestamp(), abs=1e-3)
    assert second is None
    leases = """
        SELECT trial_id, study_id, worker_id, seconds, expires_at, epoch, attempts, reasons
        FROM tunesvc.lease
    """
    assert sql(store.engine, leases) == [
        (running._trial_id, study._study_id, None, 30.0, None, 2, 0, [])
    ]


def migrate(store: Store, revision: str) -> None:
    """Make our tables as a version of that revision left them."""
    forget(store.engine)
    with store.engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "tunesvc.storage:migrations")
        command.upgrade(config, revision)


# As `leases` of revision 0003 claimed and wrote.
CLAIM_3 = """
    SELECT tunesvc.claim(:study, 'old:1:x', '{}', 2, NULL, 30, false, 0, 0, '{}', '{}')
"""
WRITE_3 = """
    SELECT tunesvc.write(:trial, :token, '{}', '{}', '{}', '{}', '{}', '{}', '{}',
        '{1}', CAST(ARRAY[:value] AS float8[]), '{FINITE}',
        CAST(:state AS text), '{0.5}', '{FINITE}')
"""


def test_workers_of_the_version_before_go_on_after_an_upgrade(store: Store) -> None:
    """Their trials are written as they write them, beside those of new workers; twice is once."""
    migrate(store, "0003")
    study = optuna.create_study(storage=store.optuna, study_name="s")
    with closing(Leases(store.engine)) as leases:
        ((old,),) = sql(store.engine, CLAIM_3, study=study._study_id)
        which = {"trial": old["trial_id"], "token": old["token"]}
        sql(store.engine, WRITE_3, **which, value=0.25, state=None)
        for _ in range(2):
            with open_store(store.url) as opened:
                found = sql(opened.engine, "SELECT version_num FROM tunesvc.alembic_version")
                assert found == [(migrations.HEAD,)]
                functions = "SELECT count(*) FROM pg_proc WHERE proname = 'write'"
                schema = "pronamespace = 'tunesvc'::regnamespace"
                assert sql(opened.engine, f"{functions} AND {schema}") == [(2,)]
        new = leases.claim(study._study_id, Terms(trials=2))
        assert isinstance(new, Lease)
        storage = Fenced(store.history, store.engine, new, lambda step: step == 1)
        storage.report(new.trial_id, {1: 0.5}, {})
        assert storage.values_at(study._study_id, 1) == {0: 0.25, 1: 0.5}
        (told,) = sql(store.engine, WRITE_3, **which, value=0.75, state="COMPLETE")
        assert told != (None,)
        assert sql(store.engine, WRITE_3, **which, value=0.75, state="COMPLETE") == [told]
        storage.tell(new.trial_id, TrialState.COMPLETE, [1.0])
    assert [trial.value for trial in study.get_trials()] == [0.5, 1.0]
    assert study.get_trials()[0].intermediate_values == {1: 0.75}


def test_deleted_study_leaves_nothing(store: Store) -> None:
    """`optuna.delete_study` takes our rows of it along."""
    study = optuna.create_study(storage=store.optuna, study_name="s")
    trial = study.ask()
    ids = {"study": study._study_id, "trial": trial._trial_id}
    sql(store.engine, "INSERT INTO tunesvc.study (study_id) VALUES (:study)", study=ids["study"])
    add = "INSERT INTO tunesvc.lease (trial_id, study_id, seconds) VALUES (:trial, :study, 30)"
    sql(store.engine, add, **ids)
    optuna.delete_study(study_name="s", storage=store.optuna)
    assert sql(store.engine, "SELECT 1 FROM tunesvc.study UNION SELECT 1 FROM tunesvc.lease") == []


def test_optuna_looks_past_our_schema(store: Store) -> None:
    """Its checks, its upgrade and its dashboard work, although this user has our schema's name."""
    assert make_url(store.url).username == "tunesvc"
    url = store.url.replace("{", "{{").replace("}", "}}")
    plain = RDBStorage(url)  # as `optuna-dashboard URL` opens it: with Optuna's own checks
    assert plain.get_current_version() == plain.get_head_version()
    plain.upgrade()
    assert tables(store.engine, "tunesvc") == TABLES
    study = optuna.create_study(storage=plain, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)

    from optuna_dashboard import wsgi

    def start(status: str, *_: object) -> None:
        answers.append(status)

    answers: list[str] = []
    request = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/api/studies",
        "SERVER_NAME": "x",
        "SERVER_PORT": "1",
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
    }
    body = b"".join(wsgi(plain)(request, start))  # type: ignore[arg-type]
    assert answers == ["200 OK"]
    assert [each["study_name"] for each in json.loads(body)["study_summaries"]] == ["s"]
    plain.remove_session()
    plain.engine.dispose()


def test_optuna_is_upgraded_beside_our_schema(store: Store) -> None:
    """Optuna's older tables become current in `public`; ours stay as they are."""
    sql(store.engine, "UPDATE public.version_info SET library_version = '3.1.0'")
    sql(store.engine, "UPDATE public.alembic_version SET version_num = 'v3.0.0.d'")
    before = _installation_of(store.engine)
    with open_store(store.url) as again:
        assert installation_id(again.engine) == before
    assert sql(store.engine, "SELECT version_num FROM public.alembic_version") != [("v3.0.0.d",)]
    assert tables(store.engine, "tunesvc") == TABLES


def _installation_of(engine: Engine) -> str:
    return str(sql(engine, "SELECT id FROM tunesvc.installation")[0][0])
