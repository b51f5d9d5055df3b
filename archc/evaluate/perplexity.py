"""How well a model predicts text: nats a token, perplexity, and bits a byte, which no tokenizer can flatter."""

from __future__ import annotations

import math

import torch

from archc.evaluate.metric import Figure, Metric, Setting, metric, needs_positive
from archc.evaluate.scoring import token_nats
from archc.evaluate.windows import Window, batches, windows
from archc.kernels.errors import ArchcError


class Windowed(Metric):
    """A metric over sliding windows: `length` tokens go in, `stride` of them (half, unless told) are scored anew."""

    length: int
    stride: int | None

    def __post_init__(self) -> None:
        needs_positive(self, "length")
        if not 1 <= self.step <= self.length:
            raise ArchcError(
                f"{self.name}: `stride` must be from 1 to `length`, or tokens would be left out:"
                f" got length={self.length}, stride={self.stride}"
            )

    @property
    def step(self) -> int:
        """Tokens that a window scores beyond the one before."""
        return max(self.length // 2, 1) if self.stride is None else self.stride

    def windows(self, on: Setting) -> list[Window]:
        """Every scored token of the texts, once."""
        size = {"length": self.length, "stride": self.step}
        return [window for e in on.encoded for window in windows(e.tokens, first=e.first, **size)]


@metric("perplexity")
class Perplexity(Windowed):
    """Every token of the texts is scored once, documents apart."""

    length: int = 512
    stride: int | None = None

    @torch.inference_mode()
    def measure(self, on: Setting) -> tuple[Figure, ...]:
        """Nats a token, perplexity, bits a byte, and what they were measured on."""
        found = self.windows(on)
        sums, likeliest = [], 0
        with on.progress("perplexity", len(found)) as advance:
            for batch in batches(found, batch_tokens=on.batch_tokens):
                nats, hits = token_nats(on.model, batch)
                sums.append(float(nats.sum()))
                likeliest += int(hits.sum())
                advance(len(batch.inputs))
        return self.figures(on, math.fsum(sums), likeliest)

    def figures(self, on: Setting, nats: float, likeliest: int) -> tuple[Figure, ...]:
        """The figures of a sum of nats over all scored tokens."""
        tokens, size = sum(e.scored for e in on.encoded), sum(e.bytes for e in on.encoded)
        lossy = sum(not e.lossless for e in on.encoded)
        bits = nats / math.log(2) / size
        made = [
            Figure("nats_per_token", nats / tokens, "nats a token", f"{nats / tokens:.4f}"),
            Figure("perplexity", math.exp(nats / tokens), "perplexity", f"{math.exp(nats / tokens):.3f}"),
            Figure("bits_per_byte", bits, "bits a byte", f"{bits:.4f}"),
            Figure("accuracy", likeliest / tokens, "tokens that were the likeliest", f"{likeliest / tokens:.2%}"),
            Figure("documents", len(on.encoded), "documents", f"{len(on.encoded):,}"),
            Figure("tokens", tokens, "tokens scored", f"{tokens:,}"),
            Figure("bytes", size, "bytes they stand for", f"{size:,}"),
        ]
        if lossy:
            made.append(Figure("lossy_documents", lossy, "documents that do not survive the tokenizer", f"{lossy:,}"))
        return tuple(made)
