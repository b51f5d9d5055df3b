"""Permutations of n numbers by a key, any place of which is found without the others: a Feistel network that walks
until it is back below n."""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_ODD = 0x9E3779B97F4A7C15

Numbers: TypeAlias = NDArray[np.uint64]


def key(*parts: object) -> int:
    """64 bits of anything that has a repr: the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def keys(secret: int, numbers: NDArray[np.integer[Any]]) -> Numbers:
    """A key for each number, under a key."""
    return _mixed(_mixed(numbers.astype(np.uint64), np.uint64(secret)), np.uint64(_ODD))


def permuted(places: NDArray[np.integer[Any]], size: int, secret: int | Numbers) -> Numbers:
    """What stands at these places, each below `size`, of the permutation of the numbers below `size` by a key, or each
    of the permutation by a key of its own.

    >>> sorted(permuted(np.arange(5), 5, 7).tolist())
    [0, 1, 2, 3, 4]
    """
    half = max(((size - 1).bit_length() + 1) // 2, 1)
    by = np.broadcast_to(np.asarray(secret, np.uint64), places.shape)
    found = _feistel(places.astype(np.uint64), half, by)
    while (outside := found >= size).any():
        found[outside] = _feistel(found[outside], half, by[outside])
    return found


def _feistel(numbers: Numbers, half: int, secret: Numbers) -> Numbers:
    """A permutation of the numbers of 2 * half bits."""
    mask, shift = np.uint64(2**half - 1), np.uint64(half)
    left, right = numbers >> shift, numbers & mask
    for _ in range(_ROUNDS):
        secret = secret + np.uint64(_ODD)
        left, right = right, left ^ (_mixed(right, secret) & mask)
    return (left << shift) | right


def _mixed(numbers: Numbers, secret: Numbers | np.uint64) -> Numbers:
    """splitmix64's finaliser of numbers under a key."""
    x = numbers ^ secret
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
