"""Caps as a person writes them."""

from __future__ import annotations

from math import nan

import pytest

from tunesvc.errors import UnknownNameError, UsageError
from tunesvc.spec.caps import Cap, cap, parse

KNOWN = ("params_m", "latency_ms", "accuracy", "flops_g", "android_m")


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        ("latency_ms <= 3", [("latency_ms", "<=", 3)]),
        (
            "latency_ms <= 3 and params_m <= 6",
            [("latency_ms", "<=", 3), ("params_m", "<=", 6)],
        ),
        ("  latency_ms<3and params_m>.5 ", None),  # "3and" is no number
        ("latency_ms<3 AND params_m>.5", [("latency_ms", "<", 3), ("params_m", ">", 0.5)]),
        ("params_m == 1e1 and params_m >= -2.", [("params_m", "==", 10), ("params_m", ">=", -2)]),
        ("android_m > +1", [("android_m", ">", 1)]),
        (
            "accuracy >= 0.9\nand\nparams_m < 6",
            [("accuracy", ">=", 0.9), ("params_m", "<", 6)],
        ),
        ("", None),
        ("   ", None),
        ("latency_ms", None),
        ("latency_ms <=", None),
        ("<= 3", None),
        ("latency_ms = 3", None),
        ("latency_ms != 3", None),
        ("latency_ms => 3", None),
        ("latency_ms <= three", None),
        ("latency_ms <= nan", None),
        ("latency_ms <= inf", None),
        ("latency_ms <= 3 ms", None),
        ("latency_ms <= 3ms", None),
        ("latency_ms <= 1.2.3", None),
        ("latency_ms <= 3 and", None),
        ("and latency_ms <= 3", None),
        ("latency_ms <= 3 or params_m <= 6", None),
        ("latency_ms <= 3, params_m <= 6", None),
        ("latency_ms <= 3 andparams_m <= 6", None),
        ("(latency_ms <= 3)", None),
        ("1 <= params_m <= 3", None),
        ("latency_ms <= params_m", None),
        ("latency_ms <= 1 + 2", None),
        ("__import__('os').system('true') <= 3", None),
    ],
)
def test_the_grammar(text: str, caps: list[tuple[str, str, float]] | None) -> None:
    """Names, signs and numbers, joined by "and"; everything else is refused as a whole."""
    if caps is None:
        with pytest.raises(UsageError) as refused:
            parse(text, KNOWN)
        assert repr(text) in refused.value.what
        assert 'joined by "and"' in refused.value.fix
    else:
        assert [(each.name, each.sign, each.value) for each in parse(text, KNOWN)] == caps


def test_what_is_not_understood_is_told() -> None:
    """From where on."""
    with pytest.raises(UsageError, match=r"'or params_m <= 6' is not understood"):
        parse("latency_ms <= 3 or params_m <= 6", KNOWN)
    with pytest.raises(UsageError, match="ends where a comparison should stand"):
        parse("latency_ms <= 3 and ", KNOWN)


def test_an_unknown_name_lists_the_known_ones() -> None:
    """All of them, and the nearest first."""
    with pytest.raises(UnknownNameError) as refused:
        parse("latnecy_ms <= 3", KNOWN)
    assert "did you mean 'latency_ms'?" in refused.value.why
    assert all(name in refused.value.why for name in KNOWN)
    with pytest.raises(UnknownNameError, match="known: accuracy, android_m, flops_g"):
        parse("zzz <= 3", KNOWN)


@pytest.mark.parametrize(
    ("sign", "below", "at", "above"),
    [
        ("<=", True, True, False),
        ("<", True, False, False),
        (">=", False, True, True),
        (">", False, False, True),
        ("==", False, True, False),
    ],
)
def test_a_cap_holds_or_not(sign: str, below: bool, at: bool, above: bool) -> None:
    """As in arithmetic; what is not a number satisfies none."""
    made = cap("params_m", f"{sign} 3", KNOWN)
    assert [made.holds(value) for value in (2.9, 3.0, 3.1, nan)] == [below, at, above, False]
    assert parse(str(made), KNOWN) == (made,)


@pytest.mark.parametrize("bound", ["12", "<= ", "<= 12 MB", "at most 12", "params_m <= 12"])
def test_a_bound_of_a_study_file(bound: str) -> None:
    """A sign and a number; the name is the key."""
    assert cap("params_m", "<= 12", KNOWN) == Cap("params_m", "<=", 12.0)
    with pytest.raises(UsageError, match="params_m"):
        cap("params_m", bound, KNOWN)
    with pytest.raises(UnknownNameError):
        cap("pixels", "<= 12", KNOWN)
