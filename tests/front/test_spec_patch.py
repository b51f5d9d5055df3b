"""The patch from one spec to another: it gives exactly the other model, and reads as a person would write it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from archc import zoo
from archc.ir.graph import Graph
from archc.kernels.errors import UnsupportedError
from archc.spec import Spec, load_spec, spec_from_graph
from archc.spec.patch import patch_spec
from archc.testing.strategies import graphs

SPECS = {name: load_spec(zoo.path(name)) for name in zoo.names()}
FAMILIES = ("nemotron-h", "nemotron-nano", "nemotron-3", "llama-3.1", "mi", "qwen", "gpt-oss", "tiny")
PAIRS = [
    pair for family in FAMILIES for pair in permutations((name for name in SPECS if name.startswith(family)), 2)
]  # fmt: skip


def sorted_formats(graph: Graph) -> Graph:
    """The graph with formats in one order: a merge patch cannot reorder what it keeps."""
    nodes = tuple(replace(node, formats=tuple(sorted(node.formats))) for node in graph.nodes)
    return replace(graph, name="_", nodes=nodes, formats=tuple(sorted(graph.formats)))


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_of_every_pair_of_a_family(a: str, b: str) -> None:
    assert load_spec(patch_spec(a, SPECS[b], name=b)).graph() == SPECS[b].graph()


def test_across_families() -> None:
    for a, b in zip(SPECS, [*list(SPECS)[7:], *list(SPECS)[:7]], strict=True):
        assert load_spec(patch_spec(a, SPECS[b], name=b)).graph() == SPECS[b].graph()


@pytest.mark.parametrize("name", SPECS)
def test_a_model_differs_from_itself_in_nothing(name: str) -> None:
    assert patch_spec(name, SPECS[name], name="same") == f"archc: 1\nname: same\nextends: {name}\n"


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """The spec of any graph that one can say: formats are those of mixers, and there is a layer at least."""
    graph = draw(graphs())
    graph = replace(graph, nodes=tuple(n if n.role == "mixer" else replace(n, formats=()) for n in graph.nodes))
    try:
        spec = spec_from_graph(graph)
    except UnsupportedError:
        reject()
    return replace(spec, name="model", layers=spec.layers or SPECS["tiny-dense"].layers[:1])


@given(specs(), specs())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_any_two_models(tmp_path: Path, a: Spec, b: Spec) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(a.to_yaml())
    text = patch_spec(file, b, name="model")
    assert sorted_formats(load_spec(text).graph()) == sorted_formats(b.graph())
    assert "changes" not in patch_spec(file, a, name="same")


# -- how it reads ------------------------------------------------------------------------------------------------------


def changed(a: Path | str, b: Spec | str) -> str:
    """What the patch says under `changes`."""
    text = patch_spec(a, SPECS[b] if isinstance(b, str) else b, name="b")
    return text.partition("changes:\n")[2]


def test_nano_12b_to_9b() -> None:
    assert patch_spec("nemotron-nano-12b-v2", SPECS["nemotron-nano-9b-v2"], name="nemotron-nano-9b-v2") == """\
archc: 1
name: nemotron-nano-9b-v2
extends: nemotron-nano-12b-v2
changes:
  d_model: 4480
  blocks:
    "-": {mlp: {d_ff: 15680}}
  layers: "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
"""  # fmt: skip


def test_llama_to_its_minitrons() -> None:
    assert changed("llama-3.1-8b", "llama-3.1-minitron-4b-width") == """\
  d_model: 3072
  blocks:
    "-": {mlp: {d_ff: 9216}}
"""  # fmt: skip
    assert changed("llama-3.1-8b", "llama-3.1-minitron-4b-depth") == '  layers: "16 x [*, -]"\n'


def test_another_kind_takes_the_letter_and_a_section_that_goes_is_empty() -> None:
    assert changed("nemotron-3-super-120b-a12b", "nemotron-3-nano-30b-a3b") == """\
  d_model: 2688
  init: {std: 0.02}
  blocks:
    M: {mamba2: {n_heads: 64}}
    E:
      moe: {experts: 128, top_k: 6, d_ff: 1856, shared_d_ff: 3712, activation: relu2, router: sigmoid,
            correction_bias: true, scale: 2.5}
  layers: "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
  mtp: null
"""  # fmt: skip


def test_a_block_that_no_layer_uses_any_more_is_taken_out_and_others_keep_their_letters() -> None:
    full = replace(SPECS["gpt-oss-20b"], layers=SPECS["gpt-oss-20b"].layers[2:4] * 3)
    assert changed("gpt-oss-20b", full) == '  blocks:\n    S: null\n  layers: "3 x [*, E]"\n'


def test_one_odd_layer_is_an_override() -> None:
    spec = SPECS["tiny-dense"]
    odd = replace(spec.layers[1], fields=replace(spec.layers[1].fields, d_ff=100))
    assert changed("tiny-dense", replace(spec, layers=(spec.layers[0], odd, *spec.layers[2:]))) == """\
  layers:
    - M
    - {use: "-", d_ff: 100}
    - "M-M*-M-M-M*-"
"""  # fmt: skip


A_FILE = """\
archc: 1
name: a
d_model: 64
vocab: 256
init: {std: 0.1}
blocks:
  "é": {mlp: {d_ff: 32, init_std: 0.3}}
  "-": {mlp: {d_ff: 64}}
layers: ["2 x [é, -]", {use: "-", d_ff: 40, times: 2}]
formats: {kv: fp8}
"""


def test_the_deviation_that_blocks_take_from_the_model(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(A_FILE)
    a = load_spec(file)
    layers = tuple(replace(b, fields=replace(b.fields, init_std=0.2)) for b in a.layers)
    assert changed(file, replace(a, init_std=0.2, layers=layers, formats=())) == """\
  init: {std: 0.2}
  blocks:
    "é": {mlp: {init_std: null}}
    A: {mlp: {d_ff: 40}}
  layers: "é-é-AA"
  formats: null
"""  # fmt: skip


def test_a_file_is_named_from_where_the_patch_will_lie(tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s "ä"; *.yaml'
    odd.write_text(A_FILE)
    out = tmp_path / "deep" / "b.yaml"
    out.parent.mkdir()
    b = replace(load_spec(odd), d_model=32)
    out.write_text(patch_spec(odd, b, name="b", out=out))
    assert 'extends: "../it\'s \\"ä\\"; *.yaml"\n' in out.read_text()
    assert load_spec(out).graph() == replace(b, name="b").graph()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", ["ckpt", "config.json", "model.ir"])
def test_what_is_no_spec_is_to_be_written_as_one(a: str) -> None:
    with pytest.raises(UnsupportedError, match=f"`{a}` is no spec.*archc show {a} --spec > a.yaml"):
        patch_spec(a, SPECS["tiny-moe"], name="b")


def test_a_name_that_no_spec_may_have() -> None:
    with pytest.raises(
        UnsupportedError, match=r"no patch of `tiny-moe` gives `tiny-dense`.*expected a name of letters"
    ):
        patch_spec("tiny-moe", SPECS["tiny-dense"], name='a "b"')
