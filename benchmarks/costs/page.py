"""docs/cost-aware.md and its picture, from what was found; nobody edits them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from costs import picture, spaces
from costs.curves import Pair, Sampler
from costs.replay import BETWEEN, MOST
from costs.table import Table

ROOT = Path(__file__).resolve().parents[2]
PAGE, PICTURE = ROOT / "docs" / "cost-aware.md", ROOT / "docs" / "cost-aware.svg"
FOUND = ROOT / "benchmarks" / "cost_aware.found.json"

_HEAD = "| case | seconds | final, plain | final, cost-aware | seeds better / equal / worse | at half the time | to plain's final median | ratio | area | complete trials |"  # noqa: E501


def keep(part: str, pairs: Sequence[Pair], made: str) -> None:
    """Keep what was found in one part, `replay` or `live`, beside the other."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}
    known[part] = {"made": made, "pairs": [asdict(each) for each in pairs]}
    FOUND.write_text(json.dumps(known, sort_keys=True) + "\n", encoding="utf-8")


def write(table: Table) -> str:
    """Write page and picture from all that is kept; return the page."""
    known = json.loads(FOUND.read_text(encoding="utf-8"))
    replayed, live = (_pairs(known.get(part)) for part in ("replay", "live"))
    shown = [each for each in replayed if "asha" not in each.title] + live
    PICTURE.write_text(picture.svg(shown), encoding="utf-8")
    page = "\n".join(_page(table, known, replayed, live)) + "\n"
    PAGE.write_text(page, encoding="utf-8")
    return page


def _pairs(part: Mapping[str, Any] | None) -> list[Pair]:
    made = []
    for each in (part or {"pairs": []})["pairs"]:
        sides = {name: Sampler(**each[name]) for name in ("plain", "aware")}
        made.append(Pair(**(each | sides)))
    return made


def _page(
    table: Table, known: Mapping[str, Any], replayed: Sequence[Pair], live: Sequence[Pair]
) -> Iterator[str]:
    yield "# Cost-aware TPE beside plain TPE, at equal seconds\n"
    yield "`sampler: {kind: tpe, cost_aware: true}` draws what promises the most per second, by the"
    yield "seconds that the study's own trials took. Here it is beside the same sampler without."
    yield "Written by `python benchmarks/cost_aware.py`; nobody edits this page.\n"
    yield "![Best accuracy so far over seconds](cost-aware.svg)\n"
    yield "Lines are medians of the seeds, bands their quartiles.\n"
    yield from _verdict(replayed, live)
    yield "\n## Replayed\n"
    yield "Each configuration that a sampler draws is looked up in a table of configurations which"
    yield "were really trained once, and counts with the seconds and the accuracies that it had"
    yield "there: the nearest in its learning rate among those with the same choices. A repeated"
    yield "draw costs its seconds again. One worker, the next trial drawn while one runs, and"
    yield f"{BETWEEN} s between two; whoever has had {MOST} trials waits for the end. The untuned"
    yield "defaults and then the random trials, ten in all, are the same with both.\n"
    yield from _table(replayed)
    yield f"\n{known['replay']['made']}\n"
    yield from _about(table)
    yield "\n## Live\n"
    if live:
        yield "Real workers, real seconds, by the clock; every study from an empty home, so that"
        yield "both compute what they keep. The samplers take turns; their random beginnings"
        yield "differ, since seeds derive from the study's digest.\n"
        yield from _table(live)
        yield f"\n{known['live']['made']}"
    else:
        yield "Not run yet: `python benchmarks/cost_aware.py --live`, on a quiet machine."


def _verdict(replayed: Sequence[Pair], live: Sequence[Pair]) -> Iterator[str]:
    """Where it wins and where not: by area, beyond two standard errors; and at the end."""
    yield "## What came of it\n"
    for words, pairs in (("Replayed", replayed), ("Live", live)):
        if pairs:
            told = " ".join(_told(pairs))
            yield fill(f"- **{words}.** {told}", 100, subsequent_indent="  ")
    yield fill(
        "- What can be gained depends on the space: the share of the time that goes into the "
        "defaults and the random beginning is common to both, and once a study has spent a "
        "hundred times what its dearest trials cost, seconds hardly count any more. The part of "
        "the seconds spent that counts as nothing (1 %) was chosen on this same table; the live "
        "run had no part in it.",
        100,
        subsequent_indent="  ",
    )


