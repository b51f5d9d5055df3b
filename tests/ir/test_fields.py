"""What broken rules suggest."""

from __future__ import annotations

import pytest

from archc.ir.fields import divisors


@pytest.mark.parametrize(
    ("n", "near", "text"),
    [
        (1, 5, "in [1]"),
        (16, 3, "in [1, 2, 4, 8, 16]"),
        (2**40 - 87, 2, f"in [1, {2**40 - 87}]"),
        (720, 7, "such as 2, 3, 4, 5, 6, 8, 9, 10"),
        (735134400, 1000, "such as 952, 960, 975, 990, 1001, 1008, 1020, 1040"),
    ],
)
def test_divisors_near_a_number(n: int, near: int, text: str) -> None:
    assert divisors(n, near) == text
