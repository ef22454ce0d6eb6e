"""YAML text → plain Python values, with the line and column of each of them.

Scalars are read as YAML 1.2's core schema reads them: `1e-5` is a number, `no` and `on` are
words, `true` and `false` the only booleans. (PyYAML reads YAML 1.1, where `1e-5` is a string.)
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tunesvc.errors import SpecError


class Position(NamedTuple):
    """Where a value stands in its file, both counted from 1."""

    line: int
    column: int


class Document(NamedTuple):
    """A parsed file: its value and the position of every key and item in it.

    `positions` is keyed by the path to the value: `("budget", "trials")`, `("backbones", 0)`.
    """

    value: Any
    positions: dict[tuple[str | int, ...], Position]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2 and no duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands here twice, keep one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_SCALARS = [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
]
for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    """YAML 1.2 has no sexagesimals and no bare leading-zero octals: 010 is ten."""
    text = loader.construct_scalar(node)
    return int(text, 0) if re.match(r"0[ox]", text) else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


_HINT = "mind the indentation (spaces, no tabs), quotes and brackets around this place"


def read(path: Path) -> Document:
    """Parse a YAML file.

    Raises:
        SpecError: no such file, not UTF-8, or not YAML (with line and column).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(f"{path}: no such file", "", "check the path for a misspelling") from error
    except IsADirectoryError as error:
        raise SpecError(f"{path}: is a folder", "a study file is expected") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text file", str(error), "save it as UTF-8") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read", str(error)) from error
    return parse(text, str(path))


def parse(text: str, path: str) -> Document:
    """Parse YAML text; `path` is only named in errors.

    Raises:
        SpecError: the text is not YAML (with line and column).
    """
    try:
        document = _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecError(
            f"{path}{where}: not valid YAML",
            ", ".join(filter(None, (error.context, error.problem))),
            "" if isinstance(error, yaml.constructor.ConstructorError) else _HINT,
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(
            f"{path}:{line}: not valid YAML", "a control character stands there", "delete it"
        ) from error
    except RecursionError as error:
        raise SpecError(f"{path}: nested too deeply", "or an alias stands for itself") from error
    if document is None:
        raise SpecError(f"{path}: the file is empty", "", "start from studies/quickstart.yaml")
    return document


def _parse(text: str) -> Document | None:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        value = loader.construct_document(node)  # first: it refuses keys that are no scalars
        return Document(value, {(): Position(1, 1)} | dict(_positions(node, ())))
    finally:
        loader.dispose()


def _positions(
    node: yaml.Node, path: tuple[str | int, ...]
) -> list[tuple[tuple[str | int, ...], Position]]:
    found: list[tuple[tuple[str | int, ...], Position]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(key.value, key.start_mark, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, item.start_mark, item) for index, item in enumerate(node.value)]
    else:
        return found
    for name, mark, child in children:
        here = (*path, name)
        found.append((here, Position(mark.line + 1, mark.column + 1)))
        found.extend(_positions(child, here))
    return found
