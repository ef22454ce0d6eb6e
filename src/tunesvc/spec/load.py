"""Study file → StudySpec; every mistake named with its line and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunesvc.errors import SpecError, UsageError, suggest
from tunesvc.spec import yaml_file
from tunesvc.spec.knobs import KNOBS
from tunesvc.spec.study_spec import StudySpec
from tunesvc.spec.yaml_file import Document, Position


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
    value = document.value
    if not isinstance(value, dict):
        raise SpecError(
            f"{path}:1:1: not a study file",
            f"it holds a {type(value).__name__}, and a mapping of keys is expected",
            "start from studies/quickstart.yaml",
        )
    value = apply_settings(value, settings)
    value = {"name": stem} | value | ({"name": name} if name else {})
    try:
        return StudySpec.model_validate(value)
    except ValidationError as error:
        raise _spec_error(error, document, path) from error


def apply_settings(value: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the mapping with `key.key=value` settings of the command line laid over it.

    Raises:
        UsageError: a setting is not of that form.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--set {setting}: not of the form key=value",
                "",
                "for example --set budget.trials=50 or --set data.path=photos",
            )
        value = _with(value, key.split("."), yaml_file.parse(text or "''", f"--set {key}").value)
    return value


def _with(value: Any, keys: list[str], new: Any) -> Any:
    if not keys:
        return new
    head, *rest = keys
    if isinstance(value, list) and head.isdigit() and int(head) < len(value):
        index = int(head)
        return [*value[:index], _with(value[index], rest, new), *value[index + 1 :]]
    inner = value if isinstance(value, dict) else {}
    return inner | {head: _with(inner.get(head, {}), rest, new)}


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


def _spec_error(error: ValidationError, document: Document, path: str) -> SpecError:
    lines, fixes = [], []
    for detail in error.errors(include_url=False):
        keys = _keys(detail["loc"], document)
        position = _position(keys, document)
        dotted = ".".join(map(str, keys)) or "the file"
        lines.append(f"{path}:{position.line}:{position.column}: {dotted}: {_message(detail)}")
        fixes.append(_fix(detail))
    fix = "; ".join(dict.fromkeys(filter(None, fixes)))
    return SpecError("\n".join(dict.fromkeys(lines)), "", fix)


def _keys(loc: tuple[str | int, ...], document: Document) -> tuple[str | int, ...]:
    """Keep of pydantic's location what stands in the file (it adds the tags of unions)."""
    keys: tuple[str | int, ...] = ()
    for part in loc:
        if (*keys, part) in document.positions:
            keys = (*keys, part)
    last = loc[-1] if loc else ""
    missing_or_short = isinstance(last, str) and last not in keys and last.isidentifier()
    return (*keys, last) if missing_or_short and _is_field(last) else keys


def _is_field(name: str) -> bool:
    return any(name in model.model_fields for model in _models(StudySpec))


def _position(keys: tuple[str | int, ...], document: Document) -> Position:
    while keys not in document.positions:
        keys = keys[:-1]
    return document.positions[keys]


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "unknown key"
        case "missing":
            return "is missing"
        case "union_tag_invalid":
            context = detail.get("ctx", {})
            return f"unknown kind {context.get('tag')!r}"
        case "union_tag_not_found":
            return "needs a `kind`"
        case "literal_error":
            return f"{detail['input']!r} is not one of the known names"
        case "value_error":
            return detail["msg"].removeprefix("Value error, ")
        case _:
            message = detail["msg"].removeprefix("Input ").removeprefix("should ")
            return f"must {message[0].lower()}{message[1:]}, and is {_short(detail['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _fix(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return suggest(str(detail["loc"][-1]), _siblings(detail["loc"]))
        case "union_tag_invalid":
            return suggest(
                str(context["tag"]), context["expected_tags"].replace("'", "").split(", ")
            )
        case "literal_error" if detail["loc"][-1] == "[key]":
            return suggest(str(detail["input"]), KNOBS)
        case "literal_error":
            known = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return suggest(str(detail["input"]), known)
        case _:
            return ""


def _siblings(loc: tuple[str | int, ...]) -> set[str]:
    """Return the keys that are allowed where the unknown one stands."""
    here: list[type[BaseModel]] = [StudySpec]
    for part in loc[:-1]:
        named = [m for m in here for m in [m] if isinstance(part, str) and part in m.model_fields]
        if named:
            field = named[0].model_fields[str(part)]
            here = list(_models_in(field.annotation))
        else:  # the tag of a union, or an index
            tagged = [m for m in here if _tag(m) == part]
            here = tagged or here
    return {name for model in here for name in model.model_fields}


def _tag(model: type[BaseModel]) -> str | None:
    for key in ("kind", "type"):
        if key in model.model_fields:
            return str(get_args(model.model_fields[key].annotation)[0])
    return None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            yield from _models(inner)
