"""Bare config.json files: both spellings, publishers' own, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers

from archc.hub.bare_config import config_of, spec_from_config
from archc.hub.config import read_config
from archc.hub.family import families
from archc.kernels.errors import UnknownName, UnsupportedError, WeightError
from archc.spec import load_spec

ZOO = Path(__file__).parents[2] / "archc" / "zoo"

# As published: https://huggingface.co/nvidia/Minitron-4B-Base, its first and its later config.
MINITRON = {
    "model_type": "nemotron",
    "hidden_act": "relu2",
    "hidden_size": 3072,
    "initializer_range": 0.0134,
    "intermediate_size": 9216,
    "max_position_embeddings": 4096,
    "num_attention_heads": 24,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "norm_eps": 1e-05,
    "rope_theta": 10000,
    "rope_percent": 0.5,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 256000,
}
MINITRON_LATER = {k: v for k, v in MINITRON.items() if k != "rope_percent"} | {
    "partial_rotary_factor": 0.5,
    "kv_channels": 128,
}
# The layer fields of nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.
NANO_3 = {
    "model_type": "nemotron_h",
    "chunk_size": 128,
    "conv_kernel": 4,
    "expand": 2,
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856,
    "layer_norm_epsilon": 1e-05,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_group": 1,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "norm_eps": 1e-05,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 1.0,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "sliding_window": None,
    "ssm_state_size": 128,
    "time_step_limit": [0.0, math.inf],
    "topk_group": 1,
    "vocab_size": 131072,
}
OLD_NAMES = {"M": "mamba", "E": "moe", "*": "attention"}
NEW_NAMES = {"M": "linear_attention", "E": "moe", "*": "full_attention"}


def total(config: dict[str, Any]) -> int:
    graph = spec_from_config(config).graph()
    return sum(math.prod(shape) for key, shape in graph.weight_shapes().items() if not key.startswith("mtp."))


def test_publishers_configs_count_what_they_print() -> None:
    assert total(MINITRON) == total(MINITRON_LATER) == 4_190_509_056
    assert total(NANO_3) == 31_577_940_288  # "31.6B"


def test_both_spellings_of_a_layer_pattern_are_one_model() -> None:
    for names in (OLD_NAMES, NEW_NAMES):
        layers = [names[letter] for letter in NANO_3["hybrid_override_pattern"]]
        listed = {k: v for k, v in NANO_3.items() if k != "hybrid_override_pattern"} | {"layers_block_type": layers}
        assert spec_from_config(listed) == spec_from_config(NANO_3)
        assert spec_from_config(listed | {"hybrid_override_pattern": NANO_3["hybrid_override_pattern"]})


def test_spellings_that_disagree_are_refused_by_both_names() -> None:
    layers = ["mamba"] * 52
    with pytest.raises(WeightError, match=r"`hybrid_override_pattern` says MEM.*`layers_block_type` says MMM"):
        spec_from_config(NANO_3 | {"layers_block_type": layers})
    with pytest.raises(WeightError, match=r"head_dim=128, attention_head_dim=64"):
        spec_from_config(NANO_3 | {"attention_head_dim": 64})
    with pytest.raises(WeightError, match="num_hidden_layers` is 50, the layer pattern has 52"):
        spec_from_config(NANO_3 | {"num_hidden_layers": 50})


def test_mtp_in_both_spellings_and_its_steps() -> None:
    one = spec_from_config(NANO_3 | {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E"})
    other = spec_from_config(NANO_3 | {"num_nextn_predict_layers": 1, "mtp_layers_block_type": ["attention", "moe"]})
    assert one == other
    assert one.mtp is not None
    assert [b.kind for b in one.mtp.layers] == ["attention", "moe"]
    with pytest.raises(UnsupportedError, match="one stored MTP module"):
        spec_from_config(NANO_3 | {"num_nextn_predict_layers": 2})


def test_rope_in_both_spellings_is_one_model() -> None:
    base = {
        "model_type": "llama",
        **{
            "hidden_size": 64,
            "num_attention_heads": 4,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "vocab_size": 99,
        },
    }
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    old = base | {"rope_theta": 500000.0, "rope_scaling": scaling | {"rope_type": "llama3"}}
    older = base | {"rope_theta": 500000.0, "rope_scaling": scaling | {"type": "llama3"}}
    new = base | {"rope_parameters": scaling | {"rope_type": "llama3", "rope_theta": 500000.0}}
    assert spec_from_config(old) == spec_from_config(new) == spec_from_config(older)
    with pytest.raises(UnsupportedError, match="did you mean `yarn`"):
        spec_from_config(base | {"rope_scaling": {"rope_type": "yarm", "factor": 2.0}})


def test_infinity_as_transformers_5_writes_it(tmp_path: Path) -> None:
    mamba = {"model_type": "mamba2", "hidden_size": 32, "num_heads": 8, "head_dim": 8, "num_hidden_layers": 2}
    config = mamba | {"vocab_size": 50, "time_step_limit": [0.0, {"__float__": "Infinity"}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert spec_from_config(tmp_path).layers[0].fields.dt_limit == (0.0, math.inf)
    assert spec_from_config(tmp_path / "config.json") == spec_from_config(tmp_path)


def test_unknown_model_type_suggests() -> None:
    with pytest.raises(UnknownName, match="unknown model_type `nemotronh`: did you mean `nemotron_h`"):
        spec_from_config({"model_type": "nemotronh"})


def test_fields_nobody_reads_are_named() -> None:
    with pytest.warns(UserWarning, match="does not read: attention_multiplier"):
        spec_from_config(NANO_3 | {"attention_multiplier": 2.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "wide"}, "`hidden_size` must be int: got 'wide'"),
        ({"hidden_size": -4}, "between 1 and 2"),
        ({"vocab_size": True}, "`vocab_size` must be int: got True"),
        ({"layer_norm_epsilon": math.inf, "norm_eps": None}, "must be finite"),
        ({"hybrid_override_pattern": "MX"}, "must be letters M, \\*, -, E: got 'MX'"),
        ({"hybrid_override_pattern": None}, "neither `hybrid_override_pattern` nor"),
        ({"attention_bias": True}, "does not have: attention_bias=true"),
        ({"mlp_hidden_act": "relu"}, "`relu` is not supported: did you mean `relu2`"),
    ],
)
def test_impossible_fields_are_one_clear_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((WeightError, UnsupportedError), match=message):
        spec_from_config(NANO_3 | changes)


def test_all_missing_fields_at_once() -> None:
    with pytest.raises(WeightError, match=r"no `hidden_size`\n.*no `vocab_size`\n"):
        spec_from_config({"model_type": "llama"})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "[" * 100_000])
def test_what_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightError, match=r"config\.json"):
        read_config(tmp_path)


def test_a_model_that_a_family_cannot_express_is_refused_with_every_reason() -> None:
    spec = load_spec(ZOO / "nemotron-nano-9b-v2.yaml")
    with pytest.raises(UnsupportedError, match="alternates attention and feed-forward"):
        config_of(spec, "llama")
    qwen = load_spec(ZOO / "qwen2.5-7b.yaml")
    with pytest.raises(UnsupportedError, match=r"layers\.0\.mixer: o_bias True against False"):
        config_of(qwen, "llama")


@pytest.mark.parametrize("name", sorted(p.stem for p in ZOO.glob("*.yaml")))
def test_transformers_counts_the_same_parameters(name: str) -> None:
    """The exported config on the meta device: parameters and persistent buffers; rotary tables are neither."""
    import torch

    spec = load_spec(ZOO / f"{name}.yaml")
    config = transformers.AutoConfig.for_model(**config_of(spec))
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    persistent = model.state_dict().keys()
    theirs = sum({id(p): p.numel() for p in model.parameters()}.values())
    theirs += sum(b.numel() for n, b in model.named_buffers() if n in persistent)
    shapes = spec.graph().weight_shapes()
    assert theirs == sum(math.prod(s) for key, s in shapes.items() if not key.startswith("mtp."))


def test_every_zoo_model_of_a_family_survives_its_config() -> None:
    """Spec to config and back is the same function; llama stands for models that several families can say."""
    from archc.hub.blocks import differences

    for file in sorted(ZOO.glob("*.yaml")):
        spec = load_spec(file)
        config = config_of(spec)
        assert not differences(families()[config["model_type"]].read(config, spec.name), spec), file.name


def test_a_bare_config_is_read_without_torch() -> None:
    code = f"import sys; from archc.hub.bare_config import spec_from_config; spec_from_config({MINITRON!r})"
    code += "; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
