"""Layer patterns: the grammar, its errors, and its inverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.spec.pattern import MAX_LAYERS, read_layers, write_pattern
from archc.yamlfile import load_yaml

NAMES = ("M", "-", "*", "E", "local")


def read(layers: str) -> list[str]:
    node = load_yaml(f"layers: {layers}\n", file="m.yaml").find(("layers",))
    uses, errors = read_layers(node, NAMES)
    assert not errors, errors
    return [use.name for use in uses]


def errors_of(layers: str) -> list[str]:
    node = load_yaml(f"layers: {layers}\n", file="m.yaml").find(("layers",))
    _, errors = read_layers(node, NAMES)
    assert errors
    return [str(error) for error in errors]


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("M-M*-", "M - M * -"),
        ("4 x [M, -]", "M - M - M - M -"),
        ("4x[M -]*", "M - M - M - M - *"),
        ("2 x M-", "M - M -"),
        ("2 x [local 2 × M]", "local M M local M M"),
        ("[[M], [2 x E]]", "M E E"),
        ('["3 x [*, -]", {use: local}, M]', "* - * - * - local M"),
        ("[{use: E, times: 3}]", "E E E"),
        (">\n  M-M\n  **", "M - M * *"),
    ],
)
def test_patterns(layers: str, names: str) -> None:
    assert read(layers) == names.split()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("M-MQ-", "1:12: no block is called `Q`\n    layers: M-MQ-\n               ^ blocks are M, -, *, E, local"),
        ('"Mm"', '1:11: no block is called `m`\n    layers: "Mm"\n              ^ did you mean `M`?'),
        ('"M_"', '1:11: no block is called `_`\n    layers: "M_"\n              ^ did you mean `-`?'),
        ("M locl", "1:11: no block is called `locl`: did you mean `local`?"),
        ("4 x [M, -", "1:13: `[` is never closed"),
        ("M]", "1:10: `]` closes no `[`"),
        ("M 0 x M", "1:11: expected a repeat from 1 to 10000, got 0"),
        ("M 3 x", "1:11: `3 x` repeats nothing"),
        ("9999 x [9999 x M]", "1:9: expected at most 10000 layers, got 99980001"),
        ("1000000000 x [M]", "1:9: expected a repeat from 1 to 10000, got 1000000000\n"),
        ("9" * 5000 + " x M", "1:9: expected a repeat from 1 to 10000, got 9999"),
        ("３ x M", "1:9: no block is called `３`"),
        ("2 x [" * 5000 + "M" + "]" * 5000, "1:169: nested too deeply: at most 64 levels of brackets and repeats"),
        ("1 x " * 5000 + "M", "1:265: nested too deeply: at most 64 levels of brackets and repeats"),
        ('"' + "[M]" * 10_001 + '"', "1:10: expected at most 10000 layers, got more"),
        ("[]", "1:9: expected at least one layer, got none"),
        ('""', "1:9: expected at least one layer, got none"),
        ("12", "1:9: expected a pattern such as `M-M*-` or a list of patterns, got `12`"),
        ("[{d_ff: 3}]", "1:10: missing field `use`: which block this layer uses"),
        ("[{use: N}]", "1:16: `use`: no block is called `N`: known are"),
        ("", "1:1: expected a pattern such as `M-M*-` or a list of patterns, got nothing\n    layers:\n    ^"),
        ("[{use: M, times: 0}]", "1:26: `times`: expected a number from 1 to 10000, got `0`"),
        (">\n  M-M\n  *Q", "3:4: no block is called `Q`"),
    ],
)
def test_a_wrong_pattern_is_placed_inside_its_string(layers: str, message: str) -> None:
    assert errors_of(layers)[0].startswith(f"m.yaml:{message}")


@pytest.mark.parametrize(
    "layers", ["Q" * 100_000, "M" * 100_000, "M " + "Q" * 100_000, '[{use: "' + "Q" * 100_000 + '"}]']
)
def test_errors_in_long_patterns_are_short(layers: str) -> None:
    (error,) = errors_of(layers)
    assert len(error) < 400


def test_of_many_blocks_some_are_listed() -> None:
    node = load_yaml("layers: Q", file="m.yaml").find(("layers",))
    (error,) = read_layers(node, [f"block{i}" for i in range(1000)])[1]
    assert error.hint == "blocks are " + ", ".join(f"block{i}" for i in range(12)) + ", ..."


def test_brackets_side_by_side_are_not_nested() -> None:
    assert read('"' + "[M] " * 2000 + '"') == ["M"] * 2000
    assert read('"' + "[" * 64 + "M" + "]" * 64 + '"') == ["M"]


def test_all_wrong_items_of_a_list_are_reported() -> None:
    assert len(errors_of('["Q", {use: Q}, "4 x [", M]')) == 3


def test_lists_cannot_grow_without_bound() -> None:
    text = "a: &a ['1000 x M']\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]\n" for below, name in zip("abc", "bcd", strict=True)
    )
    node = load_yaml(text).find(("c",))
    uses, errors = read_layers(node, NAMES)
    assert not uses and f"expected at most {MAX_LAYERS} layers" in str(errors[0])


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=40), st.integers(1, 5))
def test_writing_a_pattern_and_reading_it_gives_the_same_layers(names: list[str], times: int) -> None:
    names = names * times
    assert read(f'"{write_pattern(names)}"') == names


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("M - M - M -", "3 x [M, -]"),
        ("M M M", "3 x M"),
        ("M - M * M", "M-M*M"),
        ("local M local * M", "local M local * M"),
    ],
)
def test_patterns_are_written_as_a_person_would(names: str, text: str) -> None:
    assert write_pattern(names.split()) == text
