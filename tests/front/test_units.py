"""Sizes as people write them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.kernels.errors import UnitError
from archc.units import (
    format_count,
    format_params,
    format_size,
    format_tokens,
    parse_count,
    parse_params,
    parse_size,
    parse_tokens,
)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_count, "128k", 131072),
        (parse_count, "4M", 4194304),
        (parse_count, "1.5k", 1536),
        (parse_count, "8K", 8192),
        (parse_count, 1, 1),
        (parse_count, "1_000_000", 1000000),
        (parse_size, "19.66GiB", 21109764260),
        (parse_size, "24 GB", 24 * 10**9),
        (parse_size, "512 MiB", 2**29),
        (parse_size, "100", 100),
        (parse_params, "3.2B", 3_200_000_000),
        (parse_params, "350M", 350_000_000),
        (parse_tokens, "25T", 25 * 10**12),
    ],
)
def test_parse(parse: Callable[[str | int], int], text: str | int, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_count, "128q", "expected a count such as 131072, 128k or 4M"),
        (parse_count, "-1", "expected a count"),
        (parse_count, "0.3k", "a whole number"),
        (parse_count, True, "expected a count"),
        (parse_size, "19.66GiBs", "expected a size such as 19.66GiB"),
        (parse_size, "", "expected a size"),
        (parse_params, "3.2G", "expected a number of parameters such as 3.2B"),
        (parse_tokens, "lots", "expected a number of tokens such as 25T"),
    ],
)
def test_errors_say_what_was_expected(parse: Callable[[str | int], int], text: str, message: str) -> None:
    with pytest.raises(UnitError, match=message) as caught:
        parse(text)
    assert f"got `{text}`" in str(caught.value)


@given(st.integers(0, 2**45))
def test_a_printed_count_reads_back(n: int) -> None:
    assert parse_count(format_count(n)) == n


@given(st.integers(0, 2**50))
def test_a_printed_size_reads_back_to_two_decimals(n: int) -> None:
    assert abs(parse_size(format_size(n)) - n) <= 0.0051 * max(1024.0, n)


def test_printed_forms() -> None:
    assert [format_count(n) for n in (0, 1, 1000, 8192, 131072, 4194304)] == ["0", "1", "1000", "8k", "128k", "4M"]
    assert [format_size(n) for n in (0, 512, 2**10, 21109764260)] == ["0 B", "512 B", "1.00 KiB", "19.66 GiB"]
    assert [format_params(n) for n in (12, 4_190_000, 8_888_000_000)] == ["12", "4.19M", "8.89B"]
    assert [format_tokens(n) for n in (0, 800, 15 * 10**8, 25 * 10**12)] == ["0", "800", "1.5B", "25T"]
