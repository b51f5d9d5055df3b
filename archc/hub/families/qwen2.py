"""Qwen2 and Qwen2.5: transformers' `qwen2`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from archc.hub.config import Config, bind
from archc.hub.decoder import HEADS, HIDDEN_ACT, TIED, TOP, Decoder, layer_types, typed_windows, window_size
from archc.hub.family import family

DEFAULT_WINDOW, DEFAULT_FULL_LAYERS = 4096, 28


class QwenWindows(Decoder):
    """With `use_sliding_window`, layers from `max_window_layers` on (or as `layer_types` lists) have a window."""

    more_keys = Decoder.more_keys | {"use_sliding_window"}

    def windows(self, config: Config, layers: int) -> list[int | None]:
        window = window_size(config, DEFAULT_WINDOW) if config.get("use_sliding_window") else None
        if config.get("layer_types") is not None:
            return typed_windows(config["layer_types"], window, layers)
        full = config.get("max_window_layers", DEFAULT_FULL_LAYERS)
        return [window if layer >= full else None for layer in range(layers)]

    def write_windows(self, windows: list[int | None]) -> Config:
        if not any(windows):
            return {"use_sliding_window": False}
        window = max(w for w in windows if w is not None)
        full = next((i for i, w in enumerate(windows) if w is not None), len(windows))
        return {
            "use_sliding_window": True,
            "sliding_window": window,
            "max_window_layers": full,
            "layer_types": layer_types(windows),
        }


@family
class Qwen2(QwenWindows):
    """Llama with biases on queries, keys and values."""

    model_type = "qwen2"
    architecture = "Qwen2ForCausalLM"
    constants: ClassVar[Mapping[str, Any]] = {"mlp.gated": True, "attention.qkv_bias": True}
    binds = (
        *TOP,
        *HEADS,
        TIED,
        HIDDEN_ACT,
        bind("intermediate_size", "mlp.d_ff"),
        bind("rms_norm_eps", "norm.eps", type=float, default=1e-6),
    )
