"""Vocabulary-sized work on a few positions at a time: peak memory does not grow with vocabulary x sequence.

Forward and backward are chunked alike: a chunk's logits are computed again in the backward pass (Chen et al. 2016,
"Training deep nets with sublinear memory cost"), unless everything is one chunk.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from archc.kernels.reference.segments import segment_runs
from archc.train.batch import Batch

CHUNK_ELEMENTS = 2**24  # of logits: 64 MiB in fp32


def chunked_sums(fn: Callable[..., tuple[Tensor, ...]], *rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """`fn(*rows)`, scalar sums over the rows of tensors `[N, ...]`, computed a chunk of rows at a time.

    `width` is how many elements a row becomes inside `fn`: the vocabulary.
    """
    step = max(1, CHUNK_ELEMENTS // width)
    parts = [torch.split(tensor, step) for tensor in rows]
    if len(parts[0]) == 1:
        return fn(*rows)
    sums = [_recomputed(fn, *chunk) for chunk in zip(*parts, strict=True)]
    return tuple(torch.stack(column).sum() for column in zip(*sums, strict=True))


def _recomputed(fn: Callable[..., tuple[Tensor, ...]], *chunk: Tensor) -> tuple[Tensor, ...]:
    """`fn(*chunk)` that keeps only its inputs for the backward pass."""
    if not torch.is_grad_enabled():
        return fn(*chunk)
    made: tuple[Tensor, ...] = checkpoint(fn, *chunk, use_reentrant=False, preserve_rng_state=False)
    return made


def shifted(batch: Batch, ahead: int) -> tuple[Tensor, Tensor]:
    """What position t predicts, the token at t + `ahead`, and its weight: `[B, L - ahead]` each.

    The weight is zero where that token is of another document.
    """
    targets = batch.tokens[:, ahead:]
    weights = torch.ones_like(targets, dtype=torch.float32) if batch.weights is None else batch.weights[:, ahead:]
    if batch.segments is not None:
        runs = segment_runs(batch.segments)
        weights = weights * (runs[:, ahead:] == runs[:, : targets.shape[1]])
    return targets, weights


def wide(x: Tensor) -> Tensor:
    """`x` in fp32 at least: probabilities are not computed in less."""
    return x.float() if x.dtype.itemsize < 4 else x


def flat(value: Tensor, positions: int) -> Tensor:
    """The first `positions` of values `[B, L, ...]` as rows `[B * positions, ...]`."""
    return value[:, :positions].flatten(0, 1)
