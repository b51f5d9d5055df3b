"""Mistral (and Mistral NeMo, Mistral-NeMo-Minitron): transformers' `mistral`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archc.hub.config import Config, bind
from archc.hub.decoder import HEADS, HIDDEN_ACT, TIED, TOP, Decoder, window_size
from archc.hub.family import family

DEFAULT_WINDOW = 4096


@family
class Mistral(Decoder):
    """Llama with one attention window for all layers: 4096 unless the config says otherwise, null for none."""

    model_type = "mistral"
    architecture = "MistralForCausalLM"
    constants: ClassVar[Mapping[str, Any]] = {"mlp.gated": True}
    binds = (
        *TOP,
        *HEADS,
        TIED,
        HIDDEN_ACT,
        bind("intermediate_size", "mlp.d_ff"),
        bind("rms_norm_eps", "norm.eps", type=float, default=1e-6),
    )

    def windows(self, config: Config, layers: int) -> list[int | None]:
        return [window_size(config, DEFAULT_WINDOW)] * layers

    def write_windows(self, windows: list[int | None]) -> Config:
        return {"sliding_window": windows[0]}
