"""Many imports at once, without the garbage collector.

Why: 2026-11: torch and what it brings make a million objects that live as long as the process. The
collector looks through them again and again while they come, a fifth of the seconds that a worker
needs to start, and a quarter of a second at a time later on. So it waits until they are there, and
leaves them alone from then on.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported() -> Iterator[None]:
    """Collect nothing while the block imports, and never look at what it has made again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries complain of what is still there when Python ends
        if was_enabled:
            gc.enable()
