"""Qwen3, dense: transformers' `qwen3`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archc.hub.config import bind
from archc.hub.decoder import HIDDEN_ACT, N_HEADS, TIED, TOP, heads
from archc.hub.families.qwen2 import QwenWindows
from archc.hub.family import family

DEFAULT_HEAD_DIM = 128


@family
class Qwen3(QwenWindows):
    """Llama whose queries and keys are normed per head."""

    model_type = "qwen3"
    architecture = "Qwen3ForCausalLM"
    constants: ClassVar[Mapping[str, Any]] = {"mlp.gated": True}
    binds = (
        *TOP,
        N_HEADS,
        bind("num_key_value_heads", "attention.n_kv_heads", default=heads, absent="attention.n_heads"),
        bind("head_dim", "attention.head_dim", default=DEFAULT_HEAD_DIM),
        TIED,
        HIDDEN_ACT,
        bind("intermediate_size", "mlp.d_ff"),
        bind("rms_norm_eps", "norm.eps", "attention.qk_norm", type=float, default=1e-6),
        bind("attention_bias", "attention.qkv_bias", "attention.o_bias", type=bool, default=False),
    )
