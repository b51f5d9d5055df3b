"""Number formats of parameters, activations and state: how many bits an element takes, and what holds it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from archc.kernels.errors import UnknownName


@dataclass(frozen=True)
class Format:
    """One number format.

    `element_bits` is one element alone. `block` elements share one scale of `scale_bits`; 0 means that scales are
    per tensor or per channel, too few to count. `torch_dtype` names the dtype that holds it, `packed` elements to
    an item.
    """

    name: str
    element_bits: int
    torch_dtype: str
    block: int = 0
    scale_bits: int = 0
    packed: int = 1

    @property
    def bits(self) -> Fraction:
        """Bits of one element with its share of the block scale."""
        return self.element_bits + (Fraction(self.scale_bits, self.block) if self.block else Fraction(0))

    @property
    def bytes_per_element(self) -> Fraction:
        """Bytes of one element with its share of the block scale, exact (nvfp4: 9/16)."""
        return self.bits / 8

    def __str__(self) -> str:
        return self.name


FORMATS = {
    f.name: f
    for f in (
        Format("fp32", 32, "float32"),
        Format("fp16", 16, "float16"),
        Format("bf16", 16, "bfloat16"),
        Format("fp8", 8, "float8_e4m3fn"),
        Format("fp8_e5m2", 8, "float8_e5m2"),
        # e2m1 in blocks of 32, one e8m0 scale each (OCP Microscaling Formats 1.0, section 5.2)
        Format("mxfp4", 4, "uint8", block=32, scale_bits=8, packed=2),
        # e2m1 in blocks of 16, one e4m3 scale each, and one fp32 scale per tensor (arXiv 2509.25149)
        Format("nvfp4", 4, "uint8", block=16, scale_bits=8, packed=2),
        Format("int8", 8, "int8"),
        Format("int4", 4, "uint8", packed=2),
    )
}
ALIASES = {"fp8_e4m3": "fp8"}


def get_format(name: str) -> Format:
    """The format of a name or alias. Raises UnknownName with a suggestion.

    >>> get_format("nvfp4").bytes_per_element
    Fraction(9, 16)
    """
    canonical = ALIASES.get(name, name)
    if canonical not in FORMATS:
        raise UnknownName("format", name, [*FORMATS, *ALIASES])
    return FORMATS[canonical]
