"""Llama (and Llama 3.1, Llama-3.1-Minitron, ...): transformers' `llama`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from archc.hub.config import bind
from archc.hub.decoder import HEADS, HIDDEN_ACT, TIED, TOP, Decoder
from archc.hub.family import family
from archc.hub.fit import Found, Rule, placed
from archc.spec.model import Spec


def _whole_heads(spec: Spec, tp: int) -> Iterator[Found]:
    for scope, one in placed(spec):
        if one.kind == "attention" and spec.d_model % one.fields.n_heads:
            yield Found(scope, "n_heads", one.fields.n_heads, f"a divisor of d_model {spec.d_model}")


WHOLE_HEADS = Rule(
    "whole-heads",
    "d_model is a multiple of the query heads, though head_dim is told (transformers' LlamaConfig refuses others)",
    _whole_heads,
)


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

    def rules(self) -> tuple[Rule, ...]:
        return (*super().rules(), WHOLE_HEADS)
