"""Samples without end, each a pure function of its number: `Stream(datasets, weights, length=, seed=).batch(numbers)`.

A run that stops after sample n goes on at n; rank r of W takes the numbers r, r + W, ... A dataset is cut into windows
of `length` tokens, the last one filled up with padding that nothing learns, and its windows are walked in another order
every epoch. Of every PERIOD samples each dataset has its share, in an order of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.packed import PackedDataset
from archc.train.permutation import key, keys, permuted

PERIOD = 2**14

Ints: TypeAlias = NDArray[np.int64]


class Stream:
    """A weighted mixture of packed datasets.

    `weights` are shares of samples, in any unit, equal if none are given; `length` is in tokens.
    """

    def __init__(
        self, datasets: Sequence[PackedDataset], weights: Sequence[float] | None = None, *, length: int, seed: int = 0
    ) -> None:
        _check(datasets, weights, length)
        self.datasets, self.length, self.seed = tuple(datasets), length, seed
        self.windows = tuple(-(-len(dataset) // length) for dataset in datasets)
        self._quotas = quotas(weights or [1.0] * len(datasets), PERIOD)
        self._order = lru_cache(maxsize=4)(self._period)

    @property
    def hash(self) -> str:
        """Identity of every sample: of the data, the tokens' meaning, the shares, the length and the seed."""
        parts = [(dataset.hash, dataset.manifest.tokenizer) for dataset in self.datasets]
        return hashlib.sha256(repr((1, parts, self._quotas.tolist(), self.length, self.seed)).encode()).hexdigest()

    def batch(self, numbers: Iterable[int]) -> Batch:
        """The samples of these numbers, in their order."""
        index = np.fromiter(numbers, dtype=np.int64)
        tokens = np.zeros((len(index), self.length), np.int64)
        segments = np.zeros((len(index), self.length), np.int32)
        weights = np.ones((len(index), self.length), np.float32)
        for row, (which, window) in enumerate(zip(*self.place(index), strict=True)):
            dataset, start = self.datasets[which], int(window) * self.length
            stop = min(start + self.length, len(dataset))
            count = stop - start
            tokens[row, :count] = dataset.tokens(start, stop)
            segments[row, :count] = dataset.segments(start, stop)
            learn = dataset.learn(start, stop)
            if learn is not None:
                weights[row, :count] = learn
            if count < self.length:
                segments[row, count:] = segments[row, count - 1] + 1
                weights[row, count:] = 0.0
        return Batch(
            tokens=torch.from_numpy(tokens),
            segments=torch.from_numpy(segments),
            weights=None if (weights == 1.0).all() else torch.from_numpy(weights),
            index=torch.from_numpy(index),
        )

    def place(self, numbers: Ints) -> tuple[Ints, Ints]:
        """The dataset of each sample number, and the window of it."""
        which, turn = self._draws(numbers)
        window = np.empty_like(turn)
        for d, size in enumerate(self.windows):
            here = which == d
            epochs = keys(key(self.seed, d), turn[here] // size)
            window[here] = permuted(turn[here] % size, size, epochs)
        return which, window

    def _draws(self, numbers: Ints) -> tuple[Ints, Ints]:
        """The dataset of each sample number, and how many samples of that dataset come before."""
        if len(self.datasets) == 1:
            return np.zeros_like(numbers), numbers
        which, turn = np.empty_like(numbers), np.empty_like(numbers)
        for period in np.unique(numbers // PERIOD):
            here = numbers // PERIOD == period
            drawn, before = self._order(int(period))
            slots = numbers[here] % PERIOD
            which[here], turn[here] = drawn[slots], before[slots] + period * self._quotas[drawn[slots]]
        return which, turn

    def _period(self, number: int) -> tuple[Ints, Ints]:
        """The dataset of each slot of a period, and how many slots of that dataset come before."""
        slots = permuted(np.arange(PERIOD), PERIOD, key(self.seed, "mixture", number))
        drawn = np.searchsorted(np.cumsum(self._quotas), slots, side="right").astype(np.int64)
        before = np.empty_like(drawn)
        for d, quota in enumerate(self._quotas):
            before[drawn == d] = np.arange(quota)
        return drawn, before


def quotas(weights: Sequence[float], total: int) -> Ints:
    """`total` shared out by weights, to the nearest whole numbers with that sum (largest remainders).

    >>> quotas([1, 1, 1], 8).tolist()
    [3, 3, 2]
    """
    exact = np.array(weights, np.float64) / sum(weights) * total
    made = np.floor(exact).astype(np.int64)
    largest = np.argsort(made - exact, kind="stable")[: total - int(made.sum())]
    made[largest] += 1
    return made


def _check(datasets: Sequence[PackedDataset], weights: Sequence[float] | None, length: int) -> None:
    if not datasets:
        raise ArchcError("a stream needs a dataset")
    if length < 2:
        raise ArchcError(f"a sequence needs two tokens, one to predict from: got {length}")
    tokenizers = {dataset.manifest.tokenizer for dataset in datasets}
    if len(tokenizers) > 1:
        folders = ", ".join(f"{dataset.folder} {dataset.manifest.tokenizer[:12]}" for dataset in datasets)
        raise ArchcError(f"the datasets of a mixture must share a tokenizer: got {folders}")
    if weights is None:
        return
    if len(weights) != len(datasets):
        raise ArchcError(f"a mixture of {len(datasets)} datasets needs as many weights: got {len(weights)}")
    if any(not 0 < weight < float("inf") or weight < sum(weights) / PERIOD for weight in weights):
        raise ArchcError(f"weights of a mixture must be positive, and at least 1/{PERIOD} of their sum: got {weights}")
