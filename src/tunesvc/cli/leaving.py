"""The end of a process that has loaded torch, without the two seconds that Python takes for it.

Why: 2026-11: Python takes the million objects that come with torch apart one by one before it ends,
and nobody needs that: measured 1.8 to 2.2 s after the last line of a worker, of `check` and of
`predict`, and 0.1 s with this. Mypy ends so, too.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading


def leave(code: int) -> None:
    """End the process with this code, if nothing is left to be done but to free its memory.

    What `atexit` knows of is done, and what Python printed is out; a file that somebody left open
    is not written to the end. Comes back where little was loaded, a thread is still at work, or
    nobody takes what was printed: then Python's own way out is the right one.
    """
    if not gc.get_freeze_count() or _is_at_work():  # frozen: see `heap`
        return
    atexit._run_exitfuncs()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed since the start
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


def _is_at_work() -> bool:
    """Whether a thread is left that Python would wait for."""
    others = set(threading.enumerate()) - {threading.current_thread()}
    return any(not thread.daemon for thread in others)
