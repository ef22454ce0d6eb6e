"""A report as one HTML page that needs nothing else, as Markdown, or a short note of it.

The page works from `file://` and without a network. Its content security policy lets run only the
two scripts that it was made with, told by their hashes: a study's or a backbone's name, and the
reason of a failed trial, are text of strangers, and would not run even if they were not escaped.

Why: 2026-11: styles may stand inline ('unsafe-inline'), for plotly sets them on what it draws.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from math import isnan

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tunesvc import __version__
from tunesvc.report import wording
from tunesvc.report.document import Item, Report, Told

PLOTLY = "plotly.min.js"  # shared by the pages of one folder
_SPECIAL = re.compile(r"([\\`*\[\]|])")


def html(report: Report, *, shared: bool = False, others: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page.

    Args:
        shared: the drawing library lies beside the page, as `PLOTLY`, in place of inside it.
        others: names and addresses of pages to link to.
    """
    script = Markup(_file("page.js").strip())
    is_drawn = any(told.figure for told in report.sections)
    return _environment().get_template("page.html.j2").render(
        **_words(report),
        others=others,
        style=Markup(_file("page.css")),
        script=script,
        drawn=is_drawn,
        shared=PLOTLY if shared else "",
        plotly=Markup(drawing_library()) if is_drawn and not shared else "",
        policy=_policy(script, shared=shared) if is_drawn else _policy("", shared=False),
    )  # fmt: skip


def markdown(report: Report, *, short: bool = False) -> str:
    """Return the same facts as Markdown; `short`: only the answer and what to tune."""
    template = _environment().get_template("report.md.j2")
    return template.render(**_words(report), short=short)


@cache
def drawing_library() -> str:
    """Return plotly.js, minified, about 5 MB."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _words(report: Report) -> dict[str, object]:
    return {
        "report": report,
        "facts": _facts(report),
        "no_advice": _no_advice(report),
        "footer": f"Made {report.made} by tunesvc {__version__}. {report.remark}",
    }


def _facts(report: Report) -> str:
    names = {"complete": "finished", "fail": "failed"}
    counts = [
        f"{number:,} {names.get(state, state)}"
        for state, number in report.trials.items()
        if state != "all"
    ]
    of_which = f": {wording.row(counts)}" if counts else ""
    towards = f"{report.metric}, to {report.direction}"
    return f"{wording.count(report.trials.get('all', 0), 'trial')}{of_which}. Objective: {towards}."


def _no_advice(report: Report) -> str:
    known = {told.key: told.why for told in report.sections}
    why = known.get("importance") or known.get("across")
    return f"No advice yet. {why}" if why else "No advice yet."


def _policy(script: str, *, shared: bool) -> str:
    """Return the page's content security policy."""
    scripts = [_hash(script)] if script else []
    if scripts:
        scripts.append("'self' file:" if shared else _hash_of_library())
    allowed = " ".join(scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def _hash_of_library() -> str:
    return _hash(drawing_library())


def _hash(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("tunesvc.report"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "cell": cell,
        "command": _with_commands,
        "drawing": _drawing,
        "height": _height,
        "text": _text,
        "fenced": lambda code: code.replace("```", "'''"),
    }
    return made


def cell(item: Item) -> str:
    """Return a table's item in words: four digits, "–" for what is not known."""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, float):
        return wording.NONE if isnan(item) else _number(item)
    return wording.NONE if item is None else str(item)


def _number(item: float) -> str:
    return f"{item:,.0f}" if 1e4 <= abs(item) < 1e15 else f"{item:.4g}"


def _with_commands(words: str) -> Markup:
    """Return escaped words in which commands to type stand as code, and "5 %" on one line."""
    words = words.replace(" %", "\N{NO-BREAK SPACE}%")
    return Markup(wording.COMMAND.sub(lambda found: f"<code>{found[0]}</code>", str(escape(words))))


def _drawing(told: Told) -> Markup:
    """Return a picture's JSON such that nothing in it ends the element or opens another."""
    text = told.figure
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _height(told: Told) -> int:
    return int(json.loads(told.figure)["layout"]["height"])


def _text(words: object) -> str:
    """Return words that Markdown shows as they are, on one line."""
    plain = " ".join(str(words).split()).replace("<", "&lt;")
    return wording.COMMAND.sub(r"`\g<0>`", _SPECIAL.sub(r"\\\1", plain))


@cache
def _file(name: str) -> str:
    return files("tunesvc.report").joinpath("templates", name).read_text(encoding="utf-8")
