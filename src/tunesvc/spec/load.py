"""Study file → StudySpec; every mistake named with its line and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tunesvc.errors import SpecError, UsageError
from tunesvc.spec import yaml_file
from tunesvc.spec.mistakes import KeyPath, spec_error
from tunesvc.spec.study_spec import StudySpec
from tunesvc.spec.yaml_file import Document, Position

M = TypeVar("M", bound=BaseModel)

# The key that a bare word stands for: `sampler: tpe` is `sampler: {kind: tpe}`.
_SHORT_FOR = {
    "data": "kind",
    "sampler": "kind",
    "pruner": "kind",
    "objective": "metric",
    "backbones": "name",
}


def load(path: Path, *, name: str | None = None, settings: Sequence[str] = ()) -> StudySpec:
    """Read a study file; its name is the file's stem unless the file or `name` says otherwise.

    Raises:
        SpecError: the file cannot be read, or is not a study.
    """
    document = yaml_file.read(path)
    return parse(document, str(path), name=name, stem=path.stem, settings=settings)


def parse(
    document: Document,
    path: str,
    *,
    stem: str,
    name: str | None = None,
    settings: Sequence[str] = (),
) -> StudySpec:
    """Validate a parsed study file; all of its mistakes in one error.

    Raises:
        SpecError: the document is not a study.
    """
    value = {"name": stem} | _mapping(document, path) | ({"name": name} if name else {})
    positions = {("name",): Position(1, 1)} | _laid_over(document, settings)
    document = Document(apply_settings(value, settings), positions)
    return validate(StudySpec, document, path)


def validate(model: type[M], document: Document, path: str) -> M:
    """Return the document as a model; all of its mistakes in one error.

    Raises:
        SpecError: the document does not fit the model.
    """
    try:
        return model.model_validate(_mapping(document, path))
    except ValidationError as error:
        raise spec_error(error, document, path, model) from error


def _mapping(document: Document, path: str) -> dict[str, Any]:
    if isinstance(document.value, dict):
        return document.value
    found = "a list" if isinstance(document.value, list) else "a single value"
    raise SpecError(
        f"{path}:1:1: not a study file",
        f"it holds {found}, and a mapping of keys to values is expected",
        "start from studies/quickstart.yaml",
    )


def apply_settings(value: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the mapping with `key.key=value` settings of the command line laid over it.

    Raises:
        UsageError: a setting is not of that form.
        SpecError: its value is not YAML.
    """
    for setting in settings:
        keys, new = _setting(setting)
        value = _with(value, keys, new.value, setting)
    return value


def _setting(setting: str) -> tuple[KeyPath, Document]:
    key, equals, text = setting.partition("=")
    words = key.strip().split(".")
    if not equals or not all(words):
        raise UsageError(
            f"--set {setting}: not of the form key=value",
            "",
            "for example --set budget.trials=50 or --set data.path=photos",
        )
    keys = tuple(int(word) if word.isdecimal() else word for word in words)
    return keys, yaml_file.parse(text.strip() or "''", f"--set {key}")


def _with(value: Any, keys: KeyPath, new: Any, setting: str, outer: str = "") -> Any:
    """Return `value` with `new` in it at the place that `keys` name."""
    if not keys:
        return new
    head, *rest = keys
    if isinstance(value, list):
        if not isinstance(head, int) or head >= len(value):
            raise UsageError(
                f"--set {setting}: no item {head!r} in {outer!r}",
                f"it is a list of {len(value)}, counted from 0",
                f"or give the whole list: --set {outer}=[…]",
            )
        inner = _with(value[head], tuple(rest), new, setting, outer)
        return [*value[:head], inner, *value[head + 1 :]]
    if isinstance(value, str) and outer in _SHORT_FOR:
        value = {_SHORT_FOR[outer]: value}
    held = value if isinstance(value, dict) else {}
    return held | {head: _with(held.get(head, {}), tuple(rest), new, setting, str(head))}


def _laid_over(document: Document, settings: Sequence[str]) -> dict[KeyPath, Position]:
    """Return the positions, those of what the command line set being `Position(0, 0)`."""
    positions = dict(document.positions)
    for keys, new in map(_setting, settings):
        positions = {path: at for path, at in positions.items() if path[: len(keys)] != keys}
        for path in _prefixes(keys):
            positions.setdefault(path, Position(0, 0))
        positions |= {(*keys, *path): Position(0, 0) for path in new.positions}
    return positions


def _prefixes(keys: KeyPath) -> Iterator[KeyPath]:
    return (keys[:length] for length in range(1, len(keys) + 1))


def schema() -> dict[str, Any]:
    """Return the JSON schema of study files, for editors and `tunesvc schema`."""
    made = StudySpec.model_json_schema(mode="validation")
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "tunesvc study"
    made["required"] = [key for key in made["required"] if key != "name"]
    return made


def dump(value: dict[str, Any]) -> str:
    """Return a mapping as YAML text in its own order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
