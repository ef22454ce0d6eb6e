"""What this machine has, and what is wrong with it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunesvc import places
from tunesvc.errors import StorageError, TuneError

# Of a worker: one for its work, one to renew its lease. Ten are left to everybody else.
CONNECTIONS, OTHERS = 2, 10
_LIBRARIES = ("tunesvc", "torch", "torchvision", "optuna", "optuna-dashboard", "sqlalchemy")
LEAST_FREE_GB = 2.0


def examine(storage: str | None) -> dict[str, Any]:
    """Return versions, devices, storage, folders and free disk, and a list of problems."""
    problems: list[TuneError] = []
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "devices": _devices(),
        "storage": _looked_at(lambda: _storage(storage), problems),
        "folders": {
            "home": _folder(places.home(), problems),
            "cache": _folder(places.cache(), problems),
            "artifacts": _artifacts(places.artifacts(), problems),
        },
    }
    return facts | {"problems": [_as_json(problem) for problem in problems]}


def _as_json(problem: TuneError) -> dict[str, Any]:
    return {
        "what": problem.what,
        "why": problem.why,
        "fix": problem.fix,
        "exit_code": problem.exit_code,
    }


def _looked_at(look: Callable[[], dict[str, Any]], problems: list[TuneError]) -> dict[str, Any]:
    try:
        return look()
    except TuneError as error:
        problems.append(error)
        return {"problem": error.what}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    import torch

    found: list[dict[str, Any]] = [{"device": "cpu", "threads": torch.get_num_threads()}]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        memory = round(facts.total_memory / 2**30, 1)
        found.append({"device": f"cuda:{index}", "name": facts.name, "memory_gb": memory})
    if torch.backends.mps.is_available():
        found.append({"device": "mps"})
    return found


def _storage(option: str | None) -> dict[str, Any]:
    from sqlalchemy import text

    from tunesvc import study
    from tunesvc.storage import open_store

    with open_store(option) as store:
        with store.engine.connect() as connection:
            server = str(connection.execute(text("SHOW server_version")).scalar_one())
            most = int(connection.execute(text("SHOW max_connections")).scalar_one())
        return {
            "url": store.safe_url,
            "embedded": store.embedded,
            "postgres": server,
            "connections": most,
            "room_for_workers": max(0, most - OTHERS) // CONNECTIONS,
            "studies": len(study.names(store)),
        }


def _artifacts(location: str, problems: list[TuneError]) -> dict[str, Any]:
    """Look at the folder of checkpoints, or whether S3 lets us in."""
    if "://" not in location:
        return _folder(Path(location), problems)

    def ask() -> dict[str, Any]:
        from tunesvc.storage.artifacts import open_artifacts

        shelf = open_artifacts(location)
        shelf.names("doctor/")  # nothing has such a name: listing it costs nothing
        return {"location": shelf.location}

    return _looked_at(ask, problems)


def _folder(path: Path, problems: list[TuneError]) -> dict[str, Any]:
    exists = path
    while not exists.exists():
        exists = exists.parent
    free = shutil.disk_usage(exists).free / 1e9
    if free < LEAST_FREE_GB:
        problems.append(
            StorageError(
                f"only {free:.1f} GB are free for {path}",
                "checkpoints and decoded images need room",
                "free some, or set TUNESVC_HOME to a larger disk",
            )
        )
    used = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e9
    return {"path": str(path), "used_gb": round(used, 3), "free_gb": round(free, 1)}
