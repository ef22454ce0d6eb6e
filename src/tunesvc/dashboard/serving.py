"""The dashboard's process: requests, and the reports' summaries, each in threads of their own.

Why: 2026-11: requests are answered in a thread, and the main one looks for a signal. Raised as an
exception wherever the signal comes, it was lost in libraries that catch everything: while they
were being imported, and in the server's loop.
"""

from __future__ import annotations

import logging
import threading
import time

from tunesvc import interrupt, processes, study
from tunesvc.dashboard.pages import Pages
from tunesvc.dashboard.ports import HOST
from tunesvc.report.kept import PATIENCE
from tunesvc.report.posting import post
from tunesvc.storage import Store, open_store

log = logging.getLogger(__name__)

THREADS = 8
STOP_SECONDS = 0.1  # at most, until a signal is heard
POST_SECONDS = 15  # between two looks for trials that have ended


def serve(storage: str | None, port: int) -> None:
    """Serve until interrupted, or until the `up` that started it is gone."""
    processes.end_with_parent()
    with interrupt.deferred():
        import waitress

        with open_store(storage, connections=THREADS + 1) as store:
            server = waitress.create_server(Pages(store), host=HOST, port=port, threads=THREADS)
            answering = threading.Thread(target=server.run, daemon=True)
            answering.start()
            threading.Thread(target=_post, args=(store,), daemon=True).start()
            while answering.is_alive():
                interrupt.check()
                time.sleep(STOP_SECONDS)


def _post(store: Store) -> None:
    """Post the summary of every study again and again, where trials have ended since.

    Why: 2026-11: trials may end every few seconds, and measuring thousands takes some. A study is
    left alone for twenty times as long as its last summary took.
    """
    rests: dict[str, float] = {}
    silent: set[str] = set()  # studies whose trouble was told
    while True:
        try:
            names = study.names(store)
        except Exception as error:  # the database is away
            log.info("summaries wait: %s", error)
            names = []
        for name in names:
            began = time.monotonic()
            try:
                if began >= rests.get(name, 0.0):
                    _post_one(store, name)
                    silent.discard(name)
            except Exception as error:  # deleted meanwhile, stored by another version, …
                log.log(logging.INFO if name in silent else logging.WARNING,
                        "no summary of %s: %s", name, error)  # fmt: skip
                silent.add(name)
            if began >= rests.get(name, 0.0):
                rests[name] = began + PATIENCE * (time.monotonic() - began)
        time.sleep(POST_SECONDS)


def _post_one(store: Store, name: str) -> None:
    opened = study.open_study(store, name)
    if opened.spec.sampler.kind != "given":  # what confirms a study is told in that one's report
        post(opened)