def _told(pairs: Sequence[Pair]) -> Iterator[str]:
    won = [each.title for each in pairs if each.area > each.spread]
    lost = [each.title for each in pairs if each.area < -each.spread]
    level = [each.title for each in pairs if abs(each.area) <= each.spread]
    yield "Over the whole time cost-aware had the higher accuracy, by more than two standard"
    yield f"errors, in {len(won)} of {len(pairs)} cases."
    yield f"Lower: {'; '.join(lost) or 'in none'}."
    yield f"No difference that shows: {'; '.join(level) or 'in none'}."
    ends = [sum(counts) for counts in zip(*(each.ends for each in pairs), strict=True)]
    yield f"At the end {ends[0]} seeds were better, {ends[1]} equal, {ends[2]} worse;"
    behind = [
        f"{each.title} ({each.ends[0]} better, {each.ends[2]} worse)"
        for each in pairs
        if each.ends[2] >= each.ends[0]
    ]
    yield f"not ahead there: {'; '.join(behind) or 'in none'}."


def _table(pairs: Sequence[Pair]) -> Iterator[str]:
    yield _HEAD
    yield "|" + "---|" * _HEAD.count(" | ") + "---|"
    for each in pairs:
        finals = [_spread(side.final) for side in (each.plain, each.aware)]
        reach = [_seconds(side.reach) for side in (each.plain, each.aware)]
        ratio = (
            f"{each.plain.reach / each.aware.reach:.2f}"
            if each.plain.reach and each.aware.reach
            else "–"
        )
        cells = [
            each.title, f"{each.seconds:.0f}", *finals, _counts(each.ends), _counts(each.half),
            " → ".join(reach), ratio, f"{each.area:+.4f} ± {each.spread:.4f}",
            f"{each.plain.trials:.0f} → {each.aware.trials:.0f}",
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield "\nFinal: the best accuracy, median of the seeds (quartiles). To plain's final median:"
    yield "the seconds after which half of the seeds were so good, and how many times as fast it"
    yield "was cost-aware. Area: by how much the best accuracy so far was higher, a mean over all"
    yield "seconds and seeds (± two standard errors)."


def _about(table: Table) -> Iterator[str]:
    made = table.made
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    yield "The table (`benchmarks/cost_aware.json.gz`): random configurations, three epochs each,"
    yield "trained by `tunesvc worker` on an embedded Postgres, in seconds of the processor, since"
    yield "the machine had other work:\n"
    for name, case in spaces.CASES.items():
        rows = table.rows[name]
        seconds = [row.seconds for row in rows]
        least, most = np.quantile(seconds, [0.01, 0.99])
        yield (
            f"- **{name}**: {case.words}; {len(rows)} configurations, {sum(seconds):.0f} s; "
            f"{least:.3f} to {most:.1f} s a trial (the ratio of the 99th to the 1st hundredth: "
            f"{most / least:.0f}); best accuracy {max(row.epochs[-1][0] for row in rows):.4f}, by "
            f"strategy: {_by_strategy(table, name)}"
        )
    yield (
        f"\n{versions}; {made['platform']}, {made['cores']} cores, {made['threads']} thread a "
        f"worker, load {made['load'][0]} to {made['load'][1]}; commit {made['git_commit'][:12]}; "
        f"{made['day']}; {made['minutes']:.0f} minutes of a processor; "
        "`python benchmarks/cost_aware.py --table`."
    )


def _by_strategy(table: Table, name: str) -> str:
    shown = []
    for strategy in spaces.STRATEGIES:
        rows = [row for row in table.rows[name] if row.params["strategy"] == strategy]
        best = max(rows, key=lambda row: row.epochs[-1][0])
        typical = float(np.median([row.seconds for row in rows]))
        shown.append(f"{strategy} {best.epochs[-1][0]:.3f} (median {typical:.2g} s)")
    return ", ".join(shown)


def _spread(values: Sequence[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.4f} ({low:.4f}–{high:.4f})"


def _counts(counts: Sequence[int]) -> str:
    return " / ".join(map(str, counts))


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
