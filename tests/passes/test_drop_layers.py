"""drop-layers: before and after in text, what it refuses, and that the rest of the model computes what it did."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.ir.execute import execute
from archc.ir.graph import LAYERS, Graph
from archc.ir.init import init_weights
from archc.ir.text import parse_graph
from archc.kernels.errors import PassError
from archc.passes import apply
from archc.passes.drop_layers import DropLayers
from archc.resolve import load
from archc.testing import graphs

BEFORE = """archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.d_ff = 12
dim L1.mixer.d_ff = 16
dim L2.mixer.d_ff = 20
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mlp(L0.norm)
  L0.add = add(embedding, L0.mixer)
  L1.norm = rms_norm(L0.add)
  L1.mixer = mlp(L1.norm)
  L1.add = add(L0.add, L1.mixer)
  L2.norm = rms_norm(L1.add)
  L2.mixer = mlp(L2.norm)
  L2.add = add(L1.add, L2.mixer)
norm = rms_norm(L2.add)
lm_head = lm_head(norm)
output logits = lm_head
"""

AFTER = """archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.d_ff = 12
dim L2.mixer.d_ff = 20
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mlp(L0.norm)
  L0.add = add(embedding, L0.mixer)
  L2.norm = rms_norm(L0.add)
  L2.mixer = mlp(L2.norm)
  L2.add = add(L0.add, L2.mixer)
norm = rms_norm(L2.add)
lm_head = lm_head(norm)
output logits = lm_head
"""


def test_before_and_after() -> None:
    made, weights = apply(parse_graph(BEFORE), "drop-layers{layers=(1)}")
    assert made == parse_graph(AFTER).made_from(parse_graph(BEFORE))
    assert str(weights.params["layers.1.mixer.up_proj"]) == "layers.2.mixer.up_proj"
    assert "layers.1.mixer.up_proj" in weights.dropped


def test_dropping_all_layers_leaves_embedding_and_head() -> None:
    made, _ = apply(parse_graph(BEFORE), DropLayers(layers=(0, 1, 2)))
    assert [n.id for n in made.nodes] == ["embedding", "norm", "lm_head"]


def test_positions_outside_are_refused_by_name() -> None:
    with pytest.raises(PassError, match=r"drop-layers\{layers=\(3, -1\)\}: `small` has layers 0 to 2: got 3, -1"):
        apply(parse_graph(BEFORE), DropLayers(layers=(3, -1)))


def test_a_position_twice_is_refused() -> None:
    with pytest.raises(PassError, match="layers named twice: 1"):
        apply(parse_graph(BEFORE), DropLayers(layers=(1, 2, 1)))


def test_a_layer_whose_parameters_another_uses_is_refused() -> None:
    graph = parse_graph(BEFORE.replace("mlp(L2.norm)", "mlp(L2.norm) {d_ff=L1.mixer.d_ff} @L1.mixer"))
    with pytest.raises(PassError, match=r"`L2.mixer` uses the parameters of `L1.mixer`, which is dropped"):
        apply(graph, DropLayers(layers=(1,)))


def test_one_after_the_other_is_both_at_once() -> None:
    """Positions count in the graph that each pass is given: 1, then 2, are 1 and 3 of the first."""
    graph = load("tiny-hybrid")
    one, first = apply(graph, "drop-layers{layers=(1)}; drop-layers{layers=(2)}")
    both, second = apply(graph, "drop-layers{layers=(1, 3)}")
    assert one.hash == both.hash
    assert one.lineage[:1] == both.lineage == (graph.short_hash,) and len(one.lineage) == 2
    assert first.params == second.params and first.dropped == second.dropped


@given(graphs(), st.data())
@settings(max_examples=25, deadline=None)
def test_a_dropped_layer_equals_one_that_adds_nothing(graph: Graph, data: st.DataObject) -> None:
    count = len(graph.blocks.get(LAYERS, ()))
    if not count:
        return
    layer = data.draw(st.integers(0, count - 1))
    graph = dataclasses.replace(graph, outputs=(("logits", "lm_head"),))
    made, weight_map = apply(graph, DropLayers(layers=(layer,)))
    weights = {k: w.double() for k, w in init_weights(graph, seed=1).items()}
    silent = {k: torch.zeros_like(w) if k.startswith(f"layers.{layer}.mixer.") else w for k, w in weights.items()}
    inputs = {"tokens": torch.arange(7)[None] % graph.dims["vocab"].size}
    expected = execute(graph, silent, inputs)["logits"]
    torch.testing.assert_close(execute(made, weight_map.apply(weights), inputs)["logits"], expected)
