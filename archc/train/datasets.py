"""The data of a recipe: packed where it is not yet, mixed, and the windows to measure on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from archc.kernels.errors import ArchcError, DataError, MissingPackage, SourceError
from archc.train.evaluation import HeldOut, bytes_of
from archc.train.packed import PackedDataset
from archc.train.recipe import DataEntry, Recipe
from archc.train.stream import Stream
from archc.train.tokenizers import Tokenizer

_ON_BAD = "`on_bad: skip` leaves such lines out and counts them"
_MEASURED = 8  # sequences of one forward pass on held-out text, at most


def stream_of(recipe: Recipe, tokenizer: Tokenizer) -> Stream:
    """What a recipe trains on."""
    return _mixed(recipe, "train", tokenizer, seed=recipe.seed)


def held_out_of(recipe: Recipe, tokenizer: Tokenizer, *, vocab: int) -> HeldOut | None:
    """What a recipe measures on, each window once and the same in every run; None where it names nothing."""
    if not recipe.data.held_out:
        return None
    stream = _mixed(recipe, "held_out", tokenizer, seed=0)
    count = min(recipe.evaluation.windows, sum(stream.windows))
    size = min(recipe.micro_batch or recipe.sequences, _MEASURED)
    batches = [stream.batch(range(start, min(start + size, count))) for start in range(0, count, size)]
    return HeldOut(batches, vocab, bytes_of(batches, tokenizer))


def _mixed(recipe: Recipe, part: str, tokenizer: Tokenizer, *, seed: int) -> Stream:
    entries: Sequence[DataEntry] = getattr(recipe.data, part)
    datasets = []
    for i, entry in enumerate(entries):
        with _placed(recipe, "data", part, i):
            datasets.append(PackedDataset.cached(entry.source, tokenizer, on_bad=entry.on_bad))
    with _placed(recipe, "data", part):
        return Stream(datasets, [entry.weight for entry in entries], length=recipe.sequence, seed=seed)


@contextlib.contextmanager
def _placed(recipe: Recipe, *loc: str | int) -> Iterator[None]:
    """An error without a place is one of a part of the recipe's data; of bad lines it is said what a recipe can do."""
    try:
        yield
    except DataError as error:
        raise DataError(error.at, error.message, hint=_ON_BAD) from error
    except (SourceError, MissingPackage):
        raise
    except ArchcError as error:
        raise recipe.error(loc, str(error)) from error
