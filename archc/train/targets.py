"""Distributions that a teacher gives for some positions: over the whole vocabulary, or its top k tokens and the rest.

Of a teacher's top k the mass of all other tokens is one bucket more, and the student's is bucketed alike: both sides
are distributions, so that a divergence between them is one, and a lower bound of that over the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archc.kernels.errors import ArchcError


@dataclass(frozen=True)
class Whole:
    """Logits `[rows, V]`: every token is a bucket."""

    logits: Tensor

    def log_probs(self, temperature: float) -> Tensor:
        """Log-probabilities `[rows, V]`."""
        return tempered(self.logits, temperature)

    def bucketed(self, logits: Tensor, temperature: float) -> Tensor:
        """Log-probabilities `[rows, V]` of other logits."""
        return tempered(logits, temperature)


@dataclass(frozen=True)
class TopK:
    """The k likeliest tokens of each row, and what the rest sums to at each of `temperatures`.

    `ids` `[rows, k]`; `values` `[rows, k]` their log-probabilities at temperature 1; `norms` and `tails`
    `[rows, temperatures]`: the logarithm of what `exp(log-probability / temperature)` sums to over the vocabulary, and
    that of the probability of all tokens but the k.
    """

    ids: Tensor
    values: Tensor
    norms: Tensor
    tails: Tensor
    temperatures: tuple[float, ...]

    def log_probs(self, temperature: float) -> Tensor:
        """Log-probabilities `[rows, k + 1]`, the rest last. Raises ArchcError for a temperature that is not kept."""
        if temperature not in self.temperatures:
            kept = ", ".join(f"{t:g}" for t in self.temperatures)
            raise ArchcError(f"the cached logits are kept for temperature {kept}: got {temperature:g}")
        at = self.temperatures.index(temperature)
        return torch.cat([self.values / temperature - self.norms[:, at : at + 1], self.tails[:, at : at + 1]], dim=-1)

    def bucketed(self, logits: Tensor, temperature: float) -> Tensor:
        """Log-probabilities `[rows, k + 1]` of the same tokens, and of the rest, under other logits."""
        every = tempered(logits, temperature)
        rest = every.scatter(-1, self.ids, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([every.gather(-1, self.ids), rest], dim=-1)


def top_k(logits: Tensor, k: int, temperatures: Sequence[float]) -> TopK:
    """What is kept of logits `[rows, V]`; k is below V."""
    every = tempered(logits, 1.0)
    values, ids = every.topk(k, dim=-1)
    rest = every.scatter(-1, ids, -torch.inf)
    norms = torch.stack([(every / t).logsumexp(-1) for t in temperatures], dim=-1)
    tails = torch.stack([(rest / t).logsumexp(-1) for t in temperatures], dim=-1) - norms
    return TopK(ids, values, norms, tails, tuple(temperatures))


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Log-softmax of logits over a temperature, in fp32 at least."""
    logits = logits.float() if logits.dtype.itemsize < 4 else logits
    return torch.log_softmax(logits / temperature if temperature != 1.0 else logits, dim=-1)
