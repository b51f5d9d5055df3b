"""The n-gram baseline against the formula written out slowly, and as a probability distribution."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.evaluate.ngram import BEGIN, BYTES, FALLBACK_DISCOUNTS, NGramModel
from archc.kernels.errors import ArchcError
from archc.train.corpus import docstring_documents

Gram = tuple[int, ...]
WORDS = ["the", "cat", "and", "dog", "sat", "on", "mat", "log", "ran", "met", "two", "heron", "quince", "box", "jumped"]


class Slow:
    """Interpolated modified Kneser-Ney from dictionaries, one probability at a time (Chen & Goodman 1998)."""

    def __init__(self, documents: list[bytes], order: int) -> None:
        raw: dict[int, Counter[Gram]] = defaultdict(Counter)
        before: dict[Gram, set[int]] = defaultdict(set)
        for document in documents:
            symbols = (BEGIN, *document) if document else ()
            for k in range(1, order + 1):
                for i in range(len(symbols) - k + 1):
                    raw[k][symbols[i : i + k]] += 1
                    if i:
                        before[symbols[i : i + k]].add(symbols[i - 1])
        self.order, self.counts = order, {}
        for k in range(1, order + 1):
            counts = {g: n if k == order or g[0] == BEGIN else len(before[g]) for g, n in raw[k].items()}
            self.counts[k] = {g: n for g, n in counts.items() if g != (BEGIN,)}
        self.discounts = {k: self.discounts_of(list(self.counts[k].values())) for k in self.counts}

    @staticmethod
    def discounts_of(counts: list[int]) -> tuple[float, ...]:
        n = [counts.count(i) for i in range(5)]
        if 0 in n[1:]:
            return FALLBACK_DISCOUNTS
        y = n[1] / (n[1] + 2 * n[2])
        made = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
        return made if all(0 < d <= i for i, d in enumerate(made, 1)) else FALLBACK_DISCOUNTS

    def probability(self, context: Gram, byte: int) -> float:
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        return self.interpolated(context, byte)

    def interpolated(self, context: Gram, byte: int) -> float:
        lower = self.interpolated(context[1:], byte) if context else 1 / BYTES
        k = len(context) + 1
        follow = {g[-1]: n for g, n in self.counts[k].items() if g[:-1] == context}
        if not follow:
            return lower
        discounts = (0.0, *self.discounts[k])
        total = sum(follow.values())
        kept = max(follow.get(byte, 0) - discounts[min(follow.get(byte, 0), 3)], 0.0)
        freed = sum(discounts[min(n, 3)] for n in follow.values())
        return (kept + freed * lower) / total

    def all_of(self, document: bytes) -> list[float]:
        return [self.probability((BEGIN, *document[:i]), byte) for i, byte in enumerate(document)]


texts = st.lists(st.text("ab c", max_size=20).map(str.encode), max_size=4)


@settings(deadline=None)
@given(texts.filter(any), st.integers(1, 5), st.text("abcd", max_size=12).map(str.encode))
def test_it_is_the_formula(documents: list[bytes], order: int, document: bytes) -> None:
    fast = NGramModel.fit(documents, order).probabilities(document)
    slow = Slow(documents, min(order, max(map(len, documents)) + 1)).all_of(document)
    np.testing.assert_allclose(fast, slow, rtol=1e-12)


def test_it_is_the_formula_on_text_with_discounts_of_its_own() -> None:
    draw = random.Random(0)
    words = [" ".join(draw.choices(WORDS, range(len(WORDS), 0, -1), k=120)).encode() for _ in range(2)]
    model, slow = NGramModel.fit(words, 3), Slow(words, 3)
    assert [o.discounts for o in model.orders] == [pytest.approx(slow.discounts[k]) for k in (1, 2, 3)]
    assert model.orders[2].discounts != FALLBACK_DISCOUNTS
    unseen = b"the dog and the cat sat; zebra\x00\xff"
    np.testing.assert_allclose(model.probabilities(unseen), slow.all_of(unseen), rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(texts.filter(any), st.integers(1, 7), st.binary(max_size=8) | st.text("abc ", max_size=8).map(str.encode))
def test_probabilities_of_all_bytes_sum_to_one(documents: list[bytes], order: int, context: bytes) -> None:
    model = NGramModel.fit(documents, order)
    after = [model.probabilities(context + bytes([b]))[-1] for b in range(BYTES)]
    assert math.fsum(after) == pytest.approx(1, abs=1e-12)
    assert min(after) > 0


def test_bits_per_byte_are_the_mean_over_documents() -> None:
    model = NGramModel.fit([b"abracadabra" * 3], 4)
    parts = [b"abra", b"", b"cadabra!"]
    bits = -sum(np.log2(model.probabilities(p)).sum() for p in parts) / 12
    assert model.bits_per_byte(parts) == pytest.approx(bits)


def test_more_context_predicts_english_better() -> None:
    documents = [d.text.encode() for d in docstring_documents(Path(json.__file__).parent)]
    bits = [NGramModel.fit(documents[:-1], order).bits_per_byte(documents[-1:]) for order in (1, 2, 3)]
    assert 8 > bits[0] > bits[1] > bits[2]


@pytest.mark.parametrize("order", [0, 8])
def test_an_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(ArchcError, match=f"from 1 to 7: got {order}"):
        NGramModel.fit([b"a"], order)


def test_no_text_is_refused() -> None:
    with pytest.raises(ArchcError, match="needs text to learn from"):
        NGramModel.fit([b""])
    with pytest.raises(ArchcError, match="need text to measure on"):
        NGramModel.fit([b"a"]).bits_per_byte([])
