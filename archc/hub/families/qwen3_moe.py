"""Qwen3 with experts (Qwen3-30B-A3B, ...): transformers' `qwen3_moe`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from archc.hub.blocks import block
from archc.hub.config import ACTIVATIONS, Config, bind
from archc.hub.decoder import HEADS, TIED, TOP, Decoder, window_size
from archc.hub.entries import Each, Entry, Shape, Turned, Woven, named
from archc.hub.family import family
from archc.kernels.errors import WeightError
from archc.spec.model import Block, Spec

DEFAULT_WINDOW = 4096


@family
class Qwen3Moe(Decoder):
    """Qwen3 whose layers, but for some dense ones, route over experts by a softmax."""

    model_type = "qwen3_moe"
    architecture = "Qwen3MoeForCausalLM"
    constants: ClassVar[Mapping[str, Any]] = {"mlp.gated": True, "moe.gated": True, "moe.router": "softmax"}
    second = ("mlp", "moe")
    layouts = ("separate", "fused")
    more_keys = Decoder.more_keys | {"use_sliding_window", "mlp_only_layers", "decoder_sparse_step"}
    binds = (
        *TOP,
        *HEADS,
        TIED,
        bind("hidden_act", "moe.activation", "mlp.activation", type=str, default="silu", values=ACTIVATIONS),
        bind("intermediate_size", "mlp.d_ff", default=6144),
        bind("num_experts", "moe.experts", default=128, aliases=("num_local_experts",)),
        bind("num_experts_per_tok", "moe.top_k", default=8),
        bind("moe_intermediate_size", "moe.d_ff", default=768),
        bind("norm_topk_prob", "moe.renormalize", type=bool, default=False),
        bind("rms_norm_eps", "norm.eps", "attention.qk_norm", type=float, default=1e-6),
        bind("attention_bias", "attention.qkv_bias", "attention.o_bias", type=bool, default=False),
    )

    def windows(self, config: Config, layers: int) -> list[int | None]:
        return [window_size(config, DEFAULT_WINDOW) if config.get("use_sliding_window") else None] * layers

    def write_windows(self, windows: list[int | None]) -> Config:
        return {"use_sliding_window": windows[0] is not None, "sliding_window": windows[0]}

    def feed_forward(self, config: Config, made: Mapping[str, dict[str, Any]], layer: int) -> Block:
        step, dense = config.get("decoder_sparse_step") or 1, config.get("mlp_only_layers") or []
        if not isinstance(step, int) or not isinstance(dense, list):
            raise WeightError(f"not a number and a list: decoder_sparse_step={step!r}, mlp_only_layers={dense!r}")
        kind = "mlp" if layer in dense or (layer + 1) % step else "moe"
        return block(kind, made[kind])

    def write_blocks(self, spec: Spec) -> Config:
        dense = [layer for layer, one in enumerate(spec.layers[1::2]) if one.kind == "mlp"]
        return super().write_blocks(spec) | {"decoder_sparse_step": 1, "mlp_only_layers": dense}

    def feed_forward_entries(
        self, one: Block, scope: str, prefix: str, layout: str, shapes: Mapping[str, Shape]
    ) -> Iterator[Entry]:
        if one.kind == "mlp":
            yield from super().feed_forward_entries(one, scope, prefix, layout, shapes)
            return
        yield from named(scope, prefix, {"router": "mlp.gate.weight"}, shapes)
        experts = f"{prefix}mlp.experts."
        if layout == "fused":
            pair = (f"{scope}.gate_proj", f"{scope}.up_proj")
            yield Woven(pair, f"{experts}gate_up_proj", axis=1, size=one.fields.d_ff)
            yield Turned(f"{scope}.down_proj", f"{experts}down_proj")
            return
        for name in ("gate_proj", "up_proj", "down_proj"):
            shape = shapes[f"{scope}.{name}"]
            yield Each(f"{scope}.{name}", f"{experts}{{e}}.{name}.weight", shape, turned=name == "down_proj")
