"""Who gets in, and what gets out: login, roles, ports, secrets, users."""

from __future__ import annotations

import json
import subprocess

import pytest
from composed import Project, Story, inspect
from visitor import Visitor

pytestmark = pytest.mark.slow

READER_PASSWORD = "only looks at things"
MOST_BYTES = 9e9


@pytest.fixture
def address(service: Project) -> str:
    """Where the dashboard answers."""
    return service.address("dashboard", 8080)


@pytest.fixture
def reader(service: Project, address: str) -> Visitor:
    """A user who may only look, made as the README says."""
    service.tunesvc("user", "add", "ann", "--role=reader", sent=f"{READER_PASSWORD}\n")
    visitor = Visitor(address)
    assert visitor.log_in("ann", READER_PASSWORD).status == 303
    return visitor


@pytest.fixture(scope="module")
def token(service: Project) -> str:
    """A token for Prometheus."""
    return service.tunesvc("user", "token", "prometheus").strip()


def study_id(service: Project, name: str) -> str:
    """Return a study's number."""
    return service.sql(f"SELECT study_id FROM studies WHERE study_name = '{name}'")


def test_nobody_gets_in_without_a_login(address: str) -> None:
    """A script is told so, a wrong password is refused; only whether it lives is open to all."""
    stranger = Visitor(address)
    for path in ("/api/studies", "/status", "/metrics", "/report"):
        assert stranger.ask(path).status == 401, path
    assert stranger.log_in("admin", "not the password").status == 401
    assert stranger.ask("/api/studies").status == 401
    assert stranger.ask("/healthz").status == stranger.ask("/readyz").status == 200


def test_the_first_user_gets_in(address: str, admin: tuple[str, str], small: Story) -> None:
    """With the password that the first start has made; the cookie is nothing for scripts."""
    visitor = Visitor(address)
    entered = visitor.log_in(*admin)
    assert entered.status == 303
    assert "HttpOnly" in entered.headers["Set-Cookie"]
    assert "SameSite" in entered.headers["Set-Cookie"]
    studies = json.loads(visitor.ask("/api/studies").body)["study_summaries"]
    assert "small" in {study["study_name"] for study in studies}
    assert visitor.ask("/report/small").status == 200
    assert b"small" in visitor.ask("/status").body
    assert visitor.ask("/logout", "POST", {}).status == 303
    assert visitor.ask("/api/studies").status == 401


def test_a_reader_may_not_delete(service: Project, reader: Visitor, small: Story) -> None:
    """He sees what others see, and what he sends is refused; an editor's word counts."""
    study = f"/api/studies/{study_id(service, 'small')}"
    assert reader.ask(study).status == 200
    assert reader.ask(study, "DELETE").status == 403
    assert reader.ask(f"{study}/rename", "POST", {}).status == 403
    assert study_id(service, "small")


def test_an_editor_may_delete(service: Project, address: str, admin: tuple[str, str]) -> None:
    """What no worker is at work on."""
    service.tunesvc(
        "new-study", "studies/quickstart.yaml", "--name=paused", "--set=budget.trials=1"
    )
    service.compose("stop", "worker")
    try:
        editor = Visitor(address)
        editor.log_in(*admin)
        assert editor.ask(f"/api/studies/{study_id(service, 'paused')}", "DELETE").status == 204
        assert study_id(service, "paused") == ""
    finally:
        service.up("--scale=worker=2")


def test_prometheus(address: str, token: str, small: Story) -> None:
    """A token reads the metrics; another one does not."""
    told = Visitor(address, token=token).ask("/metrics")
    assert told.status == 200
    assert b"tunesvc_" in told.body
    assert Visitor(address, token=token[:-1]).ask("/metrics").status == 401


def test_no_port_for_others(service: Project) -> None:
    """Every published port is bound to this machine's own address."""
    bound = {
        place["HostIp"]
        for each in service.inspected()
        for places in each["NetworkSettings"]["Ports"].values()
        for place in places or ()
    }
    assert bound == {"127.0.0.1"}


def test_no_secret_is_told(
    service: Project, admin: tuple[str, str], token: str, small: Story
) -> None:
    """Neither the environment of any container, nor its command, nor any log holds a password or a
    token; in no process's arguments either."""
    database = service.compose(
        "exec", "-T", "dashboard", "cat", "/run/tunesvc/secrets/postgres_password"
    ).strip()
    told = json.dumps(service.inspected()) + service.compose("logs", "--no-color")
    for service_name in ("postgres", "dashboard", "worker"):
        told += service.compose("top", service_name)
    for secret in (database, admin[1], token, READER_PASSWORD):
        assert len(secret) >= 12
        assert secret not in told


def test_nothing_runs_as_root(service: Project) -> None:
    """Init, server, workers and dashboard are users without rights on the host."""
    for each in service.inspected("postgres", "dashboard", "worker"):
        command = ["docker", "top", each["Id"], "-eo", "uid,pid,args"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        users = {line.split()[0] for line in lines.splitlines()[1:]}
        assert users
        assert "0" not in users, lines


def test_nothing_can_be_written(service: Project) -> None:
    """The root file system is read-only; what is written goes to volumes and to memory."""
    for name in ("postgres", "dashboard", "worker"):
        for folder in ("/", "/opt", "/usr/local/bin", "/etc"):
            done = service.try_compose("exec", "-T", name, "touch", f"{folder}/x")
            assert "Read-only file system" in done.stderr, (name, folder)


def test_images_are_of_a_bearable_size(service: Project) -> None:
    """Under 9 GB, of which torch and NVIDIA's libraries are nearly all."""
    images = {each["Image"] for each in service.inspected()}
    assert len(images) == 2  # ours, and Postgres
    for image in images:
        assert inspect(image)[0]["Size"] < MOST_BYTES


def test_no_tools_are_left_in_the_image(service: Project) -> None:
    """Nothing in it compiles or installs."""
    look = "for tool in pip pip3 gcc cc make git curl; do command -v $tool; done; python -m pip"
    done = service.try_compose("exec", "-T", "worker", "sh", "-c", look)
    assert done.stdout == ""
    assert "No module named pip" in done.stderr
