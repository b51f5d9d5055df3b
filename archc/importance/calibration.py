"""Calibration text: whole windows of packed documents, drawn by a seed, in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from annotated_types import Gt
from typing_extensions import Doc

from archc.emitted import Dtype
from archc.kernels.errors import ArchcError
from archc.progress import bar
from archc.train.packed import PackedDataset
from archc.train.sources import STDLIB, source_at
from archc.train.tokenizers import BYTES_NAME, find_tokenizer

if TYPE_CHECKING:
    from archc.ir.graph import Graph
    from archc.passes.importance import Batch
    from archc.train.stream import Stream
    from archc.train.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which text a model is run on, and how: options of `archc importance`, fields of a compression recipe.

    Raises ArchcError where there is to be less than one sequence."""

    data: Annotated[tuple[str, ...], Doc("text files, folders of *.txt, .jsonl files, or `stdlib`")] = (STDLIB,)
    tokens: Annotated[int, Gt(0), Doc("about how many tokens of the text")] = 128 * 1024
    sequence: Annotated[int, Gt(0), Doc("tokens of a sequence")] = 512
    batch_tokens: Annotated[int, Gt(0), Doc("tokens that go through the model at once")] = 8 * 1024
    seed: Annotated[int, Doc("which sequences are drawn")] = 0
    tokenizer: Annotated[str | None, Doc("the tokenizer's file or folder, or `bytes`; else the model's own")] = None
    dtype: Annotated[Dtype, Doc("arithmetic")] = "float32"

    def __post_init__(self) -> None:
        if self.tokens < self.sequence:
            message = (
                f"`tokens` are at least one `sequence`: got {self.tokens} tokens and a sequence of {self.sequence}"
            )
            raise ArchcError(message)

    def below(self, folder: Path) -> Self:
        """The same, what lies somewhere relative to a folder."""
        tokenizer = self.tokenizer
        return replace(
            self,
            data=tuple(place if place == STDLIB else str(folder / place) for place in self.data),
            tokenizer=tokenizer if tokenizer in (None, BYTES_NAME) else str(folder / tokenizer),
        )

    def text(self, model: Path | str, graph: Graph) -> Calibration:
        """The text, in tokens of the model in a folder. Raises ArchcError as `calibration` does."""
        return calibration(self, find_tokenizer(self.tokenizer or str(model)), graph.dims["vocab"].size)


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

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return len(self.numbers) * self.stream.length

    def __iter__(self) -> Iterator[Batch]:
        from archc.passes.importance import Batch

        for at in range(0, len(self.numbers), self.size):
            made = self.stream.batch(self.numbers[at : at + self.size])
            yield Batch(made.tokens, made.segments)

    @contextlib.contextmanager
    def told(self, label: str) -> Iterator[Iterator[Batch]]:
        """The batches, counted by a bar on the terminal."""
        with bar(label, len(self)) as advance:

            def counted() -> Iterator[Batch]:
                for batch in self:
                    yield batch
                    advance(1)

            yield counted()


def calibration(how: Sampling, tokenizer: Tokenizer, vocab: int) -> Calibration:
    """About `how.tokens` of its texts, in windows of `how.sequence`: all there are where there are fewer.

    Raises ArchcError where there is not one window, or where the tokenizer is not that of a model with `vocab` ids."""
    if tokenizer.vocab_size > vocab:
        raise ArchcError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {vocab}: not its own")
    from archc.train.stream import Stream

    datasets = [PackedDataset.cached(source_at(place), tokenizer) for place in how.data]
    stream = Stream(datasets, [float(len(dataset)) for dataset in datasets], length=how.sequence, seed=how.seed)
    numbers = _whole_windows(stream, how.tokens // how.sequence)
    if not numbers:
        there = sum(map(len, datasets))
        raise ArchcError(f"{', '.join(how.data)}: {there} tokens, fewer than a sequence of {how.sequence}")
    about = {"data": list(how.data), "data_hash": stream.hash, "sequence": how.sequence, "seed": how.seed}
    return Calibration(stream, numbers, max(1, how.batch_tokens // how.sequence), about)


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
