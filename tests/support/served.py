"""The dashboard behind a real server on this machine, and somebody who asks it over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tunesvc.dashboard.listening import Listening
from tunesvc.dashboard.serving import server
from tunesvc.storage import Store

HTML = {"Accept": "text/html"}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


class Client:
    """Somebody with a browser's cookies, if he logs in."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie = port, ""
        self.origin = {"Origin": f"http://127.0.0.1:{port}"}

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: str = ""
    ) -> Answer:
        """Send a request with the cookie that was given."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        cookie = {"Cookie": self.cookie} if self.cookie else {}
        try:
            connection.request(method, path, body.encode() or None, cookie | (headers or {}))
            found = connection.getresponse()
            told = {name.lower(): value for name, value in found.getheaders()}
            answer = Answer(found.status, told, found.read().decode())
        finally:
            connection.close()
        for name, morsel in SimpleCookie(told.get("set-cookie", "")).items():
            self.cookie = f"{name}={morsel.value}" if morsel.value else ""
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """Look at something, as a person with a browser."""
        return self.ask("GET", path, HTML | headers)

    def change(self, method: str, path: str, body: str = "{}", **headers: str) -> Answer:
        """Change something, as a page of the dashboard does."""
        return self.ask(
            method, path, {"Content-Type": "application/json"} | self.origin | headers, body
        )

    def login(self, name: str, password: str, following: str = "", **headers: str) -> Answer:
        """Send the form."""
        form = urlencode({"name": name, "password": password, "next": following})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", "/login", kind | self.origin | headers, form)


@contextmanager
def served(store: Store, users: Path | None, **where: Any) -> Iterator[int]:
    """Serve the dashboard while the context lasts; yield its port."""
    made = server(store, Listening("127.0.0.1", 0, users, **where))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        yield made.effective_port
    finally:
        made.trigger.pull_trigger(made._map.clear)  # its loop ends: nothing is left to wait for
        thread.join(timeout=30)
        assert not thread.is_alive()
        made.task_dispatcher.shutdown()
        for channel in list(made.active_channels.values()):  # browsers keep connections
            channel.handle_close()
        made.close()
