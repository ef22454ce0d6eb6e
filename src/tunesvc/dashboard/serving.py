"""The dashboard's process: requests, and the reports' summaries, each in threads of their own.

Why: 2026-11: requests are answered in a thread, and the main one looks for a signal. Raised as an
exception wherever the signal comes, it was lost in libraries that catch everything: while they
were being imported, and in the server's loop.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from tunesvc import interrupt, processes, study
from tunesvc.dashboard.guard import Guard, Site
from tunesvc.dashboard.listening import Listening
from tunesvc.dashboard.pages import Pages
from tunesvc.dashboard.proxy import BehindProxy
from tunesvc.dashboard.roster import Roster
from tunesvc.report import pictures
from tunesvc.report.kept import PATIENCE
from tunesvc.report.posting import post
from tunesvc.storage import Store, open_store

log = logging.getLogger(__name__)

THREADS, CONNECTIONS = 16, 9  # a browser that looks at pictures has six threads draw
STOP_SECONDS = 0.1  # at most, until a signal is heard
POST_SECONDS = 15  # between two looks for trials that have ended
LONGEST_REQUEST = 2**20  # bytes; a note is the longest thing that anybody sends
LONGEST_HEADERS = 2**15


def serve(storage: str | None, where: Listening) -> None:
    """Serve until interrupted, or until the `up` that started it is gone."""
    processes.end_with_parent()
    with interrupt.deferred(), open_store(storage, connections=CONNECTIONS) as store:
        answers = server(store, where)
        answering = threading.Thread(target=answers.run, daemon=True)
        answering.start()
        threading.Thread(target=_post, args=(store,), daemon=True).start()
        try:
            while answering.is_alive():
                interrupt.check()
                time.sleep(STOP_SECONDS)
        finally:
            pictures.finish()


def server(store: Store, where: Listening) -> Any:
    """Return waitress's server of the whole site, guarded as it must be where it listens."""
    import waitress

    roster = Roster(where.users) if where.users else None
    guarded: Site = Guard(Pages(store), store, roster, where.port, is_tls=where.is_tls)
    return waitress.create_server(
        BehindProxy(guarded, where.proxy) if where.proxy else guarded,
        host=where.host.strip("[]"),
        port=where.port,
        threads=THREADS,
        ident="tunesvc",
        max_request_body_size=LONGEST_REQUEST,
        max_request_header_size=LONGEST_HEADERS,
        clear_untrusted_proxy_headers=where.proxy is None,  # else `BehindProxy` does
    )


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
