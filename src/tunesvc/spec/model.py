"""What the parts of study files have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Model(BaseModel):
    """A part of the study file: frozen, and no key but the listed ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def short(key: str, form: Any) -> BeforeValidator:
    """Accept a bare word for a mapping whose only needed key is `key`.

    `form` is what editors are told that one may write, a type.
    """
    return BeforeValidator(
        lambda value: {key: value} if isinstance(value, str) else value, json_schema_input_type=form
    )
