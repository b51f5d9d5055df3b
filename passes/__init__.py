"""Passes: transformations of a graph that also say what becomes of its weights. One file each."""

from __future__ import annotations

from archc.passes import (  # noqa: F401
    attention_to_mamba,
    canonicalise,
    drop_blocks,
    drop_experts,
    drop_groups,
    drop_kv_heads,
    drop_layers,
    drop_mtp,
    fit,
    fold_norms,
    merge_experts,
    merge_groups,
    merge_kv_heads,
    prune,
    prune_vocab,
    regroup,
    reorder,
    replace_linear,
    tie_embeddings,
    untie_embeddings,
)
from archc.passes.base import Context, Pass, pass_class, register_pass, registered_passes
from archc.passes.pipeline import Pipeline, apply

__all__ = ["Context", "Pass", "Pipeline", "apply", "drop_layers", "pass_class", "register_pass", "registered_passes"]
