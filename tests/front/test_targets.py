"""Which runtimes load which graphs: the rules, their agreement with export, and `archc check`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from typer.testing import CliRunner

from archc import zoo
from archc.cli import app, main
from archc.hub.bare_config import config_of
from archc.hub.family import families
from archc.ir.dims import Dim
from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError, UnknownName, UnsupportedError
from archc.passes.pipeline import apply
from archc.resolve import load
from archc.spec import Spec, load_spec, spec_from_graph
from archc.targets import TARGETS, check, fit
from archc.testing import graphs


def spec(name: str, **changes: dict[str, Any]) -> Spec:
    """A zoo model with the fields of some layers (`L3`) changed."""
    found = load_spec(zoo.path(name))
    layers = (replace(b, fields=replace(b.fields, **changes.get(f"L{i}", {}))) for i, b in enumerate(found.layers))
    return replace(found, layers=tuple(layers))


def graph(name: str, **changes: dict[str, Any]) -> Graph:
    return spec(name, **changes).graph()


def reasons(graph: Graph, target: str, tp: int = 1) -> list[str]:
    return [str(one) for one in check(graph, target, tp)]


UNEVEN = {"L1": {"d_ff": 48, "top_k": 2}, "L6": {"d_ff": 64}}


# -- what each runtime loads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.names())
def test_every_zoo_model_is_loaded_by_transformers_and_vllm(name: str) -> None:
    """tests/hub loads each with transformers itself."""
    assert not reasons(load(name), "transformers")
    assert not reasons(load(name), "vllm")


def test_widths_of_experts_that_differ_want_a_puzzle() -> None:
    made = graph("tiny-latent", **UNEVEN)
    assert reasons(made, "transformers") == [
        "layers.1.mixer: top_k 2, expected 4 (`num_experts_per_tok` says it once for all layers)",
        "layers.1.mixer: d_ff 48, expected 192 (`moe_intermediate_size` says it once for all layers)",
        "layers.6.mixer: d_ff 64, expected 192 (`moe_intermediate_size` says it once for all layers)",
    ]
    assert reasons(made, "vllm") == reasons(made, "transformers")
    assert {one.rule for one in check(made, "vllm")} == {"one-size"}
    assert fit(made, "vllm-puzzle").family == fit(made, "llama.cpp").family == "nemotron_h_puzzle"
    assert not reasons(made, "vllm-puzzle")
    assert not reasons(made, "llama.cpp")


def test_llama_cpp_reads_width_and_top_k_of_latent_experts_by_layer_and_nothing_else() -> None:
    experts = graph("tiny-latent", L1={"experts": 12})
    assert not reasons(experts, "vllm-puzzle")
    assert reasons(experts, "llama.cpp") == [
        "layers.1.mixer: experts 12, expected 16 (`n_routed_experts` says it once for all layers)"
    ]
    dense = spec("tiny-dense")
    first = next(i for i, b in enumerate(dense.layers) if b.kind == "mlp")
    uneven = graph("tiny-dense", **{f"L{first}": {"d_ff": 40}})
    assert not reasons(uneven, "vllm-puzzle")
    assert reasons(uneven, "llama.cpp") == [
        f"layers.{first}.mixer: d_ff 40, expected 768 (`intermediate_size` says it once for all layers)"
    ]


def test_mamba_sizes_are_one_everywhere_but_in_a_package() -> None:
    made = graph("tiny-latent", L2={"d_state": 16})
    for target in set(TARGETS) - {"package"}:
        (one,) = check(made, target)
        assert (one.at.scope, one.node, one.at.field) == ("layers.2.mixer", "L2.mixer", "d_state")
        assert (one.at.found, one.at.expected) == (16, 32)
    assert not check(made, "package")


def test_experts_and_plain_feed_forward_in_one_model_are_not_for_llama_cpp() -> None:
    dense, sparse = spec("tiny-dense"), spec("tiny-hybrid")
    mlp = next(b for b in dense.layers if b.kind == "mlp")
    made = replace(sparse, layers=(mlp, *sparse.layers)).graph()
    assert not reasons(made, "vllm")
    assert reasons(made, "llama.cpp") == [
        "layers.0.mixer: mlp, expected moe or latent_moe (a model with experts has them in every such layer)"
    ]


def test_a_module_for_further_tokens_is_attention_and_experts() -> None:
    made = spec("tiny-latent")
    assert made.mtp is not None
    mamba = replace(made, mtp=replace(made.mtp, layers=(made.layers[0], *made.mtp.layers))).graph()
    for target in ("vllm", "vllm-puzzle"):
        assert reasons(mamba, target) == ["mtp.layers.0.mixer: mamba2, expected attention or experts"]
    assert not reasons(mamba, "transformers")
    turned = replace(made, mtp=replace(made.mtp, layers=made.mtp.layers[::-1])).graph()
    assert not reasons(turned, "vllm")
    wanted = ["mtp latent_moe, attention, expected attention, then experts"]
    assert reasons(turned, "llama.cpp") == wanted
    narrow = replace(made.layers[1], fields=replace(made.layers[1].fields, d_ff=48))
    layers = (made.layers[0], narrow, *made.layers[2:])
    uneven = replace(made, layers=layers, mtp=replace(made.mtp, layers=made.mtp.layers[::-1])).graph()
    assert {v.rule for v in check(uneven, "vllm-puzzle")} == {"one-size"}, "nearer to `nemotron_h` than to a puzzle"


def test_a_llama_like_graph_must_fit_a_family() -> None:
    assert fit(load("llama-3.1-8b"), "vllm").family == "llama"
    uneven = graph("tiny-attention", L3={"d_ff": 24})
    (one,) = check(uneven, "vllm")
    assert (one.rule, one.at.scope, one.at.field, one.at.found) == ("one-size", "layers.3.mixer", "d_ff", 24)
    sinks = graph("tiny-attention", L2={"sinks": True})
    assert reasons(sinks, "vllm") == ["layers.2.mixer: sinks True, expected False"]
    assert check(sinks, "vllm")[0].rule == "config"


def test_places_are_those_of_the_graph_at_hand_and_nodes_keep_their_ids() -> None:
    shorter, _ = apply(graph("tiny-attention", L5={"d_ff": 24}), "drop-layers{layers=(0,1)}")
    (one,) = check(shorter, "vllm")
    assert (one.at.scope, one.node) == ("layers.3.mixer", "L5.mixer")


def test_a_dropped_block_is_named_by_what_stands_in_its_place() -> None:
    lonely, _ = apply(load("tiny-attention"), "drop-layers{layers=(4)}")
    assert reasons(lonely, "transformers") == ["layers.4.mixer: mlp, expected attention"]
    assert {one.rule for one in check(lonely, "transformers")} == {"alternates"}


def test_a_graph_that_no_spec_can_say() -> None:
    """Two layers that share one dim: pruning one prunes both, which no config knows."""
    plain = load("tiny-attention")
    first, second = (plain.node(f"L{i}.mixer").op.dims["d_ff"] for i in (1, 3))

    def linked(dim: Dim) -> Dim:
        return first if dim == second else dim

    made = plain.with_dims(linked)
    (one,) = check(made, "vllm")
    assert (one.rule, one.at.scope) == ("chain", "")
    assert "shares" in str(one)
    assert not check(made, "package")


ODD = """\
archc: 1
name: odd
d_model: {d_model}
vocab: 64
blocks:
  "*":
    attention: {{n_heads: 4, n_kv_heads: 2, head_dim: 8, rope: {{theta: 10000}}, qkv_bias: {bias}, o_bias: {bias}}}
  "-": {{mlp: {{d_ff: 16, gated: true, activation: silu, bias: {bias}}}}}
