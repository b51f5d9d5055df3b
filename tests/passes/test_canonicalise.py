"""canonicalise and fold-norms: before and after in text, and the same function."""

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.text import parse_graph
from archc.passes import apply
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
  L0.norm = layer_norm(embedding) {zero_centred=true}
  L0.mixer = mlp(L0.norm)
  L0.add = add(embedding, L0.mixer)
  L1.norm = layer_norm(L0.add) {zero_centred=true} @L0.norm
  L1.mixer = mlp(L1.norm)
  L1.add = add(L0.add, L1.mixer)
  L2.norm = rms_norm(L1.add)
  L2.mixer = mlp(L2.norm)
  L2.add = add(L1.add, L2.mixer)
norm = rms_norm(L1.add)
lm_head = lm_head(norm)
output logits = lm_head
"""

DEAD = ("L2.norm", "L2.mixer", "L2.add", "dim L2")
AFTER = "".join(
    line.replace(" {zero_centred=true}", "")
    for line in BEFORE.splitlines(keepends=True)
    if not line.strip().startswith(DEAD)
)


def weights_of(graph: Graph) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {k: w + 0.3 * torch.rand_like(w) for k, w in init_weights(graph, seed=1, dtype=torch.float64).items()}


def assert_same_function(before: Graph, text: str) -> tuple[Graph, dict[str, Tensor]]:
    made, weight_map = apply(before, text)
    old = weights_of(before)
    new = weight_map.apply(old)
    tokens = torch.arange(20).reshape(2, 10) % before.dims["vocab"].size
    expected, found = execute(before, old, tokens), execute(made, new, tokens)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10)
    return made, new


def test_dead_nodes_go_and_norms_are_plain() -> None:
    before = parse_graph(BEFORE)
    made, _ = assert_same_function(before, "canonicalise")
    assert made == parse_graph(AFTER).made_from(before)


def test_canonical_is_canonical() -> None:
    for graph in (parse_graph(AFTER), load("tiny-hybrid")):
        assert apply(graph, "canonicalise")[0] == graph


def test_a_dead_node_whose_parameters_are_used_stays() -> None:
    shared = BEFORE.replace("\nnorm = rms_norm(L1.add)", "\nnorm = rms_norm(L1.add) @L2.norm")
    made, _ = assert_same_function(parse_graph(shared), "canonicalise")
    assert "L2.norm" in made.by_id and "L2.mixer" not in made.by_id


@pytest.mark.parametrize(
    ("model", "stay"),
    [
        ("tiny-hybrid", {"norm.weight", "mtp.norm.weight"}),
        ("tiny-latent", {"norm.weight", "mtp.norm.weight", "mtp.layers.0.norm.weight", "mtp.layers.1.norm.weight"}),
        ("tiny-attention", {"norm.weight"}),
    ],
)
def test_norms_are_folded_where_products_alone_read_them(model: str, stay: set[str]) -> None:
    """Attention, Mamba-2, MLP, MoE and LatentMoE behind them; outputs and shared blocks keep theirs."""
    before = load(model)
    made, new = assert_same_function(before, "fold-norms")
    assert made == before
    gains = {key: w for key, w in new.items() if key.endswith("norm.weight")}
    assert {key for key, w in gains.items() if not (w == 1).all()} == stay


@given(graphs())
@settings(max_examples=25, deadline=None)
def test_any_graph_stays_the_same_function(graph: Graph) -> None:
    assert_same_function(graph, "canonicalise; fold-norms")
