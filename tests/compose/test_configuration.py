"""What the compose files say, before anything runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from composed import PROFILES, Project

pytestmark = pytest.mark.slow

ELSEWHERE = "workers/compose.worker.yml"


def read(project: Project) -> dict[str, Any]:
    """Return a project's services as compose understands them, all profiles included."""
    found: dict[str, Any] = json.loads(project.compose("config", "--format=json"))["services"]
    return found


def test_all_profiles_are_valid() -> None:
    """Every service is there, and each but the plain ones belongs to a profile."""
    found = read(Project())
    plain = {name for name, told in found.items() if not told.get("profiles")}
    assert plain == {"secrets", "postgres", "migrate", "dashboard", "worker"}
    named = {profile for told in found.values() for profile in told.get("profiles", ())}
    assert named == set(PROFILES)


def test_a_gpu_each() -> None:
    """Workers of the profile `gpu` see every GPU, and take the first that no other holds."""
    found = read(Project())["worker-gpu"]
    (device,) = found["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"capabilities": ["gpu"], "driver": "nvidia", "count": -1}
    assert found["command"] == ["worker", "--compile=off", "--precision=auto", "--device", "free"]
    cache = [volume for volume in found["volumes"] if volume["target"] == "/cache"]
    assert [volume["source"] for volume in cache] == ["cache"]  # where they note what they hold


def test_what_the_network_sees() -> None:
    """Without the profile `tls`, ports are published to this machine alone."""
    for name, told in read(Project()).items():
        seen = {port.get("host_ip") for port in told.get("ports", ())}
        assert seen <= ({None} if name == "caddy" else {"127.0.0.1"}), name


def test_how_every_container_is_kept() -> None:
    """Read-only, without capabilities, unable to gain any, never privileged, with an init; logs
    are bounded."""
    for name, told in read(Project()).items():
        assert told["read_only"], name
        assert told["cap_drop"] == ["ALL"], name
        assert told.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else []), name
        assert told["security_opt"] == ["no-new-privileges:true"], name
        assert told["init"], name
        assert not told.get("privileged"), name
        assert told["logging"]["options"]["max-size"], name


@pytest.mark.parametrize("missing", ["TUNESVC_WORKER_STORAGE", "TUNESVC_SECRETS_VOLUME"])
def test_a_worker_elsewhere_has_to_be_told_where(missing: str) -> None:
    """Compose refuses a worker-only host without an address or a password, and says what to set."""
    given = {
        "TUNESVC_WORKER_STORAGE": "postgresql://tunesvc@server:5433/tunesvc",
        "TUNESVC_SECRETS_VOLUME": "/srv/secrets",
    }
    assert set(read(Project((ELSEWHERE,), **given))) == {"worker", "worker-gpu"}
    done = Project((ELSEWHERE,), **given | {missing: ""}).try_compose("config", "--quiet")
    assert done.returncode
    assert missing in done.stderr