layers: "*-"
"""
DECODERS = ("gpt_oss", "llama", "mistral", "nemotron", "qwen2", "qwen3", "qwen3_moe")


def odd(d_model: int, bias: str = "false") -> Spec:
    return load_spec(ODD.format(d_model=d_model, bias=bias))


@pytest.mark.parametrize("d_model", [30, 32])
def test_a_width_that_heads_do_not_divide_is_no_llama(d_model: int) -> None:
    plain, biased = odd(d_model).graph(), odd(d_model, "true").graph()
    divides = not d_model % 4
    assert fit(plain, "transformers").family == ("llama" if divides else "mistral"), "which takes any width"
    assert bool(fit(biased, "transformers")) == divides, "mistral has no biases"
    if not divides:
        (one,) = check(biased, "transformers")
        assert (one.rule, str(one)) == ("whole-heads", "layers.0.mixer: n_heads 4, expected a divisor of d_model 30")


@pytest.mark.slow
@pytest.mark.parametrize("d_model", [30, 32])
@pytest.mark.parametrize("name", DECODERS)
def test_transformers_refuses_such_widths_where_the_rules_do(name: str, d_model: int) -> None:
    transformers = pytest.importorskip("transformers")
    broken = [rule.name for rule in families()[name].rules() if rule.violations(odd(d_model))]
    sizes = {"hidden_size": d_model, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    try:
        transformers.AutoConfig.for_model(name, **sizes)
        refused = False
    except Exception as error:  # of huggingface_hub's own kind
        refused = "is not a multiple of the number of attention heads" in str(error)
    assert refused == ("whole-heads" in broken)


# -- tensor parallelism ------------------------------------------------------------------------------------------------


def test_a_hybrid_without_attention_is_not_for_transformers(tmp_path: Path) -> None:
    """As transformers itself has it: its cache asks a layer of attention for its length."""
    import torch
    from transformers import AutoModelForCausalLM

    from archc.hub.checkpoint_dir import write_checkpoint_dir
    from archc.hub.export import export_checkpoint
    from archc.ir.init import init_weights

    for name, layers in (("none", "MM-M-"), ("one", "MM-M*")):
        model = spec_from_graph(load("tiny-dense"))
        kinds = {"M": "mamba2", "-": "mlp", "*": "attention"}
        first = {block.kind: block for block in reversed(model.layers)}
        made = replace(model, layers=tuple(first[kinds[letter]] for letter in layers)).graph()
        write_checkpoint_dir(tmp_path / name, made, init_weights(made, seed=0), {"step": "made"})
        export_checkpoint(tmp_path / name, tmp_path / f"{name}-hf")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / f"{name}-hf")
        found = reasons(made, "transformers")
        if name == "one":
            assert found == [] and loaded(torch.arange(6)[None]).logits.shape[1] == 6
            continue
        assert len(found) == 1 and "one layer of attention at least" in found[0]
        with pytest.raises(ValueError, match="Attention layers"):
            loaded(torch.arange(6)[None])


def test_heads_groups_and_widths_divide_by_the_processes() -> None:
    big = load("nemotron-h-8b")
    assert not reasons(big, "vllm", 8)
    assert {str(one.at.field) for one in check(big, "vllm", 3)} == {"n_heads", "n_kv_heads", "n_groups"}
    assert not [r for r in reasons(big, "vllm", 16) if "n_kv_heads" in r], "16 processes copy 8 heads twice"
    assert "layers.0.mixer: n_groups 8, expected 1 or a multiple of 16" in reasons(big, "vllm", 16)
    odd = graph("tiny-attention", L3={"d_ff": 27})
    assert "layers.3.mixer: d_ff 27, expected a multiple of 2" in reasons(odd, "vllm", 2)
    assert not [r for r in reasons(odd, "transformers", 2) if "multiple" in r]


def test_runtimes_of_one_process_say_so() -> None:
    for target in ("llama.cpp", "package"):
        assert reasons(load("tiny-dense"), target, 2) == ["processes 2, expected 1"]
    with pytest.raises(ArchcError, match="at least 1: got 0"):
        check(load("tiny-dense"), "vllm", 0)


# -- agreement with export ---------------------------------------------------------------------------------------------


@given(made=graphs())
@settings(deadline=None, max_examples=30)
def test_export_refuses_what_the_check_finds_and_writes_what_it_does_not(made: Graph) -> None:
    """transformers loads whatever its families can express, so that both say the same of any graph."""
    loaded = TARGETS["transformers"].families
    assert loaded is not None
    assert bool(check(made, "transformers")) == (not any(expresses(made, name) for name in loaded))
    if check(made, "vllm-puzzle"):
        return
    assert expresses(made, fit(made, "vllm-puzzle").family)


def expresses(made: Graph, family: str) -> bool:
    try:
        config_of(spec_from_graph(made), family)
    except UnsupportedError:
        return False
    return True


def test_every_violation_says_what_its_rule_wants() -> None:
    for target in TARGETS:
        for name in ("tiny-latent", "tiny-moe", "tiny-attention"):
            for one in check(graph(name, L1={"d_ff": 26}), target, 5):
                assert one.rule and one.says and str(one)
                assert one.at.scope == "" or one.node


# -- the command -------------------------------------------------------------------------------------------------------


def archc(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stdout


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    (tmp_path / "uneven.yaml").write_text(replace(spec("tiny-latent", **UNEVEN), name="uneven").to_yaml())
    return tmp_path / "uneven.yaml"


def test_a_target_that_fits_and_one_that_does_not(uneven: Path) -> None:
    assert archc("check", uneven, "--target", "vllm-puzzle") == (
        0,
        "uneven fits vllm-puzzle as `nemotron_h_puzzle`\n"
        "(a vLLM with `nemotron_h_puzzle` (0.24 has it); from public sources, not run here)\n",
    )
    status, said = archc("check", uneven, "--target", "vllm")
    assert status == 1
    lines = said.splitlines()
    assert lines[0].startswith("uneven does not fit vllm as `nemotron_h`: ")
    assert lines[1] == "(vLLM; from its source, not run here)"
    assert lines[3] == "one-size: one size per kind of block"
    assert lines[4].startswith("  layers.1.mixer: top_k 2, expected 4 (`num_experts_per_tok`")
    assert lines[4].endswith("[L1.mixer]")
    assert lines[-1] == "a package runs it as it is: archc compile MODEL -o OUT"


def test_all_targets_in_one_table(uneven: Path) -> None:
    status, said = archc("check", uneven)
    assert status == 0
    rows = {line.split()[0]: line.split()[1] for line in said.splitlines()[1:] if line.split()[1] in ("yes", "no")}
    assert rows == {"transformers": "no", "vllm": "no", "vllm-puzzle": "yes", "llama.cpp": "yes", "package": "yes"}
    assert "layers.1.mixer: top_k 2, expected 4" in said


def test_json(uneven: Path) -> None:
    status, said = archc("check", uneven, "--target", "vllm", "--json")
    found = json.loads(said)
    assert (status, found["fits"], found["target"], found["tp"]) == (1, False, "vllm", 1)
    assert found["violations"][0] == {
        "rule": "one-size",
        "says": "one size per kind of block",
        "layer": "layers.1.mixer",
        "node": "L1.mixer",
        "field": "top_k",
        "found": 2,
        "expected": 4,
        "why": "`num_experts_per_tok` says it once for all layers",
    }
    status, said = archc("check", uneven, "--json", "--tp", 2)
    assert status == 0
    assert [(one["target"], one["tp"]) for one in json.loads(said)] == [(name, 2) for name in TARGETS]


def test_bad_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownName, match="unknown target `vlm`: did you mean `vllm`"):
        check(load("tiny-dense"), "vlm")
    monkeypatch.setattr(sys, "argv", ["archc", "check", "tiny-dense", "--target", "llamacpp"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "did you mean `llama.cpp`? Targets are transformers, vllm, vllm-puzzle, llama.cpp, package" in said
    assert archc("check", "tiny-dense", "--tp", 0)[0] == 2


def test_a_check_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from archc.resolve import load; from archc.targets import TARGETS, check;"
        "[check(load('nemotron-3-super-120b-a12b'), name) for name in TARGETS];"
        "sys.exit(', '.join({'torch', 'networkx', 'transformers'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rules_are_data() -> None:
    """Each has a name and says what it wants, once per runtime and family."""
    for one in TARGETS.values():
        for rules in (one.families or {}).values():
            names = [rule.name for rule in (*rules, *one.rules)]
            assert len(names) == len(set(names))
            assert all(rule.says for rule in rules)
        assert dataclasses.is_dataclass(one)
