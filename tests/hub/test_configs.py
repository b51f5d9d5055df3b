"""Bare config.json files: both spellings, publishers' own, and what is refused."""

from __future__ import annotations

import json
import math
import re
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
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "vocab_size": 99,
}
QWEN_MOE = LLAMA | {"model_type": "qwen3_moe", "num_experts": 8, "head_dim": 16}
OLD_NAMES = {"M": "mamba", "E": "moe", "*": "attention"}
NEW_NAMES = {"M": "linear_attention", "E": "moe", "*": "full_attention"}


def written(folder: Path, config: dict[str, Any]) -> Path:
    """`config` as a file."""
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


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
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    old = LLAMA | {"rope_theta": 500000.0, "rope_scaling": scaling | {"rope_type": "llama3"}}
    older = LLAMA | {"rope_theta": 500000.0, "rope_scaling": scaling | {"type": "llama3"}}
    new = LLAMA | {"rope_parameters": scaling | {"rope_type": "llama3", "rope_theta": 500000.0}}
    assert spec_from_config(old) == spec_from_config(new) == spec_from_config(older)
    with pytest.raises(UnsupportedError, match="did you mean `yarn`"):
        spec_from_config(LLAMA | {"rope_scaling": {"rope_type": "yarm", "factor": 2.0}})


def test_infinity_as_transformers_5_writes_it(tmp_path: Path) -> None:
    mamba = {"model_type": "mamba2", "hidden_size": 32, "num_heads": 8, "head_dim": 8, "num_hidden_layers": 2}
    config = mamba | {"vocab_size": 50, "time_step_limit": [0.0, {"__float__": "Infinity"}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert spec_from_config(tmp_path).layers[0].fields.dt_limit == (0.0, math.inf)
    assert spec_from_config(tmp_path / "config.json") == spec_from_config(tmp_path)


def test_unknown_model_type_suggests() -> None:
    with pytest.raises(UnknownName, match="unknown model_type `nemotronh`: did you mean `nemotron_h`"):
        spec_from_config({"model_type": "nemotronh"})


def test_fields_nobody_reads_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, NANO_3 | {"attention_multiplier": 2.0})
    spec_from_config(file)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("archc.hub.bare_config", "WARNING")
    assert record.getMessage() == f"{file}: fields of `nemotron_h` that archc does not read: attention_multiplier"


@pytest.mark.parametrize(
    "quantised", [{"quant_method": "fp8"}, {"quant_method": "modelopt", "quant_algo": "NVFP4"}, {"load_in_4bit": True}]
)
def test_packed_weights_that_archc_does_not_read_are_refused(quantised: dict[str, Any], tmp_path: Path) -> None:
    file = written(tmp_path, NANO_3 | {"quantization_config": quantised})
    with pytest.raises(UnsupportedError, match=rf"^{file}: `quantization_config`.*`nemotron_h`.*unpacked"):
        spec_from_config(file)
    gpt_oss = config_of(load_spec(ZOO / "gpt-oss-20b.yaml"))
    with pytest.raises(UnsupportedError, match="`gpt_oss`: only mxfp4"):
        spec_from_config(gpt_oss | {"quantization_config": quantised})


def test_an_empty_quantization_config_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert spec_from_config(NANO_3 | {"quantization_config": None}) == spec_from_config(NANO_3)
    assert not caplog.records


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "64"}, "`hidden_size` must be int: got '64'"),
        ({"hidden_size": None}, "the config has no `hidden_size`"),
        ({"rope_scaling": {"rope_type": "yarm"}}, "rope_type `yarm` is not supported: did you mean `yarn`?"),
        ({"hidden_act": "rellu"}, "`hidden_act`: `rellu` is not supported: .*"),
        ({"model_type": "lama"}, "unknown model_type `lama`: did you mean `llama`?"),
    ],
)
def test_every_error_names_the_file(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = written(tmp_path, LLAMA | changes)
    with pytest.raises((WeightError, UnsupportedError, UnknownName)) as caught:
        spec_from_config(tmp_path)
    assert re.fullmatch(re.escape(f"{file}: ") + message.replace("?", r"\?"), str(caught.value))


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        (
            QWEN_MOE | {"num_experts_per_tok": 20},
            ["`num_experts_per_tok` must not exceed `num_experts`: got num_experts_per_tok=20, num_experts=8"],
        ),
        (
            {k: v for k, v in QWEN_MOE.items() if k != "num_experts"} | {"num_local_experts": 4},
            [
                "`num_experts_per_tok` must not exceed `num_local_experts`: "
                "got num_experts_per_tok=8, num_local_experts=4"
            ],
        ),
        (
            NANO_3 | {"n_group": 3, "topk_group": 5, "n_groups": 7},
            [
                "`mamba_num_heads` must be divisible by `n_groups`: got mamba_num_heads=64, n_groups=7 "
                "(n_groups in [1, 2, 4, 8, 16, 32, 64])",
                "`n_routed_experts` must be divisible by `n_group`: got 128 and 3",
                "`topk_group` must not exceed `n_group`: got 5",
            ],
        ),
        (
            LLAMA | {"num_key_value_heads": 3},
            [
                "`num_attention_heads` must be divisible by `num_key_value_heads`: got num_attention_heads=4, "
                "num_key_value_heads=3 (num_key_value_heads in [1, 2, 4])"
            ],
        ),
        (
            LLAMA | {"head_dim": 7},
            ["`head_dim`: rotary embedding turns channels in pairs: head_dim * partial must be even, got 7 * 1 = 7"],
        ),
        (
            LLAMA | {"rms_norm_eps": -1e-6, "initializer_range": 0.0},
            [
                "`rms_norm_eps`: expected a number greater than 0, got `-1e-06`",
                "`initializer_range`: expected a number greater than 0, got `0.0`",
            ],
        ),
    ],
)
def test_rules_of_blocks_hold_in_the_words_of_the_config(
    config: dict[str, Any], messages: list[str], tmp_path: Path
) -> None:
    file = written(tmp_path, config)
    with pytest.raises(WeightError) as caught:
        spec_from_config(file)
    assert str(caught.value).splitlines() == [f"{file}: {message}" for message in messages]


def test_rules_of_blocks_that_the_model_lacks_do_not_count() -> None:
    """Configs carry fields of blocks that their pattern does not name."""
    dense = NANO_3 | {"hybrid_override_pattern": "M*-", "num_hidden_layers": 3, "num_experts_per_tok": 500}
    assert [b.kind for b in spec_from_config(dense).layers] == ["mamba2", "attention", "mlp"]


def test_zoo_and_import_agree_on_the_bound_of_the_step_size() -> None:
    """transformers bounds it by `time_step_min`, 0.001 where the config does not say, and not by `time_step_limit`."""
    zoo = load_spec(ZOO / "nemotron-3-nano-30b-a3b.yaml")
    assert spec_from_config(NANO_3).layers == zoo.layers
    for file in sorted(ZOO.glob("nemotron-[hn3]*.yaml")):
        mixers = [b.fields for b in load_spec(file).layers if b.kind == "mamba2"]
        assert {m.dt_limit for m in mixers} == {(0.001, math.inf)}, file.name


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
    with pytest.raises(UnsupportedError, match=r"layers\.0\.mixer: mamba2, expected attention"):
        config_of(spec, "llama")
    qwen = load_spec(ZOO / "qwen2.5-7b.yaml")
    with pytest.raises(UnsupportedError, match=r"layers\.0\.mixer: o_bias False, expected True"):
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
