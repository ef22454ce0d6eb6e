"""An evaluation as a picture: the confusion matrix, or predicted against true numbers.

evaluation ─ draw ─▶ Drawing: boxes, dots, lines and words ─ svg, png, html ─▶ a file

Why: 2026-11: SVG by hand and PNG by Pillow, which reads the images already. Plotly's way to a PNG
needs a browser.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tunesvc.errors import UsageError
from tunesvc.exported.measure import Evaluation
from tunesvc.shelf import whole

_INK, _PALE, _BLUE = (34, 34, 34), (247, 251, 255), (8, 81, 156)
_LETTERS = 22  # of a class's name
_SCALE = 2  # of a PNG's pixels
_SIDE = 420.0

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: Colour


@dataclass(frozen=True)
class Word:
    """Text whose middle line is at `y`; an upright one reads from below to above at `x`."""

    x: float
    y: float
    text: str
    size: float
    anchor: Literal["start", "middle", "end"] = "middle"
    fill: Colour = _INK
    is_upright: bool = False


@dataclass(frozen=True)
class Dot:
    """A small disc."""

    x: float
    y: float
    radius: float
    fill: Colour


@dataclass(frozen=True)
class Line:
    """A thin line."""

    x: float
    y: float
    to_x: float
    to_y: float


@dataclass
class Drawing:
    """What is drawn, in units of a pixel; later parts lie over earlier ones."""

    width: float
    height: float
    title: str
    parts: list[Box | Word | Dot | Line] = field(default_factory=list)


def draw(evaluation: Evaluation, title: str) -> Drawing:
    """Return the picture of an evaluation: what classes are taken for, or which numbers."""
    if evaluation.confusion is not None:
        return _matrix(evaluation, title)
    return _scatter(evaluation, title)


def _matrix(evaluation: Evaluation, title: str) -> Drawing:
    """Rows are the true classes; the colour is the share of the row, the number counts images."""
    counts = evaluation.confusion
    assert counts is not None
    names = [_short(name) for name in evaluation.classes]
    cell = min(60.0, max(9.0, _SIDE / len(names)))
    letters = min(13.0, max(5.0, cell * 0.8))
    longest, top = 0.6 * letters * max(map(len, names)), 44.0
    margin, side = 46 + longest, cell * len(names)
    width = max(margin + side + 24, 32 + 8 * len(title))
    drawing = Drawing(width, top + side + longest + 44, title)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(names):
        y = top + row * cell
        drawing.parts.append(Word(margin - 6, y + cell / 2, name, letters, "end"))
        for column in range(len(names)):
            x, share = margin + column * cell, float(shares[row, column])
            drawing.parts.append(Box(x, y, cell - 1, cell - 1, _shade(share)))
            if cell >= 16 and counts[row, column]:
                ink = _PALE if share > 0.55 else _INK
                number = f"{counts[row, column]}"
                size = min(letters, 1.5 * cell / len(number))
                drawing.parts.append(Word(x + cell / 2, y + cell / 2, number, size, "middle", ink))
    for column, name in enumerate(names):
        x = margin + column * cell + cell / 2
        drawing.parts.append(Word(x, top + side + 6, name, letters, "end", is_upright=True))
    drawing.parts += [
        Word(16, 20, title, 15, "start"),
        Word(16, top + side / 2, "true", 13, is_upright=True),
        Word(margin + side / 2, drawing.height - 14, "predicted", 13),
    ]
    return drawing


def _scatter(evaluation: Evaluation, title: str) -> Drawing:
    """A dot for each image with numbers; the line is where both are the same."""
    assert evaluation.points is not None
    points = evaluation.points[np.isfinite(evaluation.points).all(axis=1)]
    left, top = 86.0, 44.0
    drawing = Drawing(left + _SIDE + 30, top + _SIDE + 64, title)
    low, high = (float(points.min()), float(points.max())) if len(points) else (0.0, 1.0)
    span = (high - low) or 1.0

    def across(value: float) -> float:
        return left + (value - low) / span * _SIDE

    def down(value: float) -> float:
        return top + _SIDE - (value - low) / span * _SIDE

    drawing.parts.append(Box(left, top, _SIDE, _SIDE, _PALE))
    drawing.parts.append(Line(left, top + _SIDE, left + _SIDE, top))
    for true, said in points.tolist():
        drawing.parts.append(Dot(across(true), down(said), 2.5, _BLUE))
    for value in np.linspace(low, high, 5).tolist():
        drawing.parts.append(Word(across(value), top + _SIDE + 16, f"{value:.4g}", 12))
        drawing.parts.append(Word(left - 8, down(value), f"{value:.4g}", 12, "end"))
    drawing.parts += [
        Word(16, 20, title, 15, "start"),
        Word(16, top + _SIDE / 2, "predicted", 13, is_upright=True),
        Word(left + _SIDE / 2, drawing.height - 16, "true", 13),
    ]
    return drawing


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _shade(share: float) -> Colour:
    red, green, blue = (
        round(pale + share * (full - pale)) for pale, full in zip(_PALE, _BLUE, strict=True)
    )
    return red, green, blue


def svg(drawing: Drawing) -> str:
    """Return a drawing as SVG."""
    size = f'width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    box = f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img">'
    lines = [head, f"<title>{escape(drawing.title)}</title>", *_elements(drawing), "</svg>"]
    return "\n".join(lines) + "\n"


def _elements(drawing: Drawing) -> Iterator[str]:
    yield '<rect width="100%" height="100%" fill="white"/>'
    for part in drawing.parts:
        match part:
            case Box(x, y, width, height, fill):
                where = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
                yield f'<rect {where} fill="{_hex(fill)}"/>'
            case Dot(x, y, radius, fill):
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{_hex(fill)}"/>'
            case Line(x, y, to_x, to_y):
                where = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
                yield f'<line {where} stroke="#888888"/>'
            case Word():
                yield _text(part)


def _text(word: Word) -> str:
    turned = f' transform="rotate(-90 {word.x:.1f} {word.y:.1f})"' if word.is_upright else ""
    return (
        f'<text x="{word.x:.1f}" y="{word.y:.1f}" font-size="{word.size:.1f}" '
        f'font-family="sans-serif" text-anchor="{word.anchor}" dominant-baseline="central" '
        f'fill="{_hex(word.fill)}"{turned}>{escape(word.text)}</text>'
    )


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{each:02x}" for each in colour)


def png(drawing: Drawing) -> Image.Image:
    """Return a drawing as an image, of twice as many pixels on each side."""
    width, height = (round(_SCALE * side) for side in (drawing.width, drawing.height))
    image = Image.new("RGB", (width, height), "white")
    brush = ImageDraw.Draw(image)
    for part in drawing.parts:
        match part:
            case Box(x, y, width_, height_, fill):
                brush.rectangle(_scaled(x, y, x + width_, y + height_), fill=fill)
            case Dot(x, y, r, fill):
                brush.ellipse(_scaled(x - r, y - r, x + r, y + r), fill=fill)
            case Line(x, y, to_x, to_y):
                brush.line(_scaled(x, y, to_x, to_y), fill=(136, 136, 136), width=_SCALE)
            case Word():
                _write_word(image, brush, part)
    return image


def _scaled(*values: float) -> list[float]:
    return [_SCALE * value for value in values]


def _write_word(image: Image.Image, brush: ImageDraw.ImageDraw, word: Word) -> None:
    font = ImageFont.load_default(_SCALE * word.size)
    anchor = {"start": "lm", "middle": "mm", "end": "rm"}[word.anchor]
    x, y = _scaled(word.x, word.y)
    if not word.is_upright:
        brush.text((x, y), word.text, font=font, fill=word.fill, anchor=anchor)
        return
    left, top, right, bottom = (round(side) for side in font.getbbox(word.text, anchor="lm"))
    letters = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(letters).text((-left, -top), word.text, font=font, fill=255, anchor="lm")
    turned = letters.rotate(90, expand=True)
    above = {"start": turned.height, "middle": turned.height // 2, "end": 0}[word.anchor]
    image.paste(word.fill, (round(x) - turned.width // 2, round(y) - above), turned)


def write(drawing: Drawing, path: Path, table: str = "") -> None:
    """Write a picture, of the kind that the name ends in.

    Args:
        table: lines of text to stand below it in a page (.html).

    Raises:
        UsageError: the name ends in something else.
        StorageError: it cannot be written.
    """
    suffix = check(path)
    with whole(path) as file:
        if suffix == ".png":
            png(drawing).save(file, "PNG")
        else:
            text = svg(drawing) if suffix == ".svg" else _page(drawing, table)
            file.write(text.encode(errors="replace"))


def check(path: Path) -> str:
    """Return a picture's kind: .png, .svg or .html.

    Raises:
        UsageError: the name ends in something else.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg", ".html"):
        raise UsageError(
            f"{path}: no such kind of picture", "", "let the name end in .png, .svg or .html"
        )
    return suffix


def _page(drawing: Drawing, table: str) -> str:
    below = f"<pre>{escape(table)}</pre>\n" if table else ""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{escape(drawing.title)}</title>\n{svg(drawing)}{below}</html>\n"
    )
