"""Llama (and Llama 3.1, Llama-3.1-Minitron, ...): transformers' `llama`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archc.hub.config import bind
from archc.hub.decoder import HEADS, HIDDEN_ACT, TIED, TOP, Decoder
from archc.hub.family import family


@family
class Llama(Decoder):
    """Grouped-query attention with rotary embeddings, gated feed-forward, RMS norms."""

    model_type = "llama"
    architecture = "LlamaForCausalLM"
    constants: ClassVar[Mapping[str, Any]] = {"mlp.gated": True}
    binds = (
        *TOP,
        *HEADS,
        TIED,
        HIDDEN_ACT,
        bind("intermediate_size", "mlp.d_ff"),
        bind("rms_norm_eps", "norm.eps", type=float, default=1e-6),
        bind("attention_bias", "attention.qkv_bias", "attention.o_bias", type=bool, default=False),
        bind("mlp_bias", "mlp.bias", type=bool, default=False),
    )
