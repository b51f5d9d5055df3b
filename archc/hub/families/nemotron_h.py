"""Nemotron-H, Nemotron Nano 2 and Nemotron 3: transformers' `nemotron_h`, dense, with experts, with MTP."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from archc.hub.blocks import all_blocks, block
from archc.hub.config import ACTIVATIONS, Bind, Config, bind
from archc.hub.entries import Each, Entry, Shape, Turned, named
from archc.hub.families.mamba2 import mixer_entries
from archc.hub.family import Family, Table, family
from archc.hub.fit import Rule, kinds
from archc.kernels.errors import UnsupportedError, WeightError
from archc.spec.model import Block, MTPSpec, Spec

# Letters of `hybrid_override_pattern`, and both generations of names in `layers_block_type`.
KINDS = {"M": "mamba2", "*": "attention", "-": "mlp", "E": "moe"}
LETTER_OF = {kind: letter for letter, kind in KINDS.items()} | {"latent_moe": "E"}
LETTERS = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}
# Lists of names that say what the patterns say.
LISTS, MTP_LIST = ("layers_block_type", "layer_types"), "mtp_layers_block_type"
DEFAULT_MTP = "*E"
# transformers starts training from the logarithm of time_step_min, so that no bound cannot be written as 0.
NO_BOUND = 1e-30

ATTENTION = {f"{name}_proj": f"{name}_proj.weight" for name in "qkvo"}
MLP = {
    "up_proj": "up_proj.weight",
    "up_bias": "up_proj.bias",
    "down_proj": "down_proj.weight",
    "down_bias": "down_proj.bias",
}
MOE = {
    "router": "gate.weight",
    "correction_bias": "gate.e_score_correction_bias",
    "latent_down": "fc1_latent_proj.weight",
    "latent_up": "fc2_latent_proj.weight",
    "shared_up_proj": "shared_experts.up_proj.weight",
    "shared_down_proj": "shared_experts.down_proj.weight",
}
JOINT = {"embed_norm": "enorm.weight", "hidden_norm": "hnorm.weight", "proj": "eh_proj.weight"}


def routed(key: str, field: str, **more: Any) -> Bind:
    """A binding of both kinds of experts."""
    return bind(key, f"moe.{field}", f"latent_moe.{field}", **more)


@family
class NemotronH(Family):
    """Mamba-2, attention without positions, squared-ReLU feed-forward and experts, one mixer a layer."""

    model_type = "nemotron_h"
    architecture = "NemotronHForCausalLM"
    # transformers 5.23 ties no weights of this family, whatever the config says
    needs_copies = True
    # Prefix of the tensors, and whether experts are one tensor each: what publishers and transformers write, what
    # transformers holds in memory, and what stands between.
    layouts = ("backbone.", "backbone. fused", "model.", "model. fused")
    constants: ClassVar[Mapping[str, Any]] = {
        "mlp.gated": False,
        **{f"{kind}.router": "sigmoid" for kind in ("moe", "latent_moe")},
        **{f"{kind}.correction_bias": True for kind in ("moe", "latent_moe")},
    }
    neutral: ClassVar[Mapping[str, Any]] = {
        "attention_bias": (False,),
        "mamba_hidden_act": ("silu",),
        "mamba_proj_bias": (False,),
        "n_shared_experts": (1,),
        "sliding_window": (None,),
    }
    more_keys = frozenset(
        [
            "num_hidden_layers",
            "hybrid_override_pattern",
            *LISTS,
            "time_step_min",
            "mamba_dt_min",
            "num_nextn_predict_layers",
            "mtp_hybrid_override_pattern",
            MTP_LIST,
            "archc_mtp_steps",
        ]
    )
    harmless = frozenset(
        [
            "expand",
            "mamba_expand",
            "mamba_ssm_cache_dtype",
            "moe_shared_expert_overlap",
            "num_logits_to_keep",
            "partial_rotary_factor",
            "rescale_prenorm_residual",
            "residual_in_fp32",
            "rope_theta",
            "time_step_floor",
            "time_step_limit",
            "time_step_max",
            "time_step_rank",
            "use_mamba_kernels",
            "mamba_dt_max",
            "mamba_dt_limit",
            "mamba_dt_init_floor",
        ]
    )
    binds: ClassVar[tuple[Bind, ...]] = (
        bind("hidden_size", "d_model", default=4096),
        bind("vocab_size", "vocab", default=131072),
        bind("tie_word_embeddings", "tied", type=bool, default=False),
        bind(
            "layer_norm_epsilon",
            *("norm.eps", "mamba2.eps"),
            type=float,
            default=1e-5,
            aliases=("norm_eps", "rms_norm_eps"),
        ),
        bind("num_attention_heads", "attention.n_heads", default=32),
        bind("num_key_value_heads", "attention.n_kv_heads", default=8, absent="attention.n_heads"),
        bind("head_dim", "attention.head_dim", default=128, aliases=("attention_head_dim",)),
        bind("intermediate_size", "mlp.d_ff", default=21504),
        bind("mlp_bias", "mlp.bias", type=bool, default=False),
        bind(
            "mlp_hidden_act",
            *("mlp.activation", "moe.activation", "latent_moe.activation"),
            type=str,
            default="relu2",
            values=ACTIVATIONS,
        ),
        bind("mamba_num_heads", "mamba2.n_heads", default=128),
        bind("mamba_head_dim", "mamba2.head_dim", default=64),
        bind("ssm_state_size", "mamba2.d_state", default=128),
        bind("n_groups", "mamba2.n_groups", default=8, aliases=("mamba_n_groups",)),
        bind("conv_kernel", "mamba2.conv_kernel", default=4, aliases=("mamba_d_conv",)),
        bind("chunk_size", "mamba2.chunk", default=128, aliases=("mamba_chunk_size",)),
        bind("use_bias", "mamba2.bias", type=bool, default=False),
        bind("use_conv_bias", "mamba2.conv_bias", type=bool, default=True, aliases=("mamba_conv_bias",)),
        routed("n_routed_experts", "experts", default=8, aliases=("num_local_experts",)),
        routed("num_experts_per_tok", "top_k", default=2),
        routed("moe_intermediate_size", "d_ff", default=7688),
        routed("moe_shared_expert_intermediate_size", "shared_d_ff", default=7688),
        routed("routed_scaling_factor", "scale", type=float, default=1.0),
        routed("n_group", "expert_groups", default=1),
        routed("topk_group", "top_groups", default=1),
        routed("norm_topk_prob", "renormalize", type=bool, default=True),
        bind("moe_latent_size", "latent_moe.latent", default=None),
    )

    # -- config -------------------------------------------------------------------------------------------------------

    def read_blocks(self, config: Config, made: Mapping[str, dict[str, Any]]) -> tuple[Block, ...]:
        pattern = read_pattern(config, "hybrid_override_pattern", LISTS)
        if pattern is None:
            raise WeightError("the config has neither `hybrid_override_pattern` nor `layers_block_type`")
        layers = config.get("num_hidden_layers")
        if layers not in (None, len(pattern)):
            raise WeightError(f"`num_hidden_layers` is {layers}, the layer pattern has {len(pattern)}: {pattern}")
        return self._blocks(pattern, config, made)

    def _blocks(self, pattern: str, config: Config, made: Mapping[str, dict[str, Any]]) -> tuple[Block, ...]:
        latent = made["latent_moe"]["latent"] is not None
        fields = dict(made) | {"mamba2": made["mamba2"] | {"dt_limit": read_bound(config)}}
        if "E" in pattern and config.get("mlp_bias"):
            raise UnsupportedError("experts with biases are not supported in `nemotron_h`: got mlp_bias=true")
        kinds = KINDS | ({"E": "latent_moe"} if latent else {})
        found = {letter: block(kinds[letter], fields[kinds[letter]]) for letter in set(pattern)}
        return tuple(found[letter] for letter in pattern)

    def read_mtp(self, config: Config, made: Mapping[str, dict[str, Any]]) -> MTPSpec | None:
        modules = config.get("num_nextn_predict_layers") or 0
        if not modules:
            return None
        if modules != 1:
            raise UnsupportedError(f"one stored MTP module is supported: got num_nextn_predict_layers={modules}")
        pattern = read_pattern(config, "mtp_hybrid_override_pattern", (MTP_LIST,)) or DEFAULT_MTP
        steps = Bind("archc_mtp_steps", (), default=1).read(config)
        return MTPSpec(layers=self._blocks(pattern, config, made), steps=steps)

    def rules(self) -> tuple[Rule, ...]:
        known = kinds(tuple(LETTER_OF), "Mamba-2, attention, feed-forward and experts, one a layer")
        return (known, *super().rules())

    def respelled(self, config: Config, spec: Spec) -> Config:
        """Layers as patterns, which old engines and transformers 5 both load."""
        patterns = _patterns(spec)
        lists = LISTS if spec.mtp is None else (*LISTS, MTP_LIST)
        return {k: v for k, v in config.items() if k not in lists} | patterns

    def write_blocks(self, spec: Spec) -> Config:
        config = _patterns(spec)
        mixers = [b.fields for b in all_blocks(spec) if b.kind == "mamba2"]
        if any(LETTER_OF[b.kind] == "E" for b in all_blocks(spec)):
            config["n_shared_experts"] = 1  # llama.cpp wants it said
        if mixers:
            config["time_step_min"] = mixers[0].dt_limit[0] or NO_BOUND
        # Foreign engines read how often to apply the MTP module from their own options, so the field is ours.
        return config | ({"archc_mtp_steps": spec.mtp.steps} if spec.mtp and spec.mtp.steps > 1 else {})

    # -- tensors ------------------------------------------------------------------------------------------------------

    def table(self, spec: Spec, layout: str, shapes: Mapping[str, Shape]) -> Table:
        prefix, _, fused = layout.partition(" ")
        copies = {"lm_head.weight": f"{prefix}embeddings.weight"} if spec.tied else {}
        return Table(tuple(self._entries(spec, prefix, bool(fused), shapes)), copies=copies)

    def _entries(self, spec: Spec, prefix: str, fused: bool, shapes: Mapping[str, Shape]) -> Iterator[Entry]:
        weight = {"weight": "weight"}
        yield from named("embedding", f"{prefix}embeddings.", weight, shapes)
        yield from named("norm", f"{prefix}norm_f.", weight, shapes)
        yield from named("lm_head", "lm_head.", weight, shapes)
        for i, one in enumerate(spec.layers):
            yield from _block_entries(one, f"layers.{i}", f"{prefix}layers.{i}.", fused, shapes)
        if spec.mtp is None:
            return
        # One MTP module: its sub-blocks are numbered, the first has the joint and the last the norm.
        last = len(spec.mtp.layers) - 1
        yield from named("mtp.joint", "mtp.layers.0.", JOINT, shapes)
        yield from named("mtp.norm", f"mtp.layers.{last}.final_layernorm.", weight, shapes)
        for i, one in enumerate(spec.mtp.layers):
            yield from _block_entries(one, f"mtp.layers.{i}", f"mtp.layers.{i}.", fused, shapes)


def _patterns(spec: Spec) -> Config:
    config: Config = {"num_hidden_layers": len(spec.layers), "hybrid_override_pattern": letters_of(spec.layers)}
    if spec.mtp is None:
        return config
    return config | {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": letters_of(spec.mtp.layers)}


def _block_entries(one: Block, scope: str, prefix: str, fused: bool, shapes: Mapping[str, Shape]) -> Iterator[Entry]:
    yield from named(f"{scope}.norm", f"{prefix}norm.", {"weight": "weight"}, shapes)
    scope, prefix = f"{scope}.mixer", f"{prefix}mixer."
    if one.kind == "mamba2":
        yield from mixer_entries(scope, prefix, shapes)
    elif one.kind == "attention":
        yield from named(scope, prefix, ATTENTION, shapes)
    elif one.kind == "mlp":
        yield from named(scope, prefix, MLP, shapes)
    else:
        yield from _expert_entries(scope, prefix, fused, shapes)


def _expert_entries(scope: str, prefix: str, fused: bool, shapes: Mapping[str, Shape]) -> Iterator[Entry]:
    yield from named(scope, prefix, MOE, shapes)
    if fused:
        yield from named(scope, prefix, {"up_proj": "experts.up_proj"}, shapes)
        yield Turned(f"{scope}.down_proj", f"{prefix}experts.down_proj")
        return
    for name in ("up_proj", "down_proj"):
        shape = shapes[f"{scope}.{name}"]
        yield Each(f"{scope}.{name}", f"{prefix}experts.{{e}}.{name}.weight", shape, turned=name == "down_proj")


def read_pattern(config: Config, pattern_key: str, list_keys: tuple[str, ...]) -> str | None:
    """The layers as letters, from the pattern or the list of names; None where the config has neither.

    Raises WeightError, naming both, where two spellings disagree."""
    found = {k: _letters(k, config[k]) for k in (pattern_key, *list_keys) if config.get(k) is not None}
    if len(set(found.values())) > 1:
        said = "; ".join(f"`{key}` says {pattern}" for key, pattern in found.items())
        raise WeightError(f"the config spells its layers twice and differently: {said}")
    return next(iter(found.values()), None)


def _letters(key: str, value: Any) -> str:
    if isinstance(value, list) and value and all(name in LETTERS for name in value):
        return "".join(LETTERS[name] for name in value)
    if isinstance(value, str) and value and set(value) <= set(KINDS):
        return value
    words = f"letters {', '.join(KINDS)}" if isinstance(value, str) else f"a list of {', '.join(LETTERS)}"
    raise WeightError(f"`{key}` must be {words}: got {value!r}")


def letters_of(blocks: tuple[Block, ...]) -> str:
    """The layer pattern of some blocks."""
    return "".join(LETTER_OF[b.kind] for b in blocks)


def read_bound(config: Config) -> tuple[float, float]:
    """The lower bound of the step size.

    transformers takes it from `time_step_min` on its chunked path, the one that full forwards take, and ignores
    `time_step_limit`: a config that says [0, inf] there has the bound all the same, 0.001 where it says no
    `time_step_min`. The zoo says so too."""
    low = Bind("time_step_min", (), float, default=0.001, aliases=("mamba_dt_min",)).read(config)
    return (low if low > NO_BOUND else 0.0, math.inf)
