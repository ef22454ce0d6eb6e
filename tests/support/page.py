"""A page of Markdown as steps to be taken: files, commands, Python cells, and what they print.

    ```sh                        commands, run by bash
    ```python                    a cell; cells share their names until the next heading
    ```LANGUAGE title="a/file"   a file to be written
    ```text                      what the block before it prints; … stands for what is left out

Other blocks are pictures. In what is printed numbers and widths of columns do not count; a line
that is … alone stands for any lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["file", "sh", "python"]

_BLOCK = re.compile(
    r"^## (?P<heading>[^\n]+)$|^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = r"-?\d[\d.,e+-]*"


@dataclass
class Step:
    """One block, and what it is to print."""

    heading: str
    kind: Kind
    body: str
    title: str = ""
    printed: str = ""


def steps(page: Path) -> list[Step]:
    """Return the blocks of a page that are to be run."""
    found: list[Step] = []
    heading = ""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        heading = match["heading"] or heading
        language, body = match["language"], match["body"]
        if match["title"]:
            found.append(Step(heading, "file", body, match["title"]))
        elif language in ("sh", "python"):
            found.append(Step(heading, language, body))  # type: ignore[arg-type]
        elif language == "text":
            found[-1].printed = body
    return found


def missing(printed: str, shown: str) -> str:
    """Return the first line of the page that was not printed, in order; "" where all were."""
    lines = iter(printed.splitlines())
    for wanted in _wanted(shown):
        if not any(wanted.fullmatch(line) for line in lines):
            return wanted.pattern
    return ""


def _wanted(shown: str) -> Iterator[re.Pattern[str]]:
    for line in shown.splitlines():
        if line.strip(" …"):
            parts = (_any_number(part) for part in line.split("…"))
            yield re.compile(".*".join(parts) + r"\s*")


def _any_number(text: str) -> str:
    words = (re.escape(word) for word in re.split(r"\s+", re.sub(_NUMBER, "\0", text)))
    return r"\s*".join(words).replace("\0", _NUMBER)
