"""What llama and its many relatives share: layers of attention and feed-forward, two of archc's blocks each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from archc.hub.blocks import block
from archc.hub.config import ACTIVATIONS, REQUIRED, Bind, Config, bind
from archc.hub.entries import Entry, Shape, named
from archc.hub.family import Family, Table
from archc.hub.fit import Found, Rule
from archc.hub.rope import ROPE_KEYS, read_rope, write_rope
from archc.ir.graph import LAYERS
from archc.ir.ops.attention import Rope
from archc.kernels.errors import UnsupportedError, WeightError
from archc.spec.model import Block, Spec

ATTENTION = {
    "q_proj": "self_attn.q_proj.weight",
    "k_proj": "self_attn.k_proj.weight",
    "v_proj": "self_attn.v_proj.weight",
    "o_proj": "self_attn.o_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "o_bias": "self_attn.o_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "sinks": "self_attn.sinks",
}
MLP = {
    "up_proj": "mlp.up_proj.weight",
    "gate_proj": "mlp.gate_proj.weight",
    "down_proj": "mlp.down_proj.weight",
    "up_bias": "mlp.up_proj.bias",
    "gate_bias": "mlp.gate_proj.bias",
    "down_bias": "mlp.down_proj.bias",
}
NORM = {"weight": "weight", "bias": "bias"}
INV_FREQ = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"model\.rotary_emb\.inv_freq")


# Fields that every relative names alike.
TOP = (bind("hidden_size", "d_model"), bind("vocab_size", "vocab"))
N_HEADS = bind("num_attention_heads", "attention.n_heads")


def heads(config: Config) -> int:
    """transformers' default for num_key_value_heads: every query head has its own."""
    return int(N_HEADS.read(config))


def width_per_head(config: Config) -> int:
    """transformers' default for head_dim."""
    return int(TOP[0].read(config)) // int(N_HEADS.read(config))


HEADS = (
    N_HEADS,
    bind("num_key_value_heads", "attention.n_kv_heads", default=heads, absent="attention.n_heads"),
    bind("head_dim", "attention.head_dim", default=width_per_head),
)
TIED = bind("tie_word_embeddings", "tied", type=bool, default=False)
HIDDEN_ACT = bind("hidden_act", "mlp.activation", type=str, default="silu", values=ACTIVATIONS)


def alternates(second: tuple[str, ...]) -> Rule:
    """Attention, then a block of the kinds `second`, and so on; a missing block is found where the next one stands."""

    def find(spec: Spec, tp: int) -> Iterator[Found]:
        attention: tuple[str, ...] = ("attention",)
        wanted = attention
        for i, one in enumerate(spec.layers):
            if one.kind not in wanted:
                yield Found(f"{LAYERS}.{i}.mixer", "", one.kind, " or ".join(wanted))
            stands_for = one.kind if one.kind in attention + second else wanted[0]
            wanted = second if stands_for in attention else attention
        if wanted == second:
            yield Found("", "", f"{len(spec.layers)} blocks, none after the last attention", " or ".join(second))

    return Rule("alternates", "alternates attention and feed-forward, both in every layer", find, gates=True)


