"""Whoever asks a site for something, with the cookies that it was given."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlencode


@dataclass(frozen=True)
class Answer:
    """What a site answered; redirections are not followed."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Visitor:
    """One browser, or one script.

    Args:
        address: HOST:PORT.
        token: sent with every request, as a script does.
        tls: how a certificate is checked; None: plain HTTP.
    """

    address: str
    token: str | None = None
    tls: ssl.SSLContext | None = None
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, method: str = "GET", form: dict[str, str] | None = None) -> Answer:
        """Send a request, as made on a page of the site itself."""
        scheme = "https" if self.tls else "http"
        headers = {"Origin": f"{scheme}://{self.address}"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = self._connected()
        connection.request(method, path, body, headers)
        told = connection.getresponse()
        answer = Answer(told.status, told.headers, told.read())
        connection.close()
        for cookie in told.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def _connected(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection(self.address, timeout=60)
        return http.client.HTTPSConnection(self.address, timeout=60, context=self.tls)

    def log_in(self, name: str, password: str) -> Answer:
        """Send the form of the login page."""
        return self.ask("/login", "POST", {"name": name, "password": password})
