"""Formats: exact sizes, and names with suggestions."""

from __future__ import annotations

from fractions import Fraction

import pytest

from archc.ir.formats import ALIASES, FORMATS, get_format
from archc.kernels.errors import UnknownName


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp32", 32),
        ("fp16", 16),
        ("bf16", 16),
        ("fp8", 8),
        ("fp8_e5m2", 8),
        ("mxfp4", Fraction(17, 4)),
        ("nvfp4", Fraction(9, 2)),
        ("int8", 8),
        ("int4", 4),
    ],
)
def test_bits_include_block_scales(name: str, bits: Fraction) -> None:
    assert get_format(name).bits == bits
    assert get_format(name).bytes_per_element == Fraction(bits) / 8


def test_every_format_names_a_torch_dtype_that_holds_it() -> None:
    import torch

    for fmt in FORMATS.values():
        dtype = getattr(torch, fmt.torch_dtype)
        assert dtype.itemsize * 8 == fmt.element_bits * fmt.packed, fmt


def test_aliases_and_names() -> None:
    assert get_format("fp8_e4m3") is get_format("fp8")
    assert all(str(get_format(name)) == name for name in FORMATS)
    assert not set(ALIASES) & set(FORMATS)


def test_an_unknown_name_suggests() -> None:
    with pytest.raises(UnknownName, match="unknown format `nvfp8`: did you mean `nvfp4`"):
        get_format("nvfp8")
