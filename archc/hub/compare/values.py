"""Values of tensors compared, normed and hashed a chunk at a time: no copy of a whole tensor is made."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]

_HASHED, _COMPARED = 2**22, 2**18  # elements at a time: what fits into a cache, where order permits
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The values as integers that are equal where the values are (both zeros are one)."""
    return (x.to(dtype) + 0).view(_BITS[dtype.itemsize])


def common_dtype(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """The type in which two tensors are compared: the narrower one, so that a cast is no difference."""
    narrow = min(a, b, key=lambda dtype: dtype.itemsize)
    if narrow.itemsize == 1:
        return torch.bfloat16
    return torch.float32 if {a, b} == {torch.float16, torch.bfloat16} else narrow


def equal(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors hold the same values in `dtype`."""
    if a.shape != b.shape:
        return False
    return all(torch.equal(bits(x, dtype), bits(y, dtype)) for x, y in _chunks(a, b))


def relative_norm(old: Tensor, new: Tensor) -> float:
    """|new - old| / |old|, in fp64; infinite where the old one is zero."""
    change = size = 0.0
    for x, y in _chunks(old, new):
        before = x.double()
        apart = y.double() - before
        change += float(torch.dot(apart, apart))
        size += float(torch.dot(before, before))
    return math.sqrt(change / size) if size else math.inf


def is_scaled(old: Tensor, new: Tensor, factor: float, dtype: torch.dtype) -> bool:
    """Whether `new` is `old` times a number, to the rounding of `dtype`."""
    if old.shape != new.shape:
        return False
    apart = ((y.double() - factor * x.double()).abs() <= torch.finfo(dtype).eps * y.double().abs()
             for x, y in _chunks(old, new))  # fmt: skip
    return all(bool(close.all()) for close in apart)


def hashes(x: Tensor, dtype: torch.dtype, seed: str) -> Ints:
    """A hash of every row of `x` [rows, columns], linear in the bits, modulo 2^64."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "little")
    generator = torch.Generator().manual_seed(number)
    found = torch.zeros(len(x), dtype=torch.int64)
    width = max(1, _HASHED // len(x))
    for start in range(0, x.shape[1], width):
        chunk = bits(x[:, start : start + width], dtype).long()
        found += (chunk * (torch.randint(-(2**62), 2**62, (chunk.shape[1],), generator=generator) * 2 + 1)).sum(1)
    return found.numpy()


def _chunks(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = a.reshape(-1), b.reshape(-1)
    for start in range(0, len(x), _COMPARED):
        yield x[start : start + _COMPARED], y[start : start + _COMPARED]
