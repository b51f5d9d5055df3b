"""Small random transformers models, one or more per family, saved as real checkpoints for the tests of the hub.

No size is a default of its family, no two dims of a model are equal, and groups, KV heads and top-k exceed one.
Every parameter and buffer is random in a range where it matters: a zero or a one would hide a lost tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

Config = dict[str, Any]

LLAMA_LIKE: Config = {
    "vocab_size": 197,
    "hidden_size": 48,
    "intermediate_size": 92,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "rms_norm_eps": 3e-5,
    "max_position_embeddings": 64,
}
LLAMA3_ROPE: Config = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 24,
}
YARN_ROPE: Config = {
    "rope_type": "yarn",
    "rope_theta": 7000.0,
    "factor": 5.0,
    "beta_fast": 4.0,
    "beta_slow": 0.5,
    "truncate": False,
    "original_max_position_embeddings": 16,
}
QWEN_MOE: Config = {
    **LLAMA_LIKE,
    "num_experts": 9,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 28,
    "norm_topk_prob": True,
}
GPT_OSS: Config = {
    "vocab_size": 193,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 10,
    "num_local_experts": 7,
    "num_experts_per_tok": 4,
    "sliding_window": 5,
    "rms_norm_eps": 3e-5,
    "rope_parameters": YARN_ROPE,
    "max_position_embeddings": 80,
    "swiglu_limit": 1.5,
}
NEMOTRON: Config = {
    "vocab_size": 211,
    "hidden_size": 44,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 12,
    "norm_eps": 3e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 6000.0, "partial_rotary_factor": 0.5},
}
MAMBA2: Config = {
    "vocab_size": 199,
    "hidden_size": 30,
    "num_hidden_layers": 3,
    "num_heads": 15,
    "head_dim": 6,
    "expand": 3,
    "n_groups": 5,
    "state_size": 14,
    "conv_kernel": 3,
    "chunk_size": 7,
    "layer_norm_epsilon": 3e-5,
    "time_step_limit": (0.03, 0.7),
}
NEMOTRON_H: Config = {
    "vocab_size": 211,
    "hidden_size": 40,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 12,
    "intermediate_size": 100,
    "mamba_num_heads": 10,
    "mamba_head_dim": 14,
    "n_groups": 5,
    "ssm_state_size": 22,
    "conv_kernel": 3,
    "chunk_size": 7,
    "layer_norm_epsilon": 3e-5,
    "time_step_min": 0.02,
}
NEMOTRON_H_MOE: Config = {
    **NEMOTRON_H,
    "n_routed_experts": 9,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 28,
    "moe_shared_expert_intermediate_size": 52,
    "routed_scaling_factor": 2.5,
    "n_group": 3,
    "topk_group": 2,
}
LATENT: Config = {**NEMOTRON_H_MOE, "moe_latent_size": 24}


@dataclass(frozen=True)
class Oracle:
    """A model to save: its transformers class names and config; `mtp` adds tensors that transformers ignores."""

    family: str
    config: Config
    model_class: str
    mtp: str = ""
    packed: bool = False
    shard: str = "50GB"
    extra: Config = field(default_factory=dict)

    def hf_config(self) -> transformers.PretrainedConfig:
        """The transformers config, in eager attention (sinks and windows written out)."""
        kwargs = {"attn_implementation": "eager", **self.config}
        return transformers.AutoConfig.for_model(self.family, **kwargs)

    def build(self, seed: int = 0) -> transformers.PreTrainedModel:
        """The random model, fp32, in eval mode."""
        torch.manual_seed(seed)
        model = getattr(transformers, self.model_class)(self.hf_config())
        randomise(model, seed)
        return model.eval()


ORACLES: dict[str, Oracle] = {
    "llama": Oracle("llama", {**LLAMA_LIKE, "rope_parameters": LLAMA3_ROPE}, "LlamaForCausalLM"),
    "llama-tied-biased": Oracle(
        "llama",
        {**LLAMA_LIKE, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        "LlamaForCausalLM",
        shard="60KB",
    ),
    "mistral": Oracle("mistral", {**LLAMA_LIKE, "hidden_size": 54, "sliding_window": None}, "MistralForCausalLM"),
    "mistral-sliding": Oracle("mistral", {**LLAMA_LIKE, "sliding_window": 5}, "MistralForCausalLM", shard="60KB"),
    "qwen2": Oracle("qwen2", {k: v for k, v in LLAMA_LIKE.items() if k != "head_dim"}, "Qwen2ForCausalLM"),
    "qwen2-sliding": Oracle(
        "qwen2",
        {
            **{k: v for k, v in LLAMA_LIKE.items() if k != "head_dim"},
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
            "rope_parameters": YARN_ROPE,
        },
        "Qwen2ForCausalLM",
    ),
    "qwen3": Oracle("qwen3", {**LLAMA_LIKE, "tie_word_embeddings": True}, "Qwen3ForCausalLM"),
    "qwen3-untied": Oracle("qwen3", {**LLAMA_LIKE, "attention_bias": True}, "Qwen3ForCausalLM", shard="60KB"),
    "qwen3_moe": Oracle("qwen3_moe", QWEN_MOE, "Qwen3MoeForCausalLM", shard="60KB"),
    "qwen3_moe-mixed": Oracle(
        "qwen3_moe", {**QWEN_MOE, "norm_topk_prob": False, "mlp_only_layers": [1]}, "Qwen3MoeForCausalLM"
    ),
    "gpt_oss": Oracle("gpt_oss", GPT_OSS, "GptOssForCausalLM", shard="200KB"),
    "gpt_oss-mxfp4": Oracle("gpt_oss", GPT_OSS, "GptOssForCausalLM", packed=True),
    "nemotron": Oracle("nemotron", NEMOTRON, "NemotronForCausalLM", shard="60KB"),
    "mamba2": Oracle("mamba2", {**MAMBA2, "tie_word_embeddings": True}, "Mamba2ForCausalLM"),
    "mamba2-untied-biased": Oracle(
        "mamba2", {**MAMBA2, "use_bias": True, "use_conv_bias": False}, "Mamba2ForCausalLM", shard="60KB"
    ),
    "nemotron_h-dense": Oracle(
        "nemotron_h", {**NEMOTRON_H, "hybrid_override_pattern": "M-*M-"}, "NemotronHForCausalLM", shard="60KB"
    ),
    "nemotron_h-moe": Oracle(
        "nemotron_h", {**NEMOTRON_H_MOE, "hybrid_override_pattern": "MEM*E-"}, "NemotronHForCausalLM", shard="60KB"
    ),
    "nemotron_h-latent": Oracle("nemotron_h", {**LATENT, "hybrid_override_pattern": "ME*ME"}, "NemotronHForCausalLM"),
    "nemotron_h-mtp": Oracle(
        "nemotron_h",
        {
            **LATENT,
            "hybrid_override_pattern": "ME*ME",
            "num_nextn_predict_layers": 1,
            "mtp_hybrid_override_pattern": "*E",
        },
        "NemotronHForCausalLM",
        mtp="*E",
        shard="100KB",
    ),
}


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter and persistent buffer a random value in a range where it matters."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(random_value(name, tensor, generator))


def random_value(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """A value for a parameter, by what its name says it is."""
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    uniform = torch.rand(tensor.shape, generator=generator, dtype=torch.float32)
    if name.endswith("A_log"):
        return torch.log(1 + 7 * uniform)
    if name.endswith("dt_bias"):
        return 4 * uniform - 4
    if name.endswith(("correction_bias", ".bias", "_bias", ".D", "sinks")):
        return 0.4 * noise
    if tensor.ndim == 1:
        return 1 + 0.3 * noise
    fan_in = tensor.shape[-1] if "conv1d" not in name else 1
    return noise * (1.5 / math.sqrt(fan_in))


def save(oracle: Oracle, folder: Path, seed: int = 0, sharded: bool = True) -> transformers.PreTrainedModel:
    """Save a random model of `oracle` as transformers writes it, with a stand-in tokenizer and generation config.

    Returns the model that the files describe (dequantised where they are packed), in fp32 and eval mode.
    """
    model = oracle.build(seed)
    model.save_pretrained(folder, max_shard_size=oracle.shard if sharded else "50GB")
    if oracle.packed:
        model = _pack_experts(oracle, folder, seed)
    if oracle.mtp:
        _add_tensors(folder, mtp_tensors(oracle, seed))
    _respell(oracle, folder)
    (folder / "tokenizer.json").write_text('{"stand-in": "tokenizer"}')
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return model


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint folder, by its name on disk."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def mtp_tensors(oracle: Oracle, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of one MTP block (sub-blocks `oracle.mtp`) under the names that public converters write."""
    c, prefix = oracle.config, "mtp.layers.0"
    d = c["hidden_size"]
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}.enorm.weight": (d,),
        f"{prefix}.hnorm.weight": (d,),
        f"{prefix}.eh_proj.weight": (d, 2 * d),
    }
    for i, letter in enumerate(oracle.mtp):
        shapes[f"mtp.layers.{i}.norm.weight"] = (d,)
        sub = _attention_shapes(c) if letter == "*" else _latent_moe_shapes(c)
        shapes |= {f"mtp.layers.{i}.mixer.{name}": shape for name, shape in sub.items()}
    shapes[f"mtp.layers.{len(oracle.mtp) - 1}.final_layernorm.weight"] = (d,)
    generator = torch.Generator().manual_seed(seed + 2)
    return {name: random_value(name, torch.empty(shape), generator) for name, shape in shapes.items()}


