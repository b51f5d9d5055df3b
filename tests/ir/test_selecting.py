"""Selections against their oracle: the parent with the other units zeroed, of any graph and any dims of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st

from archc.ir.build import MTP, Norm, build_model
from archc.ir.dims import Dim
from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.ops.attention import Attention, Rope, RopeScaling
from archc.ir.ops.latent_moe import LatentMoE
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.ir.ops.moe import MoE
from archc.ir.selection import Selection, Selections, keep
from archc.ir.slicing import select
from archc.ir.text import parse_graph, print_graph
from archc.kernels.errors import GraphError
from archc.testing import graphs
from archc.testing.contracts import random_weights
from archc.testing.oracle import selectable, with_units_zeroed

CLOSE = {"rtol": 1e-10, "atol": 1e-10}

ATTENTION = {"n_heads": 6, "head_dim": 8, "n_kv_heads": 3}
MIXERS = {
    "attention": ("attention", Attention.Fields(**ATTENTION, qkv_bias=True, o_bias=True, sinks=True)),
    "rope": ("attention", Attention.Fields(**ATTENTION, rope=Rope(theta=500.0))),
    "yarn": (
        "attention",
        Attention.Fields(**ATTENTION, rope=Rope(scaling=RopeScaling(kind="yarn", factor=4.0, original_context=32))),
    ),
    "qk norm": ("attention", Attention.Fields(**ATTENTION, qk_norm=1e-2, rope=Rope())),
    "mlp": ("mlp", MLP.Fields(d_ff=14, activation="silu", gated=True, bias=True)),
    "mamba": ("mamba2", Mamba2.Fields(n_heads=12, head_dim=5, d_state=7, n_groups=3, chunk=4)),
    "mamba, one norm": (
        "mamba2",
        Mamba2.Fields(n_heads=6, head_dim=4, d_state=5, n_groups=2, chunk=4, norm_groups=1, bias=True, eps=1e-2),
    ),
    "moe": ("moe", MoE.Fields(experts=6, top_k=2, d_ff=9, shared_d_ff=10, router="sigmoid", correction_bias=True)),
    "latent moe": ("latent_moe", LatentMoE.Fields(experts=6, top_k=2, d_ff=9, shared_d_ff=10, latent=8)),
}


def model(mixer: str, norm: str = "rms") -> Graph:
    """A block between two others of its kind, with MTP."""
    one = MIXERS[mixer]
    kinds: dict[str, Any] = {"layers": [one, one], "mtp": MTP(layers=[one], steps=2)}
    return build_model(name="m", d_model=18, vocab=23, norm=Norm(kind=norm, eps=1e-3), **kinds)


def some(dim: Dim, share: float, rng: np.random.Generator, resized: Dim | None = None) -> Selection:
    """Some of the units of a dim, of every row others, in an order of its own."""
    rows = max((resized or dim).rows, 1)
    if dim.order == "pairs":
        pairs = rng.permutation(dim.size // 2)[: max(1, int(share * dim.size / 2))]
        return keep(dim, np.broadcast_to(np.concatenate([pairs, pairs + dim.size // 2]), (rows, 2 * len(pairs))))
    kept = max(1, int(share * dim.size))
    return keep(dim, np.stack([rng.permutation(dim.size)[:kept] for _ in range(rows)]))


def assert_equals_the_parent_zeroed(graph: Graph, chosen: Selections, *, as_zeroed: bool) -> None:
    weights = random_weights(graph)
    inputs = {"tokens": torch.arange(18).reshape(2, 9) * 5 % graph.dims["vocab"].size}
    made, carried = select(graph, chosen, as_zeroed=as_zeroed)
    assert parse_graph(print_graph(made)) == made
    found = execute(made, carried.apply(weights), inputs)
    expected = with_units_zeroed(graph, weights, inputs, chosen, kept_norms=not as_zeroed)
    for name in found.keys() - {"hidden"} - {n for n in found if n.startswith("mtp")}:
        torch.testing.assert_close(found[name], expected[name], **CLOSE)
    width = graph.dims["d_model"]
    columns = torch.from_numpy(chosen.expand([width]))
    for name in found.keys() - {"logits"}:
        torch.testing.assert_close(found[name], expected[name][..., columns], **CLOSE)


@pytest.mark.parametrize("as_zeroed", [False, True], ids=["kept norms", "as zeroed"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_every_dim_of_every_mixer(mixer: str, as_zeroed: bool) -> None:
    graph, rng = model(mixer), np.random.default_rng(1)
    for name in selectable(graph):
        if name.startswith("mtp") or name.startswith("L1"):
            continue
        assert_equals_the_parent_zeroed(graph, Selections([some(graph.dims[name], 0.6, rng)]), as_zeroed=as_zeroed)


@pytest.mark.parametrize("norm", ["layer", "layer1p"])
def test_layer_norms_take_mean_and_variance_over_the_kept(norm: str) -> None:
    graph, rng = model("mlp", norm), np.random.default_rng(2)
    chosen = Selections([some(graph.dims["d_model"], 0.5, rng)])
    assert_equals_the_parent_zeroed(graph, chosen, as_zeroed=False)
    with pytest.raises(GraphError, match="layer norm subtracts a mean"):
        select(graph, chosen, as_zeroed=True)


@given(graphs(), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=20, deadline=None)
def test_any_dims_of_any_graph(graph: Graph, random: Any, as_zeroed: bool) -> None:
    rng = np.random.default_rng(random.randrange(2**32))
    chosen: list[Selection] = []
    for name in selectable(graph):
        dim = graph.dims[name]
        if random.random() < 0.4 and not _leaves_too_few(graph, name):
            chosen.append(some(dim, random.choice([0.3, 0.7, 1.0]), rng, Selections(chosen).resized(dim)))
    if not chosen:
        return
    note("\n".join([print_graph(graph), *(f"{s.dim.name}: {s.index.tolist()}" for s in chosen)]))
    try:
        assert_equals_the_parent_zeroed(graph, Selections(chosen), as_zeroed=as_zeroed)
    except GraphError as error:
        assert as_zeroed and "layer norm" in str(error)


def _leaves_too_few(graph: Graph, name: str) -> bool:
    """Whether a token would have to choose more experts than are left."""
    return name.endswith(".experts")


def test_pairs_are_kept_whole() -> None:
    graph = model("rope")
    dim = graph.dims["L0.mixer.head_dim"]
    with pytest.raises(GraphError, match=r"pairs: channel i goes with channel i \+ 4, kept in order"):
        select(graph, [keep(dim, [0, 1, 2, 3])])
    made, _ = select(graph, [keep(dim, [0, 3, 4, 7])])
    rope = made.node("L0.mixer").op.attributes["rope"]
    assert rope.frequencies == pytest.approx([1.0, 500 ** (-3 / 4)])
