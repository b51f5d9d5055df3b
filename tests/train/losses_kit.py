"""What tests of losses share: tiny emitted models in fp64, and batches with packed documents and weights."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.spec.load import load_spec
from archc.train.batch import Batch
from archc.train.losses import Loss, Losses, Setting

SPEC = """
archc: 1
name: {name}
d_model: {d_model}
vocab: {vocab}
init: {{std: 0.3}}
blocks:
  M: {{mamba2: {{n_heads: 2, head_dim: 4, d_state: 4, chunk: 4}}}}
  "*": {{attention: {{n_heads: 2, n_kv_heads: 1, head_dim: 4}}}}
  E: {{moe: {{experts: 4, top_k: 2, d_ff: 8, activation: relu2, router: sigmoid, correction_bias: true}}}}
  "-": {{mlp: {{d_ff: 16}}}}
layers: "{layers}"
"""


def graph_of(layers: str = "M*E-", *, d_model: int = 12, vocab: int = 24, mtp: int = 0, name: str = "student") -> Graph:
    text = SPEC.format(name=name, d_model=d_model, vocab=vocab, layers=layers)
    return load_spec(text + (f'mtp: {{layers: "*E", steps: {mtp}}}\n' if mtp else "")).graph()


def model_of(graph: Graph, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> Any:
    """The emitted model of a graph in fp64, with those weights or fresh ones."""
    given = init_weights(graph, seed=seed, dtype=torch.float64) if weights is None else weights
    with tempfile.TemporaryDirectory() as scratch:
        return load_emitted(compile_model(graph, Path(scratch) / "model", weights=given), dtype="float64").train()


def batch_of(batch: int = 2, length: int = 11, *, vocab: int = 24, packed: bool = True, seed: int = 0) -> Batch:
    """Random tokens; packed ones are of documents whose numbers come back, and some have no weight, or half."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab, (batch, length), generator=g)
    segments = (torch.randint(3, (batch, length), generator=g).sort(dim=1).values % 2).int() if packed else None
    weights = torch.randint(3, (batch, length), generator=g).float() / 2 if packed else None
    return Batch(tokens, segments, weights, torch.arange(batch))


def mean(loss: Loss, model: Any, batch: Batch, setting: Setting) -> Tensor:
    """A loss over one batch."""
    losses = Losses([loss], setting)
    return losses(model, batch).objective(losses.counts(batch)) / loss.weight


def gradients(value: Tensor, model: torch.nn.Module) -> dict[str, Tensor]:
    """Gradients of every parameter that a value reaches."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(value, [p for _, p in named], allow_unused=True, retain_graph=True)
    return {n: g for (n, _), g in zip(named, found, strict=True) if g is not None}
