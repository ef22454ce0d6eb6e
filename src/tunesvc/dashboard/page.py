"""Our own pages: plain HTML that needs no script, and a bar that every page of the site has."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from tunesvc.dashboard.users import Role

CALLER = "tunesvc.caller"  # in a request's environment, where somebody is logged in
STYLES = ("/tunesvc/bar.css", "/tunesvc/page.css")


class Caller(NamedTuple):
    """Who sends a request."""

    name: str
    role: Role


def bar(environ: dict[str, Any], *, inline: bool = False) -> Markup:
    """Return the bar: where else to go, who is logged in, and a way out.

    Args:
        inline: with its style, for a page that does not link to it.
    """
    caller = environ.get(CALLER)
    style = Markup(style_sheet(STYLES[0])) if inline else ""
    return Markup(_template("bar.html.j2").render(caller=caller, style=style))


def html(title: str, body: Markup, environ: dict[str, Any]) -> bytes:
    """Return a page with the bar."""
    words = {"title": title, "body": body, "bar": bar(environ), "styles": STYLES}
    return _template("page.html.j2").render(words).encode()


def told(title: str, words: str, environ: dict[str, Any]) -> bytes:
    """Return a page that says something, line by line."""
    lines = Markup("").join(Markup("<p>{}</p>").format(line) for line in words.splitlines())
    return html(title, lines, environ)


def login(following: str, *, name: str = "", trouble: str = "") -> bytes:
    """Return the page on which people log in.

    Args:
        following: the path that they wanted to see.
        trouble: why it did not work.
    """
    words = {"following": following, "name": name, "trouble": trouble, "styles": STYLES}
    return _template("login.html.j2").render(words).encode()


@cache
def style_sheet(path: str) -> str:
    """Return one of `STYLES`."""
    name = path.rpartition("/")[2]
    return files("tunesvc.dashboard").joinpath("templates", name).read_text(encoding="utf-8")


def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    loader = PackageLoader("tunesvc.dashboard")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
