"""Calibration text: whole windows of packed documents, drawn by a seed, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from archc.kernels.errors import ArchcError
from archc.train.packed import PackedDataset
from archc.train.sources import source_at
from archc.train.stream import Stream

if TYPE_CHECKING:
    from archc.passes.importance import Batch
    from archc.train.tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class Calibration:
    """`numbers` are those of the stream's samples, `size` of them a batch."""

    stream: Stream
    numbers: tuple[int, ...]
    size: int
    about: dict[str, Any]

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-len(self.numbers) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        from archc.passes.importance import Batch

        for at in range(0, len(self.numbers), self.size):
            made = self.stream.batch(self.numbers[at : at + self.size])
            yield Batch(made.tokens, made.segments)


def calibration(
    places: Sequence[str],
    tokenizer: Tokenizer,
    *,
    vocab: int,
    tokens: int,
    sequence: int,
    batch_tokens: int,
    seed: int,
) -> Calibration:
    """About `tokens` of the texts at `places`, in windows of `sequence`: all there are where there are fewer.

    Raises ArchcError where there is not one window, or where the tokenizer is not the model's."""
    if tokenizer.vocab_size > vocab:
        raise ArchcError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {vocab}: not its own")
    if tokens < sequence:
        raise ArchcError(f"at least one sequence is needed: got {tokens} tokens and a sequence of {sequence}")
    datasets = [PackedDataset.cached(source_at(place), tokenizer) for place in places]
    weights = [float(len(dataset)) for dataset in datasets]
    stream = Stream(datasets, weights, length=sequence, seed=seed)
    numbers = _whole_windows(stream, tokens // sequence)
    if not numbers:
        raise ArchcError(f"{', '.join(places)}: {sum(map(len, datasets))} tokens, fewer than a sequence of {sequence}")
    about = {"data": list(places), "data_hash": stream.hash, "sequence": sequence, "seed": seed}
    return Calibration(stream, numbers, max(1, batch_tokens // sequence), about)


def _whole_windows(stream: Stream, count: int) -> tuple[int, ...]:
    """The first `count` samples of the stream that are filled, none of them twice."""
    numbers = np.arange(sum(stream.windows), dtype=np.int64)
    which, window = stream.place(numbers)
    whole = np.array([len(dataset) // stream.length for dataset in stream.datasets])
    kept = [int(n) for n in numbers[window < whole[which]]]
    seen: dict[tuple[int, int], int] = {}
    for n in kept:
        seen.setdefault((int(which[n]), int(window[n])), n)
    return tuple(seen.values())[:count]
