"""Errors as they are printed: the excerpt fits a terminal, and nothing of a file is printed at length or raw."""

from __future__ import annotations

import pytest

from archc.kernels.errors import Place, SpecError, UnknownName, quoted


def printed(source: str, column: int, hint: str = "") -> list[str]:
    return str(SpecError(Place("m.yaml", 3, column, source), "wrong", hint=hint)).splitlines()


def test_a_short_line_is_shown_whole_with_the_caret_under_its_column() -> None:
    assert printed("d_ff: [1, x]", 11, "a number") == [
        "m.yaml:3:11: wrong",
        "    d_ff: [1, x]",
        "              ^ a number",
    ]


@pytest.mark.parametrize("length", [77, 160, 1_000_000])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_of_a_long_line_the_part_around_the_caret_is_shown(length: int, part: float) -> None:
    at = round(part * (length - 1))
    _, excerpt, caret = printed("a" * at + "!" + "b" * (length - at - 1), at + 1)
    assert len(excerpt) <= 80 and excerpt[caret.index("^")] == "!"
    assert ("..." in excerpt[:8]) == ("a" * at not in excerpt)
    assert excerpt.endswith("...") == ("b" * (length - at - 1) not in excerpt)


def test_a_caret_behind_the_end_of_a_long_line_stands_behind_the_end() -> None:
    _, excerpt, caret = printed("a" * 200, 201)
    assert len(caret) == len(excerpt) + 1 <= 81


@pytest.mark.parametrize("char", ["\t", "\x1b", "\u2028"])
def test_what_does_not_print_moves_no_caret(char: str) -> None:
    assert printed(f"{char}a{char}b", 4)[1:] == ["     a b", "       ^"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mamba2", "`mamba2`"),
        ("größe 大", "`größe 大`"),
        ("a\nb\x1b[31m", "`a\\nb\\x1b[31m`"),
        ("a" * 60, f"`{'a' * 60}`"),
        ("a" * 1_000_000, f"`{'a' * 60}...`"),
        ("", "``"),
    ],
)
def test_a_value_is_quoted_on_one_line_and_short(text: str, shown: str) -> None:
    assert quoted(text) == shown


def test_unknown_names_and_what_is_known_are_short() -> None:
    assert len(str(UnknownName("format", "f" * 1_000_000, ["bf16"]))) < 120
    assert len(str(UnknownName("format", "bf16", [f"{i}" * 500 for i in range(100)]))) < 1000
    assert "did you mean `bf16`?" in str(UnknownName("format", "bf61", ["bf16", "fp8"]))
