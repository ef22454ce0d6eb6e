"""Priors as a piece of a study file, to be pasted: `search_space` and `defaults`.

What never mattered is not searched but fixed at its default. A variant whose condition this piece
cannot express, because the knob in it has no prior, is left out, and so is its knob where no other
variant remains: the study then has the untuned value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from tunesvc.analysis.priors import Prior
from tunesvc.analysis.table import Scalar

_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z][a-z0-9_-]*")

_HEAD = """\
# Where the best tenth of the trials of {studies} earlier studies lay. A choice that never came up
# there is left out; what never rose above the noise is not searched.
"""


def fragment(priors: Sequence[Prior], never: Collection[str]) -> str:
    """Return YAML to be pasted into a study file; "" where nothing can be said.

    Args:
        priors: parents before those that depend on them; the backbone's is no part of it.
        never: knobs that never rise above the noise.
    """
    variants = _variants([prior for prior in priors if prior.dimension.knob != "backbone"])
    asked = {key for own in variants.values() for each in own for key in each.dimension.when}
    searched = {k: own for k, own in variants.items() if k not in never or k in asked}
    defaults = _defaults(variants)
    if not variants:
        return ""
    lines = [_HEAD.format(studies=max(prior.studies for prior in priors)) + "search_space:"]
    lines[0] += "" if searched else " {}"
    for knob, own in searched.items():
        lines += _entry(knob, own, variants)
    lines += ["defaults:" if defaults else "defaults: {}"]
    lines += [f"  {knob}: {_plain(value)}" for knob, value in defaults.items()]
    return "\n".join(lines) + "\n"


def _variants(priors: Sequence[Prior]) -> dict[str, list[Prior]]:
    """Return each knob's priors that can be written down, one without a condition last."""
    found: dict[str, list[Prior]] = {}
    for prior in priors:
        when = prior.dimension.when
        if all(_allowed(found, key, values) for key, values in when.items()):
            found.setdefault(prior.dimension.knob, []).append(prior)
    for knob, own in found.items():
        always = [prior for prior in own if not prior.dimension.when][:1]
        found[knob] = [prior for prior in own if prior.dimension.when] + always
    return found


def _allowed(
    found: Mapping[str, Sequence[Prior]], key: str, values: Sequence[Scalar]
) -> Sequence[Scalar]:
    """Return the values of a condition that the piece can still have."""
    if key == "backbone":
        return values
    return [value for value in values if any(_can_be(prior, value) for prior in found.get(key, ()))]


def _can_be(prior: Prior, value: Scalar) -> bool:
    if prior.low is None or prior.high is None:
        return value in _choices(prior)
    return not isinstance(value, str) and prior.low <= value <= prior.high


def _choices(prior: Prior) -> list[Scalar]:
    """Return the choices that came up, in the order of the study file."""
    seen = {choice for choice, share in prior.frequencies if share > 0}
    return [choice for choice in prior.dimension.choices if choice in seen]


def _entry(
    knob: str, own: Sequence[Prior], variants: Mapping[str, Sequence[Prior]]
) -> Iterator[str]:
    """Yield the lines of one knob."""
    if len(own) == 1 and not own[0].dimension.when and "@" not in own[0].name:
        yield f"  {knob}: {_range(own[0])}  # {_told(own[0])}"
        return
    yield f"  {knob}:"
    for prior in own:
        _, _, label = prior.name.partition("@")
        when = {key: _allowed(variants, key, v) for key, v in prior.dimension.when.items()}
        parts = [_inner(prior)]
        parts += [f"label: {_plain(label)}"] if label else []
        conditions = ", ".join(f"{key}: {_listed(values)}" for key, values in when.items())
        parts += [f"when: {{{conditions}}}"] if when else []
        yield f"    - {{{', '.join(parts)}}}  # {_told(prior)}"


def _told(prior: Prior) -> str:
    if prior.frequencies:
        return ", ".join(f"{_plain(c)} {share:.0%}" for c, share in prior.frequencies if share > 0)
    return f"{prior.kept:.0%} of what was searched"


def _range(prior: Prior) -> str:
    """Return the short form: a list, a scalar, or a mapping."""
    if prior.frequencies:
        return _listed(_choices(prior))
    return _plain(_rounded(prior, prior.low)) if _is_point(prior) else f"{{{_inner(prior)}}}"


def _inner(prior: Prior) -> str:
    """Return what stands in the braces of a range."""
    dimension = prior.dimension
    if prior.frequencies:
        return f"choices: {_listed(_choices(prior))}"
    if _is_point(prior):
        return f"value: {_plain(_rounded(prior, prior.low))}"
    ends = f"low: {_plain(_rounded(prior, prior.low))}, high: {_plain(_rounded(prior, prior.high))}"
    has_step = dimension.step is not None and (dimension.kind == "float" or dimension.step != 1)
    step = f", step: {_plain(_rounded(prior, dimension.step))}" if has_step else ""
    return ends + step + (", log: true" if dimension.log else "")


def _is_point(prior: Prior) -> bool:
    return _rounded(prior, prior.low) == _rounded(prior, prior.high)


def _rounded(prior: Prior, value: float | None) -> Scalar:
    """Return a number of a few digits; whole ones and those on a grid are exact already."""
    assert value is not None
    if prior.dimension.kind == "int":
        return int(value)
    return float(value) if prior.dimension.step else float(f"{value:.4g}")


def _defaults(variants: Mapping[str, Sequence[Prior]]) -> dict[str, Scalar]:
    """Return a value for each knob that has one under the defaults of the knobs before it.

    A knob whose range hangs on the backbone has none: one value need not lie in every range.
    """
    values: dict[str, Scalar] = {}
    for knob, own in variants.items():
        if any("backbone" in prior.dimension.when for prior in own):
            continue
        for prior in own:
            when = prior.dimension.when
            if all(key in values and values[key] in wanted for key, wanted in when.items()):
                choice = bool(prior.frequencies)
                values[knob] = prior.default if choice else _rounded(prior, float(prior.default))
                break
    return values


def _listed(values: Sequence[Scalar]) -> str:
    return f"[{', '.join(map(_plain, values))}]"


def _plain(value: Scalar) -> str:
    """Return a scalar as YAML has it: JSON, or a word that cannot be taken for anything else."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return f"{value:.12g}" if isinstance(value, float) else json.dumps(value)
