"""Every error has three parts, an exit code, and survives the way between processes."""

from __future__ import annotations

import pickle
import re

import pytest

from tunesvc import errors
from tunesvc.errors import TuneError, suggest

CODES = {
    "TuneError": 1,
    "UsageError": 2,
    "SpecError": 2,
    "UnknownNameError": 2,
    "StudyError": 2,
    "StorageError": 3,
    "DataError": 4,
    "WeightsError": 4,
    "TrainingError": 5,
}


def test_exit_codes() -> None:
    """Each error ends in the exit code that the tree in the module's docstring draws."""
    found = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, TuneError)
    }
    assert found == CODES
    drawn = re.findall(r"(\w+Error) +(\d)", errors.__doc__ or "")
    assert {name: int(code) for name, code in drawn} == CODES


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (("it broke",), "it broke"),
        (("it broke", "old"), "it broke\n  why: old"),
        (("it broke", "", "mend it"), "it broke\n  fix: mend it"),
        (("it broke", "old", "mend it"), "it broke\n  why: old\n  fix: mend it"),
    ],
)
def test_message(parts: tuple[str, ...], shown: str) -> None:
    """A message shows the parts that it has, each on its own line."""
    assert str(TuneError(*parts)) == shown


def test_pickle() -> None:
    """An error that crosses processes keeps its kind, its parts and its text."""
    error = errors.DataError("no images", "the folder is empty", "fill it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.DataError
    assert (again.what, again.why, again.fix) == (error.what, error.why, error.fix)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("wrong", "known", "shown"),
    [
        ("resnet81", ["resnet18", "vgg16"], "did you mean 'resnet18'?"),
        ("zzz", ["b", "a"], "known: a, b"),
        ("zzz", [f"n{i:02}" for i in range(41)], "n39, … (41 in all)"),
    ],
)
def test_suggest(wrong: str, known: list[str], shown: str) -> None:
    """A close name is proposed; without one the known names are listed, at most forty."""
    assert suggest(wrong, known).endswith(shown)
