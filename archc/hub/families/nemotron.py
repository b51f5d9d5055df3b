"""Nemotron-4 and Minitron: transformers' `nemotron`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archc.hub.config import ACTIVATIONS, bind
from archc.hub.decoder import HEADS, TIED, TOP, Decoder, width_per_head
from archc.hub.family import family


@family
class Nemotron(Decoder):
    """Layer norms with a zero-centred gain (layernorm1p), half-rotated heads, squared ReLU without a gate."""

    model_type = "nemotron"
    architecture = "NemotronForCausalLM"
    constants: ClassVar[Mapping[str, Any]] = {"norm.kind": "layer1p"}
    partial = 0.5
    binds = (
        *TOP,
        *HEADS[:2],
        # Minitron's earlier configs say kv_channels
        bind("head_dim", "attention.head_dim", default=width_per_head, aliases=("kv_channels",)),
        TIED,
        bind("hidden_act", "mlp.activation", type=str, default="relu2", values=ACTIVATIONS),
        bind("intermediate_size", "mlp.d_ff"),
        bind("norm_eps", "norm.eps", type=float, default=1e-5),
        bind("attention_bias", "attention.qkv_bias", "attention.o_bias", type=bool, default=False),
        bind("mlp_bias", "mlp.bias", type=bool, default=False),
    )
