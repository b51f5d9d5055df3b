"""`nemotron_h_puzzle`: layers with sizes of their own, there and back, and what its config may not say."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc import zoo
from archc.hub.bare_config import config_of, spec_from_config
from archc.hub.blocks import differences
from archc.hub.checkpoint import Checkpoint
from archc.hub.checkpoint_dir import CheckpointDir, load_checkpoint, write_checkpoint_dir
from archc.hub.config import read_config
from archc.hub.export import export_checkpoint
from archc.hub.family import families
from archc.hub.import_ import import_checkpoint
from archc.ir.init import init_weights
from archc.kernels.errors import UnsupportedError, WeightError
from archc.spec import Spec, load_spec
from archc.spec.model import Block
from tests.hub.oracles import ORACLES, save

PUZZLE = "nemotron_h_puzzle"


def spec(name: str, **changes: dict[str, Any]) -> Spec:
    """A zoo model, the fields of some layers (`L3`, of MTP `MTP1`) changed."""
    found = load_spec(zoo.path(name))
    assert found.mtp is not None or not any(k.startswith("MTP") for k in changes)

    def changed(prefix: str, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(
            replace(b, fields=replace(b.fields, **changes.get(f"{prefix}{i}", {}))) for i, b in enumerate(blocks)
        )

    mtp = found.mtp and replace(found.mtp, layers=changed("MTP", found.mtp.layers))
    return replace(found, layers=changed("L", found.layers), mtp=mtp)


UNEVEN = {
    "L1": {"d_ff": 48, "top_k": 2},
    "L4": {"experts": 12, "shared_d_ff": 40},
    "L6": {"latent": 24, "scale": 1.5},
    "L8": {"n_heads": 8},
    "MTP0": {"n_kv_heads": 1},
    "MTP1": {"d_ff": 56},
}


def uneven(**more: dict[str, Any]) -> Spec:
    return spec("tiny-latent", **{k: UNEVEN.get(k, {}) | more.get(k, {}) for k in UNEVEN | more})


def checkpoint(folder: Path, made: Spec) -> CheckpointDir:
    graph = made.graph()
    write_checkpoint_dir(folder, graph, init_weights(graph, seed=1), {"step": "test"})
    return load_checkpoint(folder)


def assert_survives(made: Spec) -> dict[str, Any]:
    config = config_of(made, PUZZLE)
    read = spec_from_config(json.loads(json.dumps(config)), made.name)
    assert not differences(read, made)
    assert read.graph().hash == replace(made, formats=()).graph().hash
    return config


def test_uneven_layers_are_written_as_a_puzzle_and_even_ones_are_not() -> None:
    assert config_of(spec("tiny-latent"))["model_type"] == "nemotron_h"
    config = config_of(uneven())
    assert config["model_type"] == PUZZLE
    assert config["architectures"] == ["NemotronHPuzzleForCausalLM"]
    assert config["block_configs"][1] == {
        "block_type": "moe",
        "n_routed_experts": 16,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "moe_shared_expert_intermediate_size": 256,
        "moe_latent_size": 64,
        "routed_scaling_factor": 2.5,
    }
    assert config["block_configs"][0] == {"block_type": "mamba"}
    assert config["mtp_block_configs"][0] == {
        "block_type": "attention",
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
    }
    assert config["layers_block_type"][:4] == ["mamba", "moe", "mamba", "attention"]


def test_only_what_all_layers_share_stands_above_them() -> None:
    """A reader that takes the field above for a layer's must not find another layer's size there."""
    config = config_of(uneven(), PUZZLE)
    assert not {"moe_intermediate_size", "n_routed_experts", "num_attention_heads", "moe_latent_size"} & set(config)
    assert (config["head_dim"], config["n_group"], config["ssm_state_size"]) == (32, 1, 32)
    assert config_of(spec("tiny-latent"), PUZZLE)["moe_intermediate_size"] == 192


def test_export_and_import_give_the_same_graph_and_weights(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "ckpt", uneven())
    export_checkpoint(source, tmp_path / "hf")
    assert read_config(tmp_path / "hf")["model_type"] == PUZZLE
    back = import_checkpoint(tmp_path / "hf", tmp_path / "back", name=source.graph.name)
    assert back.graph == replace(source.graph, formats=back.graph.formats)
    assert all(back.tensors.read(name).equal(source.tensors.read(name)) for name in source.tensors.names)
    assert set(back.tensors.names) == set(source.tensors.names)
    export_checkpoint(back, tmp_path / "again")
    assert read_config(tmp_path / "again") == read_config(tmp_path / "hf")
    one, other = Checkpoint(tmp_path / "hf"), Checkpoint(tmp_path / "again")
    assert one.shapes == other.shapes
    assert any(name.startswith("model.layers.1.mixer.experts.0.") for name in one.names)


@st.composite
def puzzles(draw: st.DrawFn) -> Spec:
    """Nemotron-H with sizes drawn for every layer that may have its own."""
    base = load_spec(zoo.path(draw(st.sampled_from(["tiny-latent", "tiny-hybrid", "tiny-dense"]))))

    def drawn(one: Block) -> Block:
        return replace(one, fields=replace(one.fields, **draw(st.fixed_dictionaries(SIZES.get(one.kind, {})))))

    mtp = base.mtp and replace(base.mtp, layers=tuple(drawn(one) for one in base.mtp.layers))
    return replace(base, layers=tuple(drawn(one) for one in base.layers), mtp=mtp)


small = st.integers(1, 5)
EXPERTS = {
    "experts": st.integers(4, 6),
    "top_k": st.integers(1, 3),
    "d_ff": small,
    "shared_d_ff": small,
    "scale": st.sampled_from([1.0, 2.5]),
    "renormalize": st.booleans(),
}
SIZES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "mlp": {"d_ff": small},
    "attention": {
        "n_heads": st.sampled_from([4, 8]),
        "n_kv_heads": st.sampled_from([1, 2]),
        "head_dim": small,
        "window": st.none() | small,
    },
    "moe": EXPERTS,
    "latent_moe": EXPERTS | {"latent": small},
}


@given(made=puzzles())
@settings(deadline=None, max_examples=40)
def test_any_sizes_survive_the_config(made: Spec) -> None:
    assert_survives(made)


def test_plain_and_latent_experts_in_one_model() -> None:
    made = uneven()
    (plain,) = (b for b in load_spec(zoo.path("tiny-hybrid")).layers[:4] if b.kind == "moe")
    fields = {f.name: getattr(plain.fields, f.name) for f in dataclasses.fields(plain.fields)}
    same = {**fields, "activation": made.layers[4].fields.activation}
    layers = (*made.layers[:4], replace(plain, fields=replace(plain.fields, **same)), *made.layers[5:])
    config = assert_survives(replace(made, layers=layers))
    assert "moe_latent_size" not in config["block_configs"][4]
    assert config["block_configs"][1]["moe_latent_size"] == 64


def test_a_pruned_import_goes_from_nemotron_h_to_puzzle_with_its_other_fields(tmp_path: Path) -> None:
    save(ORACLES["nemotron_h-latent"], tmp_path / "hf")
    config = read_config(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | {"mamba_ssm_cache_dtype": "float32"}))
    parent = import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    narrow = spec_like(parent, 1, {"d_ff": 20, "experts": 9})
    graph = narrow.graph()
    write_checkpoint_dir(tmp_path / "narrow", graph, init_weights(graph, seed=0), {"step": "prune"}, parent=parent)
    export_checkpoint(load_checkpoint(tmp_path / "narrow"), tmp_path / "out")
    made = read_config(tmp_path / "out")
    assert made["model_type"] == PUZZLE
    assert (made["mamba_ssm_cache_dtype"], made["max_position_embeddings"]) == (
        "float32",
        config["max_position_embeddings"],
    )
    assert [one.get("moe_intermediate_size") for one in made["block_configs"]] == [None, 20, None, None, 28]
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def spec_like(parent: CheckpointDir, layer: int, changes: dict[str, Any]) -> Spec:
    from archc.spec import spec_from_graph

    found = spec_from_graph(parent.graph)
    layers = list(found.layers)
    layers[layer] = replace(layers[layer], fields=replace(layers[layer].fields, **changes))
    return replace(found, layers=tuple(layers))


# -- what it cannot say ------------------------------------------------------------------------------------------------


def test_mamba_sizes_that_differ_are_refused_by_field_and_layer(tmp_path: Path) -> None:
    made = spec("tiny-latent", L2={"d_state": 16}, L5={"n_heads": 2})
    wanted = [
        "layers.2.mixer: d_state 16, expected 32 (`ssm_state_size` says it once for all layers)",
        "layers.5.mixer: n_heads 2, expected 4 (`mamba_num_heads` says it once for all layers)",
    ]
    with pytest.raises(UnsupportedError) as caught:
        export_checkpoint(checkpoint(tmp_path / "ckpt", made), tmp_path / "hf")
    lines = str(caught.value).splitlines()
    assert lines[0] == "no foreign family can express `tiny-latent`; `nemotron_h` comes nearest, and cannot say:"
    assert lines[1:3] == wanted
    assert lines[-1] == f"a package says any model: archc compile {tmp_path / 'ckpt'} -o PACKAGE"
    assert not (tmp_path / "hf").exists()
    assert [str(one) for one in families()[PUZZLE].violations(made)] == wanted


def test_a_missing_block_is_found_by_the_one_that_stands_in_its_place(tmp_path: Path) -> None:
    llama = load_spec(zoo.path("tiny-attention"))
    without = (*llama.layers[:4], *llama.layers[5:])  # layer 2 has lost its attention
    (broken,) = families()["llama"].violations(replace(llama, layers=without))
    assert str(broken) == "layers.4.mixer: mlp, expected attention"
    (broken,) = families()["llama"].violations(replace(llama, layers=llama.layers[:-1]))
    assert str(broken) == f"{len(llama.layers) - 1} blocks, none after the last attention, expected mlp"


def entry(number: int, **changes: Any) -> dict[str, Any]:
    """The config of an uneven model with some fields of one object changed; None takes one away."""
    config = config_of(uneven(), PUZZLE)
    config["block_configs"][number] = {
        k: v for k, v in (config["block_configs"][number] | changes).items() if v is not None
    }
    return config


def bad_configs() -> Iterator[tuple[dict[str, Any], str]]:
    yield entry(1, moe_intermediate_size="wide"), "`block_configs[1]`: `moe_intermediate_size` must be int: got 'wide'"
    yield entry(1, moe_intermediate_size=-3), "`block_configs[1]`: `moe_intermediate_size` must be between 1 and 2^40"
    yield (
        entry(1, moe_intermediate_sizes=3),
        ("`block_configs[1]`: unknown field `moe_intermediate_sizes` of `moe`: did you mean `moe_intermediate_size`?"),
    )
    yield entry(0, block_type="mambo"), "`block_configs[0]`: unknown `block_type` `mambo`: did you mean `mamba`?"
    yield entry(0, block_type=["moe"]), "`block_configs[0]`: unknown `block_type` `['moe']`"
    yield entry(1, n_routed_experts=None), "`block_configs[1]`: `moe` has no `n_routed_experts`, nor has the config"
    yield entry(1, num_experts_per_tok=99), "`num_experts_per_tok` must not exceed `n_routed_experts`"
    yield entry(2, ssm_state_size=7), "`block_configs`: layers.2.mixer: d_state 7, expected 32 (`ssm_state_size`"
    yield entry(1, block_type="mlp"), "`block_configs[1]`: unknown field `n_routed_experts` of `mlp`"
    config = config_of(uneven(), PUZZLE)
    yield config | {"block_configs": {}}, "`block_configs` must be a list of objects, one a layer: got `{}`"
    yield config | {"block_configs": None}, "`block_configs` must be a list of objects, one a layer: got `None`"
    yield config | {"block_configs": ["moe"]}, "`block_configs` must be a list of objects, one a layer: got `['moe']`"
    yield config | {"num_hidden_layers": 3}, "`num_hidden_layers` is 3, `block_configs` has 10"
    yield config | {"hybrid_override_pattern": None, "layers_block_type": ["moe"]}, "`block_configs` says MEM*EMEM*E"
    yield config | {"mtp_block_configs": [{"block_type": "moe"}]}, "`mtp_block_configs[0]`: `moe` has no `n_routed"


@pytest.mark.parametrize(("config", "message"), list(bad_configs()))
def test_bad_objects_are_one_error_with_file_and_field(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    with pytest.raises((WeightError, UnsupportedError), match=re.escape(message)) as caught:
        spec_from_config(file)
    assert all(line.startswith(f"{file}: ") for line in str(caught.value).splitlines())


def test_all_faulty_objects_are_told_at_once() -> None:
    config = entry(1, moe_intermediate_size="wide")
    config["block_configs"][6]["experts"] = 3
    with pytest.raises(WeightError, match=r"(?s)`block_configs\[1\]`.*`block_configs\[6\]`"):
        spec_from_config(config)


def test_sizes_that_all_share_may_stand_above_alone() -> None:
    """As Megatron's bridge writes it: of experts, only width and top-k by layer."""
    made = spec("tiny-latent", L1={"d_ff": 48})
    config = config_of(made, PUZZLE)
    own = {"block_type", "moe_intermediate_size", "num_experts_per_tok"}
    for key in ("block_configs", "mtp_block_configs"):
        config[key] = [{k: v for k, v in one.items() if k in own} for one in config[key]]
    assert not differences(spec_from_config(config), made)


def test_a_layer_without_its_mixer_is_refused_by_name_and_a_package_offered(tmp_path: Path) -> None:
    whole = load_spec(zoo.path("tiny-dense")).graph()
    kept = (n for n in whole.nodes if n.id != "L2.mixer")
    nodes = tuple(replace(n, inputs=tuple("L2.norm" if i == "L2.mixer" else i for i in n.inputs)) for n in kept)
    hollow = replace(whole, nodes=nodes)
    write_checkpoint_dir(tmp_path / "ckpt", hollow, init_weights(hollow, seed=0), {"step": "test"})
    with pytest.raises(UnsupportedError) as caught:
        export_checkpoint(tmp_path / "ckpt", tmp_path / "hf")
    assert str(caught.value).splitlines() == [
        "block `L2` is not a norm, a mixer and a residual add: got norm, add",
        f"a package says any model: archc compile {tmp_path / 'ckpt'} -o PACKAGE",
    ]
