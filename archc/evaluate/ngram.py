"""An interpolated n-gram model over bytes with modified Kneser-Ney smoothing (Chen & Goodman 1998).

It is the baseline that a small language model has to beat on the same bytes. Symbols are the 256 bytes and one that
every document begins with, which is context only and never predicted. An n-gram of an order below the highest counts
the symbols that stand before it, except where it begins a document, as nothing does there. Each order has its own
discounts, from its counts of counts; the unigrams are interpolated with 1/256.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archc.kernels.errors import ArchcError

BYTES = 256
BEGIN = 256  # the symbol before the first byte of a document
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # where a text is too small for its own, as in KenLM
_RADIX_BITS = 9  # of a symbol in a key
MAX_ORDER = 63 // _RADIX_BITS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """The n-grams of one order, as sorted keys, and their contexts.

    `counts` belongs to `keys`; `totals` (sum of counts) and `left` (the mass that discounting frees) to `contexts`.
    """

    keys: Ints
    counts: Ints
    contexts: Ints
    totals: Ints
    left: Floats
    discounts: tuple[float, float, float]

    def interpolated(self, keys: Ints, lower: Floats) -> Floats:
        """Probabilities of n-grams, given those of the next lower order; `lower` itself where the context is new."""
        place, known = _find(self.contexts, keys >> _RADIX_BITS)
        at, seen = _find(self.keys, keys)
        counts = np.where(seen, self.counts[at], 0)
        discounted = np.maximum(counts - _of_count(self.discounts, counts), 0.0)
        return np.where(known, (discounted + self.left[place] * lower) / self.totals[place], lower)


@dataclass(frozen=True)
class NGramModel:
    """Interpolated modified Kneser-Ney; `orders[k]` has the n-grams of k + 1 symbols."""

    orders: tuple[Order, ...]

    @classmethod
    def fit(
        cls, documents: Sequence[bytes], order: int = 5, *, progress: Callable[[int], None] = lambda done: None
    ) -> NGramModel:
        """The model of some documents; `progress` is told of every order that is done.

        Raises ArchcError for an order outside 1 to 7, or where there is no text.
        """
        if not 1 <= order <= MAX_ORDER:
            raise ArchcError(f"an n-gram has an order from 1 to {MAX_ORDER}: got {order}")
        if not any(documents):
            raise ArchcError("an n-gram model needs text to learn from: got none")
        symbols, place = _symbols(documents)
        order = min(order, int(place.max()))  # documents may be shorter
        orders: list[Order] = []
        longer = np.unique(_keys(symbols, order)[place >= order], return_counts=True)
        for k in range(order, 0, -1):
            orders.append(_order(*longer))
            progress(1)
            longer = _shorter(longer[0], k, _keys(symbols, k - 1)[place == k - 1]) if k > 1 else longer
        return cls(tuple(reversed(orders)))

    def probabilities(self, document: bytes) -> Floats:
        """The probability of every byte of a document, given those before it."""
        symbols, place = _symbols([document])
        p = np.full(len(document), 1.0 / BYTES)
        for k, order in enumerate(self.orders, start=1):
            reached = np.flatnonzero(place[1:] >= k)
            p[reached] = order.interpolated(_keys(symbols, k)[1:][reached], p[reached])
        return p

    def bits_per_byte(self, documents: Sequence[bytes]) -> float:
        """Mean bits of a byte of the documents; raises ArchcError where they are empty."""
        count = sum(map(len, documents))
        if not count:
            raise ArchcError("bits per byte need text to measure on: got none")
        return -math.fsum(float(np.log2(self.probabilities(d)).sum()) for d in documents if d) / count


def _symbols(documents: Sequence[bytes]) -> tuple[Ints, Ints]:
    """All documents end to end, each after BEGIN, and the place of each symbol in its document, from 1."""
    parts = [np.frombuffer(d, dtype=np.uint8) for d in documents if d]
    symbols = [np.concatenate([[BEGIN], part]).astype(np.int64) for part in parts]
    places = [np.arange(1, len(part) + 2) for part in parts]
    return np.concatenate([*symbols, np.empty(0, np.int64)]), np.concatenate([*places, np.empty(0, np.int64)])


def _keys(symbols: Ints, k: int) -> Ints:
    """A number for the k symbols that end at each place (rubbish before the k-th)."""
    keys = np.zeros(len(symbols), np.int64)
    for back in range(min(k, len(symbols))):
        keys[back:] |= symbols[: len(symbols) - back] << (_RADIX_BITS * back)
    return keys


def _order(keys: Ints, counts: Ints) -> Order:
    """The tables of an order. A lone BEGIN is context, no n-gram."""
    real = keys != BEGIN
    keys, counts = keys[real], counts[real]
    discounts = _discounts(counts)
    contexts, first = np.unique(keys >> _RADIX_BITS, return_index=True)
    totals = np.add.reduceat(counts, first)
    left = np.add.reduceat(_of_count(discounts, counts), first)
    return Order(keys, counts, contexts, totals, left, discounts)


def _shorter(keys: Ints, k: int, beginning: Ints) -> tuple[Ints, Ints]:
    """Counts of order k - 1, from the n-grams of order k and those of k - 1 symbols that begin a document."""
    continued, how_many = np.unique(keys & ((1 << (_RADIX_BITS * (k - 1))) - 1), return_counts=True)
    begun, how_often = np.unique(beginning, return_counts=True)
    # No n-gram is in both: only one at the beginning has BEGIN in it.
    both, counts = np.concatenate([continued, begun]), np.concatenate([how_many, how_often])
    order = np.argsort(both)
    return both[order], counts[order]


def _discounts(counts: Ints) -> tuple[float, float, float]:
    """What is taken off counts of one, of two, and of more (Chen & Goodman 1998, equation 26)."""
    n1, n2, n3, n4 = (int((counts == i).sum()) for i in (1, 2, 3, 4))
    if 0 in (n1, n2, n3, n4):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    made = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    sound = all(0 < discount <= most for most, discount in enumerate(made, start=1))
    return made if sound else FALLBACK_DISCOUNTS


def _of_count(discounts: tuple[float, float, float], counts: Ints) -> Floats:
    """The discount of each count; none of zero."""
    found: Floats = np.array([0.0, *discounts])[np.minimum(counts, 3)]
    return found


def _find(keys: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where each wanted key is among sorted ones, and whether it is there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted
