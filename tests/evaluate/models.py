"""Small models to measure: an emitted hybrid with experts and two MTP steps, and stubs whose every answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.evaluate.metric import Setting
from archc.evaluate.subject import Subject
from archc.ir.build import MTP, Block, build_model
from archc.ir.op import op_class
from archc.train.bytes import ByteTokenizer
from archc.train.corpus import Document

VOCAB = 272  # bytes, specials, and padding
TEXTS = (
    Document("a", "Return the naïve sum of x and y.\n" * 2),
    Document("b", "Raise an error if it is not so."),
    Document("c", "é"),
    Document("empty", ""),
)


def block(kind: str, **fields: Any) -> Block:
    return kind, op_class(kind).Fields(**fields)


def emitted(folder: Path, *, seed: int) -> Any:
    """A hybrid with experts and MTP, in fp64, with random weights."""
    layers = [
        block("mamba2", n_heads=4, head_dim=8, d_state=8, n_groups=2, chunk=8),
        block("moe", experts=4, top_k=2, d_ff=16, shared_d_ff=16, activation="relu2"),
        block("attention", n_heads=4, n_kv_heads=2, head_dim=8),
        block("mlp", d_ff=24, activation="relu2"),
    ]
    mtp = MTP(layers=[block("attention", n_heads=2, n_kv_heads=1, head_dim=8)], steps=2)
    graph = build_model(name="small", d_model=32, vocab=VOCAB, layers=layers, mtp=mtp)
    return load_emitted(compile_model(graph, folder / f"small{seed}", seed=seed), dtype="float64").eval()


class Told:
    """The emitted interface over a function: tokens `[L]` give logits `[L, V]`; hidden states are the logits."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.answer = answer

    def hidden(self, tokens: Tensor) -> Tensor:
        return torch.stack([self.answer(row) for row in tokens])

    def logits(self, h: Tensor) -> Tensor:
        return h


def told(answer: Callable[[Tensor], Tensor]) -> Subject:
    """A model over bytes that answers as told."""
    return Subject("told", Told(answer), ByteTokenizer(), VOCAB)


def values(subject: Subject | None, metric: Any, **setting: Any) -> dict[str, Any]:
    """The figures of a metric by key."""
    return {f.key: f.value for f in metric.measure(Setting(subject, **{"texts": TEXTS, **setting}))}
