"""pydantic's complaints → lines that name file, line, column, key, and the cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunesvc.errors import SpecError, suggest
from tunesvc.spec.knobs import KNOBS
from tunesvc.spec.yaml_file import Document

KeyPath = tuple[str | int, ...]

_PLAIN = {
    "missing": "is missing",
    "invalid_key": "a key must be a word",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}
_SELF_EVIDENT = {"missing", "invalid_key", "too_short"}  # need no "and is …"

_ANY_SCALAR = {"true or false", "a whole number", "a number", "text"}

# Other tools' names for our knobs, too far from them in letters for a likeness to be found.
_ELSEWHERE = {
    "learning_rate": "lr",
    "learningRate": "lr",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "bs": "batch_size",
    "scheduler": "schedule",
}

_FORMS = {  # of words that a key may hold
    "name": "may hold letters, digits and . _ + - only, 200 at most",
    "keep": "must be all, or best-K such as best-3",
}


def spec_error(
    error: ValidationError, document: Document, path: str, model: type[BaseModel]
) -> SpecError:
    """Return all of the mistakes as one error, in the order in which they stand in the file."""
    found: dict[KeyPath, list[str]] = {}
    for detail in error.errors(include_url=False):
        keys = _keys(detail, document)
        found.setdefault(keys, []).append(_message(detail, keys, model))
    lines = [
        (
            _position(keys, document),
            f"{'.'.join(map(str, keys)) or 'the file'}: {_merged(messages)}",
        )
        for keys, messages in found.items()
        if not (_has_inner(keys, found) and messages == ["must not be empty"])
    ]
    return SpecError("\n".join(f"{_where(path, at)}: {text}" for at, text in sorted(lines)))


def _keys(detail: ErrorDetails, document: Document) -> KeyPath:
    """Keep of pydantic's location what stands in the file: not the tags of unions.

    A key that is missing stands nowhere; it is kept for its name.
    """
    loc = tuple(str(part) if detail["type"] == "invalid_key" else part for part in detail["loc"])
    unseen: KeyPath = loc[-1:] if detail["type"] == "missing" else ()
    if detail["type"] == "union_tag_invalid":
        loc = (*loc, _discriminator(detail["ctx"]))
    kept = next(
        keys
        for length in range(len(loc), -1, -1)
        for keys in reversed(list(combinations(loc, length)))
        if keys in document.positions
    )
    return (*kept, *unseen)


def _position(keys: KeyPath, document: Document) -> tuple[int, int]:
    while keys not in document.positions:
        keys = keys[:-1]
    return document.positions[keys]


def _where(path: str, position: tuple[int, int]) -> str:
    line, column = position
    return f"{path}:{line}:{column}" if line else "--set"


def _has_inner(keys: KeyPath, found: Mapping[KeyPath, Any]) -> bool:
    return any(other[: len(keys)] == keys and other != keys for other in found)


def _merged(messages: list[str]) -> str:
    """Join what the branches of a union say about one value."""
    distinct = list(dict.fromkeys(messages))
    wanted = [message.removeprefix("must be ").partition(", and is ")[0] for message in distinct]
    if len(distinct) == 1 or not all(message.startswith("must be ") for message in distinct):
        return "; ".join(distinct)
    if set(wanted) >= _ANY_SCALAR:
        wanted = ["a single value", *(want for want in wanted if want not in _ANY_SCALAR)]
    return f"must be {' or '.join(wanted)}, and is {distinct[0].partition(', and is ')[2]}"


def _message(detail: ErrorDetails, keys: KeyPath, model: type[BaseModel]) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(detail["loc"], model)
        case "union_tag_invalid":
            return _unknown_tag(detail["ctx"], keys)
        case "union_tag_not_found":
            return _no_tag(detail, model)
        case "literal_error":
            return _unknown_word(detail, keys)
        case "value_error":
            return detail["msg"].removeprefix("Value error, ")
        case kind:
            plain = _PLAIN.get(kind) or "must " + detail["msg"].removeprefix("Input should ")
            plain = _FORMS[_last_word(keys)] if kind == "string_pattern_mismatch" else plain
            is_shown = kind not in _SELF_EVIDENT
            return f"{plain}, and is {_shown(detail['input'])}" if is_shown else plain


def _shown(value: Any) -> str:
    if value is None:
        return "empty (null)"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _unknown_key(loc: KeyPath, model: type[BaseModel]) -> str:
    wrong = str(loc[-1])
    known = {name for here in _models_at(loc[:-1], model) for name in here.model_fields}
    homes = [] if loc[1:] else _homes(wrong, model)
    return f"unknown key, {_likely(homes[0]) if homes else suggest(wrong, known)}"


def _likely(name: str) -> str:
    return f"did you mean {name!r}?"


def _homes(key: str, model: type[BaseModel]) -> list[str]:
    """Return where a key that stands at the top by mistake belongs: `epochs` → `budget.epochs`."""
    inner = [
        f"{name}.{key}"
        for name, field in model.model_fields.items()
        for part in _models_in(field.annotation)
        if key in part.model_fields and key not in ("name", "label")
    ]
    knob = _ELSEWHERE.get(key, key)
    return inner or ([f"search_space.{knob}"] if knob in KNOBS else [])


def _unknown_tag(context: Mapping[str, Any], keys: KeyPath) -> str:
    known = context["expected_tags"].replace("'", "").split(", ")
    return f"unknown {_noun(keys, context)} {context['tag']!r}, {suggest(context['tag'], known)}"


def _no_tag(detail: ErrorDetails, model: type[BaseModel]) -> str:
    known = sorted(filter(None, map(_tag, _models_at(detail["loc"], model))))
    return f"`{_discriminator(detail['ctx'])}` is missing; known: {', '.join(known)}"


def _unknown_word(detail: ErrorDetails, keys: KeyPath) -> str:
    wrong = str(detail["input"])
    if detail["loc"][-1] == "[key]":
        known_as = _ELSEWHERE.get(wrong)
        return f"unknown knob, {_likely(known_as) if known_as else suggest(wrong, KNOBS)}"
    known = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
    return f"unknown {_last_word(keys)} {detail['input']!r}, {suggest(wrong, known)}"


def _discriminator(context: Mapping[str, Any]) -> str:
    return str(context["discriminator"]).strip("'")


def _noun(keys: KeyPath, context: Mapping[str, Any]) -> str:
    if _discriminator(context) == "type":
        return "type of range"
    outer = keys[:-1] if keys[-1:] == ("kind",) else keys
    return "kind of data" if outer == ("data",) else _last_word(outer)


def _last_word(keys: KeyPath) -> str:
    return next((part for part in reversed(keys) if isinstance(part, str)), "value")


def _models_at(loc: KeyPath, model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that may stand at a location of pydantic's."""
    here = [model]
    for part in loc:
        fields = [m.model_fields[str(part)] for m in here if part in m.model_fields]
        if fields:
            here = list(_models_in(fields[0].annotation))
        else:  # the tag of a union, a knob, or an index
            here = [m for m in here if part in (_tag(m), m.__name__)] or here
    return here


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
