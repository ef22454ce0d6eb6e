"""Names are found late, misspellings answered, duplicates refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from tunesvc import plugins
from tunesvc.errors import UnknownNameError, UsageError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """A list of the entry points that are installed, to be filled by the test."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [e for e in entries if e.group == group]
    )
    plugins.paths.cache_clear()
    yield entries
    plugins.paths.cache_clear()


def test_a_plugin_is_loaded_by_its_name(installed: list[EntryPoint]) -> None:
    """An installed package's object is found beside the built-in ones."""
    installed.append(EntryPoint("ordered", "collections:OrderedDict", "tunesvc.backbone"))
    from collections import OrderedDict

    assert plugins.load("backbone", "ordered") is OrderedDict
    assert set(plugins.BUILT_IN["backbone"]) < set(plugins.paths("backbone"))


def test_other_kinds_do_not_see_it(installed: list[EntryPoint]) -> None:
    """A backbone's name is no task's name."""
    installed.append(EntryPoint("ordered", "collections:OrderedDict", "tunesvc.backbone"))
    assert "ordered" not in plugins.paths("task")


@pytest.mark.parametrize("name", ["ordered", "tiny_resnet"])
def test_two_plugins_of_one_name(installed: list[EntryPoint], name: str) -> None:
    """A name that two packages claim is refused, and both are named; also a built-in one."""
    installed.append(EntryPoint(name, "one:A", "tunesvc.backbone"))
    installed.append(EntryPoint(name, "two:B", "tunesvc.backbone"))
    with pytest.raises(UsageError, match="one:A") as caught:
        plugins.paths("backbone")
    assert name in caught.value.what


def test_the_same_package_found_twice(installed: list[EntryPoint]) -> None:
    """A package that stands on the path twice (editable and installed) claims nothing twice."""
    installed.extend([EntryPoint("x", "one:A", "tunesvc.task")] * 2)
    assert plugins.paths("task")["x"] == "one:A"


def test_a_misspelling() -> None:
    """An unknown name is answered with a close one."""
    with pytest.raises(UnknownNameError) as caught:
        plugins.load("task", "image-clasification")
    assert str(caught.value) == (
        "unknown task 'image-clasification'\n  why: did you mean 'image-classification'?"
    )


@pytest.mark.parametrize("value", ["no_such_module:A", "collections:NoSuchThing"])
def test_a_plugin_that_cannot_be_imported(installed: list[EntryPoint], value: str) -> None:
    """It is told which one, why, and whom to ask; a traceback would look like a bug of ours."""
    installed.append(EntryPoint("broken", value, "tunesvc.task"))
    with pytest.raises(UsageError, match="the task 'broken' cannot be imported") as caught:
        plugins.load("task", "broken")
    assert value in caught.value.why


def test_naming_loads_nothing() -> None:
    """Looking names up imports no torch: `tunesvc --help` stays fast."""
    code = (
        "import sys; from tunesvc import plugins; plugins.paths('task'); plugins.paths('backbone');"
        "assert not {'torch', 'tunesvc.tasks'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", sorted(plugins.BUILT_IN))
def test_every_built_in_can_be_loaded(kind: str) -> None:
    """What the table of built-ins names exists."""
    for name in plugins.BUILT_IN[kind]:
        assert plugins.load(kind, name) is not None
