"""Sliding windows over tokens: every token is scored once, behind as much context as the stride leaves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Tokens `[n + 1]`, of which n go into the model, and which of them are scored, in order."""

    tokens: Tensor
    scored: range | tuple[int, ...]

    @property
    def inputs(self) -> int:
        """Tokens that go into the model."""
        return len(self.tokens) - 1


def windows(tokens: Tensor, *, first: int, length: int, stride: int) -> Iterator[Window]:
    """Windows of at most `length` inputs that score the tokens `[N]` from `first` on, each once.

    The first window scores all that it reaches, each later one `stride` more. A token has at least
    `length - stride` + 1 tokens of context, or all there are.

    >>> [(w.tokens.tolist(), list(w.scored)) for w in windows(torch.arange(8), first=1, length=4, stride=2)]
    [([0, 1, 2, 3, 4], [1, 2, 3, 4]), ([2, 3, 4, 5, 6], [3, 4]), ([3, 4, 5, 6, 7], [4])]
    """
    done, end = max(first, 1), min(length + 1, len(tokens))
    while done < len(tokens):
        if end > done:
            begin = max(end - length - 1, 0)
            yield Window(tokens[begin:end], range(done - begin, end - begin))
            done = end
        end = min(end + stride, len(tokens))


@dataclass(frozen=True)
class WindowBatch:
    """Windows side by side: inputs `[B, L]`, padded on the right; `scored` `[B, L]` marks what predicts a scored token,
    `targets` `[n]` are these tokens. `numbers` are those of the windows, in the order in which they were given."""

    inputs: Tensor
    scored: Tensor
    targets: Tensor
    numbers: tuple[int, ...]


def batches(found: Iterable[Window], *, batch_tokens: int) -> Iterator[WindowBatch]:
    """All windows, the long ones first, at most `batch_tokens` inputs at a time, or one window."""
    ordered = sorted(enumerate(found), key=lambda pair: -pair[1].inputs)  # stable
    at = 0
    while at < len(ordered):
        count = max(batch_tokens // max(ordered[at][1].inputs, 1), 1)
        numbers, some = zip(*ordered[at : at + count], strict=True)
        yield _batch(some, numbers)
        at += count


def _batch(some: Sequence[Window], numbers: tuple[int, ...]) -> WindowBatch:
    longest = max(w.inputs for w in some)
    inputs = torch.zeros(len(some), longest, dtype=torch.int64)
    scored = torch.zeros(len(some), longest, dtype=torch.bool)
    for row, window in enumerate(some):
        inputs[row, : window.inputs] = window.tokens[:-1]
        scored[row, torch.tensor(window.scored) - 1] = True
    return WindowBatch(inputs, scored, torch.cat([w.tokens[torch.tensor(w.scored)] for w in some]), numbers)
