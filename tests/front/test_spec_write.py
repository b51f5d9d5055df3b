"""Specs written back as YAML, and read off graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc import zoo
from archc.ir.build import Norm
from archc.ir.graph import LAYERS
from archc.ir.ops.attention import Attention, Rope, RopeScaling
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.kernels.errors import UnsupportedError
from archc.spec import Block, MTPSpec, Spec, load_spec, spec_from_graph

ROPES = (
    None,
    Rope(theta=10000.0),
    Rope(theta=5e5, partial=0.5, scaling=RopeScaling(kind="llama3", factor=8.0, original_context=8192)),
    Rope(frequencies=tuple(1 / n for n in range(1, 9))),
)

blocks = st.one_of(
    st.builds(lambda d_ff, gated: Block(kind="mlp", fields=MLP.Fields(d_ff=d_ff, gated=gated)),
              st.integers(1, 40), st.booleans()),
    st.builds(lambda kv, rope, window: Block(kind="attention", fields=Attention.Fields(
        n_heads=4, head_dim=16, n_kv_heads=kv, rope=rope, window=window)),
              st.sampled_from((2, 4)), st.sampled_from(ROPES), st.sampled_from((None, 128))),
    st.builds(lambda groups, limit, std: Block(kind="mamba2", fields=Mamba2.Fields(
        n_heads=8, head_dim=4, d_state=5, n_groups=groups, dt_limit=limit, init_std=std)),
              st.sampled_from((1, 2, 4)), st.sampled_from(((0.0, float("inf")), (0.001, 0.1))),
              st.sampled_from((0.02, 0.1))),
)  # fmt: skip
specs = st.builds(
    Spec,
    name=st.sampled_from(("tiny", "true", "3.1", "1e5")),
    d_model=st.integers(1, 99),
    vocab=st.integers(1, 99),
    layers=st.lists(blocks, min_size=1, max_size=12).map(tuple),
    norm=st.builds(Norm, kind=st.sampled_from(("rms", "layer", "layer1p")), eps=st.sampled_from((1e-5, 1e-6, 1.0))),
    tied=st.booleans(),
    init_std=st.sampled_from((0.02, 0.1)),
    mtp=st.none()
    | st.builds(MTPSpec, layers=st.lists(blocks, min_size=1, max_size=3).map(tuple), steps=st.integers(1, 3)),
    formats=st.sampled_from(((), (("weights", "nvfp4"), ("kv", "fp8")))),
    description=st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=30),
)


@given(specs)
@settings(max_examples=150, deadline=None)
def test_a_written_spec_reads_back_equal(spec: Spec) -> None:
    assert load_spec(spec.to_yaml()) == spec


@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo_survives_writing_and_being_read_off_its_graph(name: str) -> None:
    spec = load_spec(zoo.path(name))
    assert load_spec(spec.to_yaml()) == spec
    found = spec_from_graph(spec.graph())
    assert load_spec(found.to_yaml()).graph() == spec.graph()


def test_the_yaml_is_what_a_person_would_write() -> None:
    spec = load_spec(zoo.path("nemotron-nano-9b-v2"))
    assert spec.to_yaml() == """\
archc: 1
name: nemotron-nano-9b-v2
d_model: 4480
vocab: 131072
norm: {eps: 1e-05}
blocks:
  M: {mamba2: {n_heads: 128, head_dim: 80, d_state: 128, n_groups: 8, dt_limit: [0.001, .inf]}}
  "-": {mlp: {d_ff: 15680, activation: relu2}}
  "*": {attention: {n_heads: 40, head_dim: 128, n_kv_heads: 8}}
layers: "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
published:
  - {total: 8.89B}
source:
  - NVIDIA-NeMo/Megatron-Bridge@v0.2.0 src/megatron/bridge/models/nemotronh/nemotron_h_provider.py
  - arXiv 2508.14444
"""  # fmt: skip


def test_layers_that_differ_are_overrides() -> None:
    mlp = Block(kind="mlp", fields=MLP.Fields(d_ff=8))
    odd = Block(kind="mlp", fields=MLP.Fields(d_ff=6))
    spec = Spec(name="a", d_model=4, vocab=9, layers=(mlp, mlp, odd, mlp), norm=Norm())
    assert spec.to_yaml().split("blocks:\n")[1] == """\
  "-": {mlp: {d_ff: 8}}
layers:
  - "2 x -"
  - {use: "-", d_ff: 6}
  - "-"
"""  # fmt: skip


def test_a_pruned_graph_with_kept_ids_has_a_spec() -> None:
    graph = load_spec(zoo.path("tiny-dense")).graph()
    first, second, *_ = graph.blocks[LAYERS]
    pruned = graph.without_blocks([(LAYERS, first), (LAYERS, second)])
    assert len(spec_from_graph(pruned).layers) == len(graph.blocks[LAYERS]) - 2


def test_a_graph_that_links_dims_has_no_spec() -> None:
    graph = load_spec(
        "archc: 1\nname: a\nd_model: 4\nvocab: 9\nblocks: {'-': {mlp: {d_ff: 8}}}\nlayers: 2 x -\n"
    ).graph()
    shared = graph.node("L0.mixer").op.dims["d_ff"]
    linked = graph.with_dims(lambda dim: shared if dim.name == "L1.mixer.d_ff" else dim)
    with pytest.raises(UnsupportedError, match=r"shares `L0.mixer.d_ff` with another op"):
        spec_from_graph(linked)


def test_a_graph_whose_norms_differ_has_no_spec() -> None:
    graph = load_spec(zoo.path("tiny-attention")).graph()
    other = Norm(eps=0.5).op(graph.dims["d_model"])
    nodes = tuple(replace(node, op=other) if node.id == "L1.norm" else node for node in graph.nodes)
    with pytest.raises(UnsupportedError, match=r"a spec cannot say what `L1.norm` is"):
        spec_from_graph(replace(graph, nodes=nodes))
