"""Storage types of tensors, and packed formats: several stored tensors that stand for one logical tensor.

A packed format is one class and one registration. Torch is imported only when values are packed or unpacked.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

import numpy as np

from archc.ir.weight_index import Index
from archc.kernels.errors import UnknownName, WeightError

if TYPE_CHECKING:
    from torch import Tensor

Shape: TypeAlias = tuple[int, ...]

# Bytes per element of every storage type; the names of formats (fp8 is e4m3), and of plain integers.
DTYPE_BYTES: Mapping[str, int] = {
    "fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "fp8_e5m2": 1, "fp8_e8m0": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8,
}  # fmt: skip


def check_dtype(name: str) -> str:
    """`name` if it is a storage type; raises UnknownName otherwise."""
    if name not in DTYPE_BYTES:
        raise UnknownName("storage type", name, DTYPE_BYTES)
    return name


@dataclass(frozen=True)
class Part:
    """One stored tensor of a packed format: for each block of the last logical axis, `per_block` elements."""

    name: str
    dtype: str
    per_block: Shape


class Packing(ABC):
    """A format that packs blocks of the last axis: logical [*, n] is stored as parts [*, n / block, *per_block]."""

    name: ClassVar[str]
    block: ClassVar[int]
    parts: ClassVar[tuple[Part, ...]]

    @abstractmethod
    def pack(self, x: Tensor) -> Mapping[str, Tensor]:
        """The parts that stand for `x` [*, n]."""

    @abstractmethod
    def unpack(self, *parts: Tensor) -> Tensor:
        """The fp32 values [*, n] that the parts, in their declared order, stand for."""

    def part(self, name: str) -> Part:
        """The part of that name."""
        for part in self.parts:
            if part.name == name:
                return part
        raise UnknownName(f"part of {self.name}", name, [p.name for p in self.parts])

    def packed_shape(self, part: str, shape: Shape) -> Shape:
        """Shape of a part for a logical shape."""
        if not shape or shape[-1] % self.block:
            raise WeightError(f"{self.name} packs blocks of {self.block} along the last axis: got shape {list(shape)}")
        return (*shape[:-1], shape[-1] // self.block, *self.part(part).per_block)

    def logical_shape(self, shapes: Sequence[Shape]) -> Shape:
        """The logical shape that part shapes stand for; they must agree."""
        wanted = ", ".join(f"{p.name} {['...', 'blocks', *p.per_block]}" for p in self.parts)
        if len(shapes) != len(self.parts):
            raise WeightError(f"{self.name} has {len(self.parts)} parts ({wanted}): got {len(shapes)}")
        outer = {s[: len(s) - len(p.per_block)] for s, p in zip(shapes, self.parts, strict=True)}
        inner = all(s[len(s) - len(p.per_block) :] == p.per_block for s, p in zip(shapes, self.parts, strict=True))
        if len(outer) != 1 or not inner or outer == {()}:
            raise WeightError(f"{self.name} parts do not fit ({wanted}): got {[list(s) for s in shapes]}")
        (prefix,) = outer
        return (*prefix[:-1], prefix[-1] * self.block)

    def whole_blocks(self, index: Index) -> Index | None:
        """The blocks that `index` along the logical last axis consists of, None unless it keeps whole ones in order."""
        if not len(index) or len(index) % self.block:
            return None
        rows = index.positions.reshape(-1, self.block)
        whole = (rows[:, :1] % self.block == 0).all() and (rows == rows[:, :1] + np.arange(self.block)).all()
        return Index(rows[:, 0] // self.block) if whole else None

    def elements(self, blocks: Index) -> Index:
        """Positions along the logical last axis of the given blocks: inverse of `whole_blocks`."""
        return Index((blocks.positions[:, None] * self.block + np.arange(self.block)).ravel())


_PACKINGS: dict[str, Packing] = {}
C = TypeVar("C", bound=type[Packing])


def packed_format(name: str) -> Callable[[C], C]:
    """Class decorator: registers a Packing under the format's name."""

    def register(cls: C) -> C:
        if name in _PACKINGS:
            raise WeightError(f"packed format `{name}` is registered twice")
        cls.name = name
        _PACKINGS[name] = cls()
        return cls

    return register


def packing(name: str) -> Packing:
    """The packed format of that name; raises UnknownName with a suggestion."""
    if name not in _PACKINGS:
        raise UnknownName("packed format", name, _PACKINGS)
    return _PACKINGS[name]


@packed_format("mxfp4")
class Mxfp4(Packing):
    """e2m1 values in blocks of 32 that share a power of two (OCP Microscaling Formats v1.0), packed as gpt_oss does.

    `blocks` [*, n / 32, 16] uint8 holds two values a byte, the earlier one in the low nibble; `scales` [*, n / 32]
    uint8 is the e8m0 exponent (bias 127; 255 is NaN).
    """

    block = 32
    parts = (Part("blocks", "uint8", (16,)), Part("scales", "uint8", ()))

    MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    BIAS = 127  # of e8m0
    LARGEST_EXPONENT = 2  # of e2m1: 6 = 1.5 * 2^2

    def unpack(self, *parts: Tensor) -> Tensor:
        """fp32 values, exact: every product of an e2m1 value and a scale is an fp32 (and bf16) number or overflows."""
        import torch

        blocks, scales = parts
        table = torch.tensor([*self.MAGNITUDES, *(-m for m in self.MAGNITUDES)])
        byte = torch.arange(256)
        pairs = torch.stack([table[byte & 15], table[byte >> 4]], dim=-1)  # [256, 2]
        values = pairs[blocks.int()].flatten(-2)  # [*, n / 32, 32]
        factors = torch.tensor([*(math.ldexp(1.0, e - self.BIAS) for e in range(255)), math.nan])
        return (values * factors[scales.int()][..., None]).flatten(-2)

    def pack(self, x: Tensor) -> Mapping[str, Tensor]:
        """Rounds to the nearest e2m1 value, ties to even, saturating; the scale is floor(log2(max |x|)) - 2.

        A block that holds an infinity or NaN becomes NaN throughout."""
        import torch

        values = x.float().contiguous().reshape(*x.shape[:-1], -1, self.block)  # [*, n / 32, 32]
        largest = values.abs().amax(-1)
        # frexp gives a mantissa in [0.5, 1): floor(log2) is its exponent - 1
        exponent = (torch.frexp(largest).exponent - 1 - self.LARGEST_EXPONENT).clamp(-self.BIAS, 127)
        exponent = torch.where(largest == 0, 0, exponent)
        scaled = torch.ldexp(values, -exponent[..., None])
        codes = self._nearest(scaled.abs()) | (scaled.signbit().to(torch.uint8) << 3)
        blocks = codes[..., 0::2] | (codes[..., 1::2] << 4)
        scales = torch.where(largest.isfinite(), exponent + self.BIAS, 255).to(torch.uint8)
        return {"blocks": blocks, "scales": scales}

    def _nearest(self, magnitude: Tensor) -> Tensor:
        """Code of the nearest e2m1 magnitude; an exact tie goes to the even code."""
        import torch

        levels = torch.tensor(self.MAGNITUDES)
        middles = (levels[1:] + levels[:-1]) / 2
        below = torch.bucketize(magnitude, middles)  # a tie goes to the lower code here ...
        above = torch.bucketize(magnitude, middles, right=True)  # ... and to the upper one here
        return torch.where(below % 2 == 0, below, above).to(torch.uint8)
