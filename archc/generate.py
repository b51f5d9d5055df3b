"""Sampling from an emitted model: temperature, top-p, stop strings, a seed, text as it comes.

It works over the emitted interface (`new_state`, `prefill`, `decode`), one sequence at a time. Sampling itself is done
in fp32 on the CPU, so that a seed means the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from archc.kernels.errors import ArchcError
from archc.train.tokenizers import TextStream, Tokenizer


class GeneratingModel(Protocol):
    """The part of an emitted model that generation uses (design: the emitted interface)."""

    def new_state(self, batch_size: int, max_context: int) -> Any:
        """Empty state for `batch_size` sequences of at most `max_context` tokens."""

    def prefill(self, tokens: Tensor, state: Any) -> Tensor:
        """Take tokens `[B, L]` into the state; logits `[B, V]` of the last one."""

    def decode(self, tokens: Tensor, state: Any) -> Tensor:
        """Take one token per sequence, `[B]`, into the state; logits `[B, V]`."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; `top_p` keeps the fewest tokens whose probability reaches it."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ArchcError(f"`temperature` must be 0 (greedy) or more: got {self.temperature}")
        if not 0 <= self.seed < 2**63:
            raise ArchcError(f"`seed` must be from 0 to {2**63 - 1}: got {self.seed}")
        if not 0 < self.top_p <= 1:
            raise ArchcError(f"`top_p` must be above 0 and at most 1: got {self.top_p}")
        if self.max_tokens < 1:
            raise ArchcError(f"`max_tokens` must be at least 1: got {self.max_tokens}")
        if "" in self.stop:
            raise ArchcError("a stop string must not be empty")


def generate(
    model: GeneratingModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling, *, device: str = "cpu"
) -> Iterator[str]:
    """The continuation of `prompt`, piece by piece, up to a stop string (left out), the end token or `max_tokens`.

    Raises ArchcError for an empty prompt where the tokenizer has no token that a document begins with.
    """
    tokens = tokenizer.encode(prompt)
    if not tokens and tokenizer.begin is not None:
        tokens = [tokenizer.begin]
    if not tokens:
        raise ArchcError("the prompt is empty, and this tokenizer has no token that a document begins with")
    chosen = sample_tokens(model, tokens, sampling, vocab_size=tokenizer.vocab_size, end=tokenizer.end, device=device)
    return until_stop(decoded(chosen, tokenizer.stream()), sampling.stop)


@torch.no_grad()
def sample_tokens(
    model: GeneratingModel,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    vocab_size: int,
    end: int | None,
    device: str = "cpu",
) -> Iterator[int]:
    """Token ids after `prompt`; ids from `vocab_size` on (padding) are never chosen, `end` is not yielded."""
    generator = torch.Generator().manual_seed(sampling.seed)
    state = model.new_state(1, len(prompt) + sampling.max_tokens)
    logits = model.prefill(torch.tensor([prompt], device=device), state)
    for count in range(1, sampling.max_tokens + 1):
        token = choose(logits[0, :vocab_size], sampling, generator)
        if token == end:
            return
        yield token
        if count < sampling.max_tokens:
            logits = model.decode(torch.tensor([token], device=device), state)


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token id from logits `[V]`."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits.float().cpu() / sampling.temperature).softmax(-1)
    ranked, order = probabilities.sort(descending=True, stable=True)
    before = ranked.cumsum(-1) - ranked
    ranked = ranked.masked_fill(before >= sampling.top_p, 0.0)
    return int(order[torch.multinomial(ranked, 1, generator=generator)])


def decoded(tokens: Iterable[int], stream: TextStream) -> Iterator[str]:
    """The text of tokens as it becomes certain."""
    for token in tokens:
        yield stream.feed(token)
    yield stream.finish()


def until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Pieces up to the first stop string that completes, which is left out; what may begin one is held back.

    >>> list(until_stop(["The e", "nd. No", "t this"], ["\\n", "No"]))
    ['The e', 'nd. ']
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(held.index(s) + len(s), held.index(s)) for s in stop if s in held]
        if found:
            held = held[: min(found)[1]]
            break
        ready = len(held) - _held_back(held, stop)
        if ready:
            yield held[:ready]
            held = held[ready:]
    if held:
        yield held


def _held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string."""
    return max((n for s in stop for n in range(1, min(len(s) - 1, len(text)) + 1) if text.endswith(s[:n])), default=0)
