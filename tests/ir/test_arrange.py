"""Layers in another order, and copied: what is printed parses, what is counted adds up, the maths follows the order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.ir.arrange import arranged
from archc.ir.graph import LAYERS, Graph
from archc.ir.text import parse_graph, print_graph
from archc.ir.verify import verify
from archc.kernels.errors import GraphError


def same(graph: Graph) -> list[tuple[str, str]]:
    return [(block, block) for block in graph.blocks[LAYERS]]


def test_the_same_order_is_the_same_graph() -> None:
    graph = archc.load("tiny-hybrid")
    assert arranged(graph, LAYERS, same(graph)) == graph


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_order_and_any_copies_hold_together(data: st.DataObject) -> None:
    graph = archc.load("tiny-hybrid")
    blocks = graph.blocks[LAYERS]
    kept = data.draw(st.lists(st.sampled_from(blocks), unique=True))
    copied = data.draw(st.lists(st.sampled_from(blocks), max_size=3))
    order = data.draw(st.permutations([*((b, b) for b in kept), *((f"{b}_{i}", b) for i, b in enumerate(copied))]))
    made = verify(arranged(graph, LAYERS, order))
    assert made.blocks.get(LAYERS, ()) == tuple(name for name, _ in order)
    assert parse_graph(print_graph(made)) == made
    size = {b: sum(math.prod(p.shape) for n, p in graph.params() if (n.region, n.block) == (LAYERS, b)) for b in blocks}
    rest = sum(math.prod(p.shape) for n, p in graph.params() if n.region != LAYERS)
    assert sum(math.prod(p.shape) for _, p in made.params()) == rest + sum(size[b] for _, b in order)


def test_a_copy_has_dims_of_its_own_and_shares_the_stream() -> None:
    graph = archc.load("tiny-hybrid")
    made = arranged(graph, LAYERS, [*same(graph), ("L1_1", "L1")])
    ours, theirs = made.node("L1_1.mixer").op.dims, made.node("L1.mixer").op.dims
    assert ours["d_model"] is theirs["d_model"] or ours["d_model"] == theirs["d_model"]
    assert ours["d_ff"].name == "L1_1.mixer.d_ff" and ours["d_ff"].within == ours["experts"] != theirs["experts"]
    assert made.node("norm").inputs == ("L1_1.add",)


def test_the_maths_follows_the_order() -> None:
    import torch

    from archc.ir.execute import execute
    from archc.ir.init import init_weights

    graph = archc.load("tiny-hybrid")
    weights = init_weights(graph, seed=0, dtype=torch.float64)
    first, second = same(graph)[:2]
    swapped = arranged(graph, LAYERS, [second, first, *same(graph)[2:]])
    names = {f"layers.{i}.": f"layers.{1 - i}." for i in (0, 1)}
    moved = {
        next((key.replace(a, b, 1) for a, b in names.items() if key.startswith(a)), key): w
        for key, w in weights.items()
    }
    inputs = {"tokens": torch.arange(12).reshape(1, 12)}
    before = execute(graph, weights, inputs, outputs=("logits",))["logits"]
    after = execute(swapped, moved, inputs, outputs=("logits",))["logits"]
    back = execute(arranged(swapped, LAYERS, same(graph)), weights, inputs, outputs=("logits",))["logits"]
    assert not torch.allclose(before, after) and torch.equal(before, back)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([("L99", "L99")], "`tiny-hybrid` has no block `L99` in `layers`"),
        ([("L0", "L0"), ("L0", "L1")], "two blocks cannot both be called `L0`"),
        ([("L3", "L0")], "two blocks cannot both be called `L3`"),
    ],
)
def test_orders_that_there_are_not(order: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        arranged(archc.load("tiny-hybrid"), LAYERS, order)
