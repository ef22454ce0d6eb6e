"""The picture: one panel for each case, medians as lines, quartiles as bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from costs.curves import Pair, Sampler

WIDTH, HEIGHT = 420, 270  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 44, 40
INK, PAPER, GRID = "#222", "#fff", "#ddd"
COLOURS = {"plain": "#777", "cost-aware": "#0b6bcb"}


def svg(pairs: Sequence[Pair]) -> str:
    """Return the picture of all pairs, two panels side by side."""
    rows = (len(pairs) + 1) // 2
    width, height = 2 * WIDTH, rows * HEIGHT + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        "<title>Best validation accuracy so far over seconds, plain and cost-aware TPE</title>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]
    for index, each in enumerate(pairs):
        x, y = index % 2 * WIDTH, index // 2 * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(each), "</g>"]
    parts += [*_legend(rows * HEIGHT + 14), "</svg>", ""]
    return "\n".join(parts)


class _Frame:
    """Seconds and values → places in a panel."""

    def __init__(self, pair: Pair) -> None:
        known = [v for s in (pair.plain, pair.aware) for v in (*s.low, *s.high) if v is not None]
        later = [v for s in (pair.plain, pair.aware) for v in s.low[len(s.low) // 6 :] if v]
        self.low, self.high = min(later, default=min(known)), max(known)
        self.low -= 0.05 * (self.high - self.low)
        self.high += 0.05 * (self.high - self.low)
        self.seconds = pair.seconds

    def x(self, seconds: float) -> float:
        """Return how far right."""
        return round(LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return how far down; what is below the panel lies on its edge."""
        share = (max(value, self.low) - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _panel(pair: Pair) -> Iterator[str]:
    frame = _Frame(pair)
    yield f'<text x="{LEFT}" y="18" font-weight="600">{pair.title}</text>'
    seeds = len(pair.plain.final)
    yield f'<text x="{LEFT}" y="34" fill="#666">accuracy so far; {seeds} seeds, quartiles</text>'
    for step in range(5):
        value = frame.low + (frame.high - frame.low) * step / 4
        y = frame.y(value)
        yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.3f}</text>'
    for step in range(5):
        seconds = pair.seconds * step / 4
        yield (
            f'<text x="{frame.x(seconds)}" y="{HEIGHT - BOTTOM + 17}" '
            f'text-anchor="middle">{seconds:.0f} s</text>'
        )
    for name, sampler in (("plain", pair.plain), ("cost-aware", pair.aware)):
        yield from _curve(frame, pair.grid, sampler, COLOURS[name])


def _curve(frame: _Frame, grid: Sequence[float], sampler: Sampler, colour: str) -> Iterator[str]:
    band = [
        (x, low, high)
        for x, low, high in zip(grid, sampler.low, sampler.high, strict=True)
        if low is not None and high is not None
    ]
    if band:
        upper = [f"{frame.x(x)} {frame.y(high)}" for x, _, high in band]
        lower = [f"{frame.x(x)} {frame.y(low)}" for x, low, _ in reversed(band)]
        yield f'<path d="M{"L".join(upper + lower)}Z" fill="{colour}" fill-opacity="0.16"/>'
    points = zip(grid, sampler.middle, strict=True)
    for is_known, run in groupby(points, key=lambda point: point[1] is not None):
        if is_known:
            line = "L".join(f"{frame.x(x)} {frame.y(v)}" for x, v in run if v is not None)
            yield f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _legend(y: int) -> Iterator[str]:
    for index, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + 130 * index
        yield f'<path d="M{x} {y}h26" stroke="{colour}" stroke-width="3"/>'
        yield f'<text x="{x + 32}" y="{y + 4}">{name} TPE</text>'