def _attention_shapes(c: Config) -> dict[str, tuple[int, ...]]:
    d, q, kv = c["hidden_size"], c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    return {
        "q_proj.weight": (q, d),
        "k_proj.weight": (kv, d),
        "v_proj.weight": (kv, d),
        "o_proj.weight": (d, q),
    }


def _latent_moe_shapes(c: Config) -> dict[str, tuple[int, ...]]:
    d, n, ff, latent = c["hidden_size"], c["n_routed_experts"], c["moe_intermediate_size"], c["moe_latent_size"]
    shared = c["moe_shared_expert_intermediate_size"]
    return {
        "gate.weight": (n, d),
        "gate.e_score_correction_bias": (n,),
        "fc1_latent_proj.weight": (latent, d),
        "fc2_latent_proj.weight": (d, latent),
        "shared_experts.up_proj.weight": (shared, d),
        "shared_experts.down_proj.weight": (d, shared),
        **{f"experts.{e}.up_proj.weight": (ff, latent) for e in range(n)},
        **{f"experts.{e}.down_proj.weight": (latent, ff) for e in range(n)},
    }


def _add_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put `tensors` into one more shard and into the index."""
    index_file = folder / "model.safetensors.index.json"
    if not index_file.exists():
        only = folder / "model.safetensors"
        save_file(load_file(only) | dict(tensors), only, metadata={"format": "pt"})
        return
    save_file(dict(tensors), folder / "model-extra.safetensors", metadata={"format": "pt"})
    index = json.loads(index_file.read_text())
    index["weight_map"] |= dict.fromkeys(tensors, "model-extra.safetensors")
    index_file.write_text(json.dumps(index))


def _pack_experts(oracle: Oracle, folder: Path, seed: int) -> transformers.PreTrainedModel:
    """Replace gpt_oss's expert matrices on disk by random mxfp4 blocks; returns the model they dequantise to."""
    generator = torch.Generator().manual_seed(seed + 3)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, columns, rows = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(122, 126, (experts, rows, columns // 32), generator=generator, dtype=torch.uint8)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(tensors, file, metadata={"format": "pt"})
    _edit_config(folder, lambda c: c | {"quantization_config": {"quant_method": "mxfp4"}})
    quantised = transformers.Mxfp4Config(dequantize=True)
    model_class = getattr(transformers, oracle.model_class)
    model = model_class.from_pretrained(
        folder, quantization_config=quantised, dtype=torch.float32, attn_implementation="eager"
    )
    return model.float().eval()


def _respell(oracle: Oracle, folder: Path) -> None:
    """Write what transformers drops or respells on saving as the publishers' config.json has it."""
    if oracle.family == "nemotron_h":
        drop = {"layers_block_type", "layer_types", "mtp_layers_block_type"}
        patterns = {k: v for k, v in oracle.config.items() if k.endswith("override_pattern")}
        _edit_config(folder, lambda c: {k: v for k, v in c.items() if k not in drop} | patterns)


def _edit_config(folder: Path, edit: Callable[[Config], Config]) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(edit(json.loads(file.read_text())), indent=2))
