"""Mamba-2 alone (mamba2-2.7b-hf, Mamba-Codestral, ...): transformers' `mamba2`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from archc.hub.blocks import block
from archc.hub.config import Bind, Config, bind
from archc.hub.entries import Entry, Reshaped, Shape, named
from archc.hub.family import Family, Table, family
from archc.hub.fit import Rule, kinds
from archc.kernels.errors import WeightError
from archc.spec.model import Block, Spec

MIXER = {
    "in_proj": "in_proj.weight",
    "in_proj_bias": "in_proj.bias",
    "conv_bias": "conv1d.bias",
    "A_log": "A_log",
    "D": "D",
    "dt_bias": "dt_bias",
    "norm": "norm.weight",
    "out_proj": "out_proj.weight",
    "out_proj_bias": "out_proj.bias",
}
NO_LIMIT = (0.0, math.inf)


def mixer_entries(scope: str, prefix: str, shapes: Mapping[str, Shape]) -> Iterator[Entry]:
    """A Mamba-2 mixer as transformers stores it: the taps of its depthwise convolution are [channels, 1, kernel]."""
    yield from named(scope, prefix, MIXER, shapes)
    channels, kernel = shapes[f"{scope}.conv_weight"]
    yield Reshaped(f"{scope}.conv_weight", f"{prefix}conv1d.weight", (channels, kernel), (channels, 1, kernel))


@family
class Mamba2(Family):
    """Mamba-2 mixers alone, one a layer."""

    model_type = "mamba2"
    architecture = "Mamba2ForCausalLM"
    more_keys = frozenset({"num_hidden_layers", "expand", "intermediate_size", "time_step_limit"})
    neutral: ClassVar[Mapping[str, Any]] = {
        "hidden_act": ("silu",),
        "rms_norm": (True,),
        "norm_before_gate": (True, False),
    }
    harmless = frozenset(
        [
            "rescale_prenorm_residual",
            "residual_in_fp32",
            "time_step_floor",
            "time_step_init_scheme",
            "time_step_max",
            "time_step_min",
            "time_step_rank",
            "time_step_scale",
        ]
    )
    binds = (
        bind("hidden_size", "d_model"),
        bind("vocab_size", "vocab"),
        bind("num_heads", "mamba2.n_heads", default=128),
        bind("head_dim", "mamba2.head_dim", default=64),
        bind("state_size", "mamba2.d_state", default=128),
        bind("n_groups", "mamba2.n_groups", default=8),
        bind("conv_kernel", "mamba2.conv_kernel", default=4),
        bind("chunk_size", "mamba2.chunk", default=256),
        bind("layer_norm_epsilon", "norm.eps", "mamba2.eps", type=float, default=1e-5),
        bind("use_bias", "mamba2.bias", type=bool, default=False),
        bind("use_conv_bias", "mamba2.conv_bias", type=bool, default=True),
        bind("tie_word_embeddings", "tied", type=bool, default=False),
    )

    def read_blocks(self, config: Config, made: Mapping[str, dict[str, Any]]) -> tuple[Block, ...]:
        mixer, width = made["mamba2"], config["hidden_size"]
        expand, inner = config.get("expand", 2), mixer["n_heads"] * mixer["head_dim"]
        if not isinstance(expand, int | float) or int(expand * width) != inner:
            raise WeightError(f"`expand` x hidden_size must be num_heads x head_dim = {inner}: got {expand} x {width}")
        one = block("mamba2", mixer | {"dt_limit": read_limit(config)})
        return (one,) * int(Bind("num_hidden_layers", ()).read(config))

    def rules(self) -> tuple[Rule, ...]:
        return (kinds(("mamba2",), "Mamba-2 mixers alone"), *super().rules())

    def write_blocks(self, spec: Spec) -> Config:
        mixer = spec.layers[0].fields
        expand = mixer.n_heads * mixer.head_dim / spec.d_model
        limit = {} if mixer.dt_limit == NO_LIMIT else {"time_step_limit": list(mixer.dt_limit)}
        return {"num_hidden_layers": len(spec.layers), "expand": int(expand) if expand.is_integer() else expand} | limit

    def table(self, spec: Spec, layout: str, shapes: Mapping[str, Shape]) -> Table:
        copies = {"lm_head.weight": "backbone.embeddings.weight"} if spec.tied else {}
        return Table(tuple(self._entries(spec, shapes)), copies=copies)

    def _entries(self, spec: Spec, shapes: Mapping[str, Shape]) -> Iterator[Entry]:
        weight = {"weight": "weight"}
        yield from named("embedding", "backbone.embeddings.", weight, shapes)
        yield from named("norm", "backbone.norm_f.", weight, shapes)
        yield from named("lm_head", "lm_head.", weight, shapes)
        for i in range(len(spec.layers)):
            yield from named(f"layers.{i}.norm", f"backbone.layers.{i}.norm.", weight, shapes)
            yield from mixer_entries(f"layers.{i}.mixer", f"backbone.layers.{i}.mixer.", shapes)


def read_limit(config: Config) -> tuple[float, float]:
    """The bounds of the step size: `time_step_limit`, no bounds by default."""
    limit = config.get("time_step_limit")
    if limit is None:
        return NO_LIMIT
    numbers = isinstance(limit, list | tuple) and all(isinstance(v, int | float) for v in limit)
    if not numbers or len(limit) != 2 or not 0 <= limit[0] < limit[1]:
        raise WeightError(f"`time_step_limit` must be [low, high] with 0 <= low < high: got {limit!r}")
    return float(limit[0]), float(limit[1])
