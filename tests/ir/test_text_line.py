"""One line of the text forms: values, and errors that are short and stand at their column."""

from __future__ import annotations

import math

import pytest

from archc.ir.text_line import Line
from archc.kernels.errors import ParseError


def error_of(text: str) -> str:
    with pytest.raises(ParseError) as caught:
        Line("g.ir", 3, text).value()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("-2.5e-3", -0.0025), ("inf", math.inf), ("-inf", -math.inf), ("(1, (a, none))", (1, ("a", None)))],
)
def test_values(text: str, value: object) -> None:
    assert Line("g.ir", 1, text).value() == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * 5000, "g.ir:3:65: nested too deeply: at most 64 levels\n"),
        ("３", "g.ir:3:1: unexpected character `３`\n"),
        ("9" * 5000, "g.ir:3:1: expected a number of at most 100 digits, got `9999"),
        ("1e" + "9" * 5000, "g.ir:3:1: expected a number of at most 100 digits, got `1e99"),
        ("(1 " + "a" * 5000 + ")", "g.ir:3:4: expected `,`, got `aaaa"),
        ("\x1b[31m", "g.ir:3:1: unexpected character `\\x1b`\n"),
    ],
)
def test_what_is_no_value_is_told_in_short(text: str, message: str) -> None:
    error = error_of(text)
    assert error.startswith(message) and len(error) < 400 and "\x1b" not in error


def test_a_long_word_is_told_in_short_wherever_it_stands() -> None:
    line = Line("g.ir", 1, "{" + "a" * 5000 + "=1}")
    with pytest.raises(ParseError) as caught:
        dict(line.pairs({"b": int}))
    assert len(str(caught.value)) < 400