class Decoder(Family):
    """Layers of attention and feed-forward, each with its norm before it."""

    more_keys = frozenset({*ROPE_KEYS, "num_hidden_layers", "layer_types", "sliding_window", "max_window_layers"})
    words: ClassVar[Mapping[str, str]] = {"attention.rope": "head_dim"}
    # transformers' rotary defaults of the family.
    theta: ClassVar[float] = 10000.0
    partial: ClassVar[float] = 1.0
    scaling: ClassVar[Config | None] = None
    # Kinds of the second block of a layer.
    second: ClassVar[tuple[str, ...]] = ("mlp",)

    # -- config -------------------------------------------------------------------------------------------------------

    def feed_forward(self, config: Config, made: Mapping[str, dict[str, Any]], layer: int) -> Block:
        """The second block of a layer."""
        return block("mlp", made["mlp"])

    def windows(self, config: Config, layers: int) -> list[int | None]:
        """The attention window of each layer."""
        return [None] * layers

    def read_blocks(self, config: Config, made: Mapping[str, dict[str, Any]]) -> tuple[Block, ...]:
        layers = Bind("num_hidden_layers", ()).read(config)
        attention = made["attention"] | {"rope": self.read_rope(config)}
        blocks: list[Block] = []
        for layer, window in enumerate(self.windows(config, layers)):
            blocks.append(block("attention", attention | {"window": window}))
            blocks.append(self.feed_forward(config, made, layer))
        return tuple(blocks)

    def rules(self) -> tuple[Rule, ...]:
        return (alternates(self.second), *super().rules())

    def write_blocks(self, spec: Spec) -> Config:
        first = spec.layers[::2]
        rope = first[0].fields.rope
        return {"num_hidden_layers": len(first)} | self.write_rope(rope) | self.write_windows(windows_of(spec))

    def write_windows(self, windows: list[int | None]) -> Config:
        """Config fields that say the attention window of each layer; reading back finds out what cannot be said."""
        return {}

    def read_rope(self, config: Config) -> Rope | None:
        """The rotary embedding of every attention."""
        rope = read_rope(config, self.theta, self.partial, self.scaling)
        if self.partial == 1.0 and rope.partial != 1.0:
            raise UnsupportedError(f"`{self.model_type}` rotates whole heads: got partial_rotary_factor={rope.partial}")
        return rope

    def write_rope(self, rope: Rope | None) -> Config:
        """The rotary embedding as config fields."""
        return write_rope(rope, always=self.scaling is not None)

    # -- tensors ------------------------------------------------------------------------------------------------------

    def feed_forward_entries(
        self, one: Block, scope: str, prefix: str, layout: str, shapes: Mapping[str, Shape]
    ) -> Iterator[Entry]:
        """Entries of the second block of a layer; `prefix` is that of the layer."""
        yield from named(scope, prefix, MLP, shapes)

    def entries(self, spec: Spec, layout: str, shapes: Mapping[str, Shape]) -> Iterator[Entry]:
        """Every entry: archc's blocks 2i and 2i + 1 are layer i."""
        yield from named("embedding", "model.embed_tokens.", {"weight": "weight"}, shapes)
        yield from named("norm", "model.norm.", NORM, shapes)
        yield from named("lm_head", "lm_head.", {"weight": "weight"}, shapes)
        for i, one in enumerate(spec.layers):
            prefix, scope = f"model.layers.{i // 2}.", f"layers.{i}.mixer"
            before = "input_layernorm." if i % 2 == 0 else "post_attention_layernorm."
            yield from named(f"layers.{i}.norm", prefix + before, NORM, shapes)
            if one.kind == "attention":
                yield from named(scope, prefix, ATTENTION, shapes)
            else:
                yield from self.feed_forward_entries(one, scope, prefix, layout, shapes)

    def table(self, spec: Spec, layout: str, shapes: Mapping[str, Shape]) -> Table:
        copies = {"lm_head.weight": "model.embed_tokens.weight"} if spec.tied else {}
        return Table(tuple(self.entries(spec, layout, shapes)), dropped=INV_FREQ, copies=copies)


# -- windows -----------------------------------------------------------------------------------------------------------


def windows_of(spec: Spec) -> list[int | None]:
    """The window of each attention."""
    return [b.fields.window for b in spec.layers if b.kind == "attention"]


def typed_windows(types: Any, window: Any, layers: int) -> list[int | None]:
    """Windows from a `layer_types` list. Raises WeightError when it is not a list of the known types."""
    known = ("full_attention", "sliding_attention")
    if not isinstance(types, list) or len(types) != layers or not set(types) <= set(known):
        raise WeightError(f"`layer_types` must list {layers} of {', '.join(known)}: got {types!r}")
    return [window if kind == "sliding_attention" else None for kind in types]


def window_size(config: Config, default: int | None = None) -> int | None:
    """The `sliding_window` of a config; the default where it is absent, none where it is null."""
    if config.get("sliding_window", default) is None:
        return None
    return int(replace(SLIDING, default=default).read(config))


SLIDING = Bind("sliding_window", (), default=REQUIRED)


def layer_types(windows: list[int | None]) -> list[str]:
    """The `layer_types` list of some windows."""
    return ["full_attention" if window is None else "sliding_attention" for window in windows]
