"""The graphs that ops are timed in: one block of each kind and shape, at several widths."""

from __future__ import annotations

from typing import Any

from archc.ir.build import build_model
from archc.ir.graph import Graph
from archc.ir.ops.attention import Attention, Rope
from archc.ir.ops.latent_moe import LatentMoE
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.ir.ops.moe import MoE

WIDTHS = (64, 160, 384, 896)
VOCABS = (512, 2048, 8192, 4096)


def stacks() -> list[Graph]:
    """One graph a width."""
    return [
        build_model(name=f"stack_{width}", d_model=width, vocab=vocab, layers=_blocks(width))
        for width, vocab in zip(WIDTHS, VOCABS, strict=True)
    ]


def _blocks(width: int) -> list[tuple[str, Any]]:
    rope = Rope()
    return [
        ("mamba2", Mamba2.Fields(n_heads=width // 16, head_dim=32, d_state=32, n_groups=2, chunk=64)),
        ("attention", Attention.Fields(n_heads=width // 32, head_dim=32, n_kv_heads=width // 32, rope=rope)),
        ("mlp", MLP.Fields(d_ff=4 * width, activation="relu2")),
        ("moe", MoE.Fields(experts=8, top_k=2, d_ff=width, activation="relu2", router="sigmoid")),
        ("mamba2", Mamba2.Fields(n_heads=width // 32, head_dim=64, d_state=64, n_groups=1, chunk=64)),
        ("attention", Attention.Fields(n_heads=width // 16, head_dim=32, n_kv_heads=2)),
        ("mlp", MLP.Fields(d_ff=2 * width, activation="silu", gated=True)),
        ("moe", MoE.Fields(experts=16, top_k=4, d_ff=width // 2, shared_d_ff=width, gated=True)),
        ("latent_moe", LatentMoE.Fields(experts=16, top_k=4, d_ff=width // 2, latent=width // 2, activation="relu2")),
    ]
