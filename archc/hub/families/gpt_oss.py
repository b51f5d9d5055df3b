"""gpt-oss (20b, 120b): transformers' `gpt_oss`, its experts as plain tensors or packed as mxfp4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from archc.hub.blocks import block
from archc.hub.config import Config, bind
from archc.hub.decoder import TIED, TOP, Decoder, heads, layer_types, typed_windows, window_size
from archc.hub.entries import Entry, Same, Shape, Woven, named
from archc.hub.family import Table, family
from archc.spec.model import Block, Spec

DEFAULT_WINDOW = 128
EXPERTS = ("gate_proj", "up_proj", "down_proj")


@family
class GptOss(Decoder):
    """Attention with sinks, every other layer with a window; experts of a clamped gated unit; biases everywhere.

    The router takes a softmax over the chosen logits, which is a softmax over all renormalised over the chosen.
    """

    model_type = "gpt_oss"
    architecture = "GptOssForCausalLM"
    second = ("moe",)
    layouts = ("plain", "mxfp4")
    theta = 150000.0
    scaling: ClassVar[Config | None] = {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 4096,
    }
    constants: ClassVar[Mapping[str, Any]] = {
        "attention.sinks": True,
        "moe.gated": True,
        "moe.activation": "clamped_swiglu",
        "moe.router": "softmax",
        "moe.renormalize": True,
        "moe.bias": True,
        "moe.router_bias": True,
    }
    neutral: ClassVar[Mapping[str, Any]] = {"hidden_act": ("silu",)}
    harmless = frozenset({"initial_context_length"})
    packings = ("mxfp4",)
    binds = (
        *TOP,
        bind("num_attention_heads", "attention.n_heads", default=64),
        bind("num_key_value_heads", "attention.n_kv_heads", default=heads, absent="attention.n_heads"),
        bind("head_dim", "attention.head_dim", default=64),
        TIED,
        bind("intermediate_size", "moe.d_ff", default=2880),
        bind("num_local_experts", "moe.experts", default=128, aliases=("num_experts",)),
        bind("num_experts_per_tok", "moe.top_k", default=4, aliases=("experts_per_token",)),
        bind("swiglu_limit", "moe.limit", type=float, default=7.0),
        bind("swiglu_alpha", "moe.alpha", type=float, default=1.702),
        bind("rms_norm_eps", "norm.eps", type=float, default=1e-5),
        bind("attention_bias", "attention.qkv_bias", "attention.o_bias", type=bool, default=True),
    )

    def windows(self, config: Config, layers: int) -> list[int | None]:
        window = window_size(config, DEFAULT_WINDOW)
        types = config.get("layer_types") or layer_types([window if i % 2 == 0 else None for i in range(layers)])
        return typed_windows(types, window, layers)

    def write_windows(self, windows: list[int | None]) -> Config:
        window = next((w for w in windows if w is not None), None)
        return {"layer_types": layer_types(windows)} | ({"sliding_window": window} if window else {})

    def feed_forward(self, config: Config, made: Mapping[str, dict[str, Any]], layer: int) -> Block:
        return block("moe", made["moe"])

    def feed_forward_entries(
        self, one: Block, scope: str, prefix: str, layout: str, shapes: Mapping[str, Shape]
    ) -> Iterator[Entry]:
        router = {"router": "mlp.router.weight", "router_bias": "mlp.router.bias"}
        yield from named(scope, prefix, router | {"down_bias": "mlp.experts.down_proj_bias"}, shapes)
        experts, size = f"{prefix}mlp.experts.", one.fields.d_ff

        def pair(ours: str, theirs: str, turned: bool = False) -> Entry:
            names = tuple(f"{scope}.{ours.format(part)}" for part in ("gate", "up"))
            return Woven(names, experts + theirs, axis=1, size=size, interleaved=True, turned=turned)

        yield pair("{}_bias", "gate_up_proj_bias")
        if layout == "plain":
            yield pair("{}_proj", "gate_up_proj", turned=True)
            yield Same(f"{scope}.down_proj", f"{experts}down_proj")
            return
        for part in ("blocks", "scales"):
            yield pair(f"{{}}_proj.{part}", f"gate_up_proj_{part}")
            yield Same(f"{scope}.down_proj.{part}", f"{experts}down_proj_{part}")

    def table(self, spec: Spec, layout: str, shapes: Mapping[str, Shape]) -> Table:
        table = super().table(spec, layout, shapes)
        if layout == "plain":
            return table
        scopes = [f"layers.{i}.mixer" for i, one in enumerate(spec.layers) if one.kind == "moe"]
        return replace(table, packed={f"{scope}.{name}": layout for scope in scopes for name in EXPERTS})
