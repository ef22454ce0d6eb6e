"""What a worker loads, and how."""

from __future__ import annotations

import gc
import subprocess
import sys

from tunesvc.cli.heap import imported

_WORKER = """
import sys
from tunesvc.cli.heap import imported
with imported():
    import tunesvc.worker
print("pandas" in sys.modules)
"""


def test_garbage_is_collected_again_when_all_is_loaded() -> None:
    """What was made meanwhile is never looked at again, and what comes later is."""
    before = gc.get_freeze_count()
    try:
        with imported():
            assert not gc.isenabled()
            held = [[index] for index in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(held)
    finally:
        gc.unfreeze()


def test_a_worker_loads_no_pandas_and_ends_without_a_word() -> None:
    """Libraries that count their objects at the end would tell of each that was left alone."""
    done = subprocess.run(
        [sys.executable, "-c", _WORKER], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
