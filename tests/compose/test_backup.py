"""Dumps are whole, and can be put back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import Project, Story, health, wait_until

pytestmark = pytest.mark.slow

BACKUP = "/backup/backup.sh"
RESTORE = "/backup/restore.sh"
COUNTS = (
    "SELECT (SELECT count(*) FROM studies), (SELECT count(*) FROM trials), "
    "(SELECT count(*) FROM trial_intermediate_values), (SELECT count(*) FROM tunesvc.lease), "
    "(SELECT md5(string_agg(t::text, '' ORDER BY trial_id)) FROM trials t)"
)


def run(project: Project, *words: str, **how: str) -> str:
    """Run one of the scripts as the README says."""
    given = [f"--env={name}={value}" for name, value in how.items()]
    return project.compose("run", "--rm", "--no-deps", "-T", *given, "backup", *words)


@pytest.fixture(scope="module")
def dumped(service: Project, small: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the host with a dump of the service, in place of the volume."""
    folder = tmp_path_factory.mktemp("backups")
    folder.chmod(0o777)  # as if it belonged to the user `postgres`
    for parent in list(folder.parents)[:3]:
        parent.chmod(0o755)
    service.settings["TUNESVC_BACKUPS_VOLUME"] = str(folder)
    assert "wrote" in run(service, BACKUP, "once")
    return folder


@pytest.fixture(scope="module")
def other(image: None, dumped: Path) -> Iterator[Project]:
    """Another server, new and empty, that sees the same dumps."""
    project = Project(POSTGRES_BIND="127.0.0.1:0", TUNESVC_BACKUPS_VOLUME=str(dumped))
    try:
        project.up("postgres")
        yield project
    finally:
        project.remove()


def test_restored_into_a_fresh_volume(service: Project, other: Project, dumped: Path) -> None:
    """Another server, made a minute ago, has every study and trial of the first one afterwards, and
    can be worked with; also where `migrate` has made empty tables already."""
    other.compose("run", "--rm", "-T", "migrate")
    assert "restored" in run(other, RESTORE)
    assert other.sql(COUNTS) == service.sql(COUNTS)
    told = other.compose("run", "--rm", "-T", "migrate")
    assert "up to date" in told
    assert "small" in other.tunesvc("list")


def test_studies_are_not_overwritten(service: Project, other: Project, dumped: Path) -> None:
    """Unless told; then what was there is kept under another name."""
    if other.sql("SELECT to_regclass('public.studies')") == "":
        run(other, RESTORE)
    before = other.sql(COUNTS)
    refused = other.try_compose("run", "--rm", "--no-deps", "-T", "backup", RESTORE)
    assert refused.returncode == 2
    assert "--replace" in refused.stderr
    assert other.sql(COUNTS) == before
    other.sql("DELETE FROM trial_intermediate_values")
    assert "is kept as tunesvc_until_" in run(other, RESTORE, "latest", "--replace")
    assert other.sql(COUNTS) == before
    names = other.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'tunesvc_until_%'")
    assert names == "1"


def test_nobody_may_be_connected(service: Project, dumped: Path) -> None:
    """A restore beside workers at work is refused, with the command that stops them."""
    how = ("run", "--rm", "--no-deps", "-T", "backup", RESTORE, "--replace")
    refused = service.try_compose(*how)
    assert refused.returncode == 2
    assert "docker compose --profile '*' stop worker worker-gpu dashboard" in refused.stderr


def test_a_damaged_dump_changes_nothing(other: Project, dumped: Path) -> None:
    """A restore that fails leaves the database as it was."""
    if other.sql("SELECT to_regclass('public.studies')") == "":
        run(other, RESTORE)
    before = other.sql(COUNTS)
    whole = max(dumped.glob("*.dump")).read_bytes()
    torn = dumped / "torn.dump"
    torn.write_bytes(whole[: len(whole) * 2 // 3])
    torn.chmod(0o644)
    how = ("run", "--rm", "--no-deps", "-T", "backup", RESTORE, "torn.dump", "--replace")
    assert other.try_compose(*how).returncode not in (0, 2)
    assert other.sql(COUNTS) == before


def test_a_dump_that_breaks_off_is_none(other: Project, dumped: Path) -> None:
    """What pg_dump could not finish, or what cannot be read back, is not called a dump."""
    before = sorted(dumped.iterdir())
    for broken in ('pg_dump() { echo half >"${2#--file=}"; }', "pg_dump() { return 1; }"):
        # In the script's own shell, in place of the program.
        script = f"{broken}; set -- once; . {BACKUP}"
        done = other.try_compose(
            "run", "--rm", "--no-deps", "-T", "backup", "sh", "-c", script, BACKUP
        )
        assert done.returncode
        assert "wrote" not in done.stdout
    assert sorted(dumped.iterdir()) == before


def test_old_dumps_go(other: Project, dumped: Path) -> None:
    """After a new one, those older than the days wanted; never the newest few."""
    make = "for day in 2020-01-01 2020-01-02 2020-01-03 2020-01-04; do "
    make += "touch -d $day $BACKUP_FOLDER/tunesvc-$day.dump; done"
    other.compose("run", "--rm", "--no-deps", "-T", "backup", "sh", "-c", make)
    told = run(other, BACKUP, "once", BACKUP_KEEP_LEAST="4", BACKUP_KEEP_DAYS="3")
    left = {path.name for path in dumped.glob("tunesvc-*.dump")}
    assert len(left) == 4
    assert {name for name in left if "2020" in name} == {
        "tunesvc-2020-01-03.dump",
        "tunesvc-2020-01-04.dump",
    }
    assert told.count("removed") == 2


def test_the_nightly_service(other: Project) -> None:
    """It dumps when it starts and there is none of today, tells when the next is due, is healthy
    while its newest dump is fresh, and stops at once."""
    other.settings.pop("TUNESVC_BACKUPS_VOLUME")  # its own volume
    other.up("backup")
    (backup,) = other.ids("backup")
    wait_until(lambda: health(backup) == "healthy")
    (made,) = other.compose("exec", "-T", "backup", BACKUP, "list").split()
    assert "next dump in" in other.compose("logs", "backup")
    old = other.compose("exec", "-T", "backup", "touch", "-d", "27 hours ago", made)
    assert old == ""
    wait_until(lambda: health(backup) == "unhealthy")
    other.compose("stop", "backup")
    assert other.inspected("backup")[0]["State"]["ExitCode"] == 0


def test_the_password_is_nowhere_to_be_seen(other: Project) -> None:
    """Not in the environment of a dump, and not in any process's arguments."""
    look = f"""
    set -- list; . {BACKUP}
    cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n' |
      grep -c -F -f "$BACKUP_PASSWORD_FILE" || true
    stat -c '%a %U' "$PGPASSFILE"
    """
    done = other.try_compose("run", "--rm", "--no-deps", "-T", "backup", "sh", "-c", look, BACKUP)
    assert done.stdout.splitlines()[-2:] == ["0", "600 postgres"], done
