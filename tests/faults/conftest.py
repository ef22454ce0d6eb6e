"""The faults of `benchmarks/faults`, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from faults.ours import Ours


@pytest.fixture
def study(storage_url: str, tmp_path: Path) -> Callable[..., Ours]:
    """Make the toy study: `study(trials, epochs, **other keys of the file)`."""
    from faults import ours

    def make(trials: int, epochs: int = 3, **changed: Any) -> Ours:
        return ours.new(storage_url, tmp_path, trials, epochs, **changed)

    return make
