"""A package put into a folder as pip does it: its modules, and a `.dist-info` beside them.

Why: 2026-11: pip itself would have to build the package, with a build backend that it downloads or
finds installed; a machine that only runs the tests has neither.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path


def install(package: Path, into: Path, *, editable: bool = False) -> None:
    """Install a package without its dependencies; `into` is to be put on PYTHONPATH.

    Args:
        editable: what is changed in the package later counts too.
    """
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = project["name"].replace("-", "_")
    if editable:
        (into / name).symlink_to((package / name).absolute())
    else:
        shutil.copytree(package / name, into / name, ignore=shutil.ignore_patterns("__pycache__"))
    info = into / f"{name}-{project['version']}.dist-info"
    info.mkdir()
    said = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(said, encoding="utf-8")
    groups = (
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")


if __name__ == "__main__":  # `pip install --editable FOLDER`, with the folder to install into
    install(Path(sys.argv[-1]), Path(os.environ["SITE"]), editable="--editable" in sys.argv)
