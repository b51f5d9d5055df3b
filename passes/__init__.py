"""Passes: transformations of a graph that also say what becomes of its weights. One file each."""

from __future__ import annotations

from archc.passes import drop_layers, merge_experts, merge_groups, merge_kv_heads  # noqa: F401
from archc.passes.base import Context, Pass, pass_class, register_pass, registered_passes
from archc.passes.pipeline import Pipeline, apply

__all__ = ["Context", "Pass", "Pipeline", "apply", "drop_layers", "pass_class", "register_pass", "registered_passes"]
