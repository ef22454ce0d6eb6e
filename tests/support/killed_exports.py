"""Write an exported model, killed at its n-th step, for every n; tell what lay there afterwards.

A program of its own: it forks. `python killed_exports.py FOLDER` prints a line for each n: whether
a model was there before, and which is there now: "old", "new", "none", or what reading it raised.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesvc import exported, plugins
from tunesvc.backbones import build
from tunesvc.exported import place
from tunesvc.spec import BackboneSpec

_TASK = plugins.load("task", "image-classification")


class _Doom:
    """Counts steps, and ends the process at the one that it is given."""

    def __init__(self, last: int) -> None:
        self.left = last

    def step(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = act(*arguments, **named)
            self.step()
            return result

        return watched

    def halved(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """Write the first half of a file alone, first."""

        def watched(path: Path, content: Any, *arguments: Any, **named: Any) -> Any:
            self.step()
            act(path, content[: len(content) // 2], *arguments, **named)
            self.step()
            return act(path, content, *arguments, **named)

        return watched


def export(directory: Path, names: str, *, force: bool) -> None:
    torch.manual_seed(0)
    backbone = build(BackboneSpec(name="tiny_resnet", weights="none"), 2, base=Path())
    described = exported.describe(backbone, BackboneSpec(name="tiny_resnet"), _TASK, list(names))
    module: nn.Module = backbone.module
    exported.write(directory, module, described, None, force=force, also=_explain)


def _explain(draft: Path) -> None:
    (draft / "README.md").write_text("# A model")


def survived(directory: Path, last: int, *, force: bool, exchange: bool) -> bool:
    """Export in a process that dies at a step; return whether it came to its end."""
    child = os.fork()
    if child == 0:
        doom = _Doom(last)
        if not exchange:
            place._exchange = lambda _one, _other: False
        place._exchange = doom.around(place._exchange)
        os.fsync = doom.around(os.fsync)
        shutil.rmtree = doom.around(shutil.rmtree)  # type: ignore[assignment]
        for name in ("mkdir", "rename"):
            setattr(Path, name, doom.around(getattr(Path, name)))
        for name in ("write_bytes", "write_text"):
            setattr(Path, name, doom.halved(getattr(Path, name)))
        export(directory, "xy", force=force)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def there(directory: Path) -> str:
    if not directory.exists():
        return "none"
    try:
        return {"ab": "old", "xy": "new"}["".join(exported.load(directory).classes)]
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # a fork has none of its parent's threads, and would wait for them
    for before, exchange in ((False, True), (True, True), (True, False)):
        for last in range(1000):
            directory = folder / f"{before}-{exchange}-{last}"
            if before:
                export(directory, "ab", force=False)
            is_done = survived(directory, last, force=before, exchange=exchange)
            print(before, exchange, is_done, there(directory), sep="\t", flush=True)
            shutil.rmtree(directory, ignore_errors=True)
            if is_done:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
