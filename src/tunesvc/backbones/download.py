"""torchvision's weights files: from torch hub's folder, or once over the network into it."""

from __future__ import annotations

import shutil
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import torch
from filelock import FileLock

from tunesvc.errors import WeightsError

_TIMEOUT_SECONDS = 10.0  # without an answer: a machine without network must say so soon


def folder() -> Path:
    """Return where torch hub keeps its files; `TORCH_HOME` moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str, path: Path) -> None:
    """See that a file is there: the first process downloads it, the others wait.

    Raises:
        WeightsError: it cannot be downloaded; the message says where to put which file.
    """
    if path.is_file():
        return
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.is_file():
                _download(url, partial)
                partial.replace(path)
    except (OSError, HTTPException) as error:
        partial.unlink(missing_ok=True)
        raise _absent(url, path, error) from error


def check(url: str, path: Path) -> None:
    """Ask the server for a file's head only.

    Raises:
        WeightsError: it does not answer, or has not got the file.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            return
    except (OSError, HTTPException) as error:
        raise _absent(url, path, error) from error


def _download(url: str, path: Path) -> None:
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer,
        path.open("wb") as file,
    ):
        shutil.copyfileobj(answer, file, 1 << 20)
        length = answer.headers.get("Content-Length")
        if length is not None and file.tell() != int(length):
            raise OSError(f"{file.tell()} of {length} bytes came")


def _absent(url: str, path: Path, error: Exception) -> WeightsError:
    if isinstance(error, HTTPError):
        error.close()  # it is the server's answer, too
    return WeightsError(
        f"the weights {path.name} are not on this machine and cannot be downloaded",
        f"{url}: {error}",
        f"place the file {path.name} in {path.parent}; or give a file's path, or `none`, "
        "as `weights`",
    )
