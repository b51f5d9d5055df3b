"""Samples without end, each a pure function of its number: `Stream(datasets, weights, length=, seed=).batch(numbers)`.

A run that stops after sample n goes on at n; rank r of W takes the numbers r, r + W, ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from archc.train.batch import Batch

if TYPE_CHECKING:
    from archc.train.packed import PackedDataset


class Stream:
    """A weighted mixture of packed datasets, each walked in another order every epoch.

    `weights` are shares of samples, in any unit; `length` is in tokens.
    """

    def __init__(
        self, datasets: Sequence[PackedDataset], weights: Sequence[float] | None = None, *, length: int, seed: int = 0
    ) -> None:
        self.datasets, self.weights, self.length, self.seed = tuple(datasets), weights, length, seed

    @property
    def hash(self) -> str:
        """Identity of every sample: of the data, the tokenizer, the weights, the length and the seed."""
        raise NotImplementedError

    def batch(self, numbers: Iterable[int]) -> Batch:
        """The samples of these numbers, in their order."""
        raise NotImplementedError
