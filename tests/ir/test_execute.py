"""The interpreter: what a watcher is shown, probes beside taps, and going on from outputs that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from archc.ir.execute import Reading, execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.op import Op
from archc.resolve import load
from archc.testing import example_ops, one_op_graph
from archc.testing.contracts import op_id, random_inputs, random_weights

TOKENS = torch.arange(12).view(2, 6)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load("tiny-hybrid")


@pytest.fixture(scope="module")
def weights(graph: Graph) -> dict[str, Tensor]:
    return {k: w.double() for k, w in init_weights(graph, seed=0).items()}


def test_a_watcher_is_shown_outputs_taps_and_probes(graph: Graph, weights: dict[str, Tensor]) -> None:
    seen: dict[str, tuple[int, ...]] = {}

    def watch(reading: Reading) -> None:
        seen[f"{reading.node.id}/{reading.name}"] = tuple(reading.read().shape)

    watched = execute(graph, weights, TOKENS, watch=watch)
    assert {f"{n.id}/" for n in graph.nodes} <= set(seen)
    assert seen["L0.mixer/x"] == (2, 6, 4, 64) and seen["L0.mixer/heads"] == (2, 6, 4, 64)
    assert seen["L1.mixer/expert_hidden"] == (12, 2, 192) and seen["L1.mixer/expert_out"] == (12, 2, 128)
    for name, value in execute(graph, weights, TOKENS).items():
        assert torch.equal(watched[name], value)


def test_a_probe_is_tapped_by_name_and_nothing_is_masked_there(graph: Graph, weights: dict[str, Tensor]) -> None:
    mask = torch.arange(64) < 10
    masks = {"L0.mixer.head_dim": mask}
    plain = execute(graph, weights, TOKENS, ["L0.mixer.x", "L0.mixer.heads"])
    masked = execute(graph, weights, TOKENS, ["L0.mixer.x", "L0.mixer.heads"], masks)
    assert torch.equal(plain["L0.mixer.x"], masked["L0.mixer.x"])
    assert not masked["L0.mixer.heads"][..., ~mask].any() and plain["L0.mixer.heads"][..., ~mask].any()


def test_what_each_expert_adds_sums_to_what_they_add(graph: Graph, weights: dict[str, Tensor]) -> None:
    found = execute(graph, weights, TOKENS, ["L1.mixer.expert_out", "L1.mixer.shared", "L1.mixer"])
    shared = found["L1.mixer.shared"] @ weights["layers.1.mixer.shared_down_proj"].T
    total = found["L1.mixer.expert_out"].sum(1).view(2, 6, -1) + shared
    torch.testing.assert_close(total, found["L1.mixer"])


def test_outputs_of_nodes_that_are_given_are_not_computed(graph: Graph, weights: dict[str, Tensor]) -> None:
    ran: list[str] = []

    def watch(reading: Reading) -> None:
        ran.append(reading.node.id)

    stream = execute(graph, weights, TOKENS, ["L6.add"], outputs=())["L6.add"]
    head = replace(graph, outputs=(("logits", "lm_head"),))
    found = execute(head, weights, {"tokens": TOKENS, "L6.add": stream}, watch=watch)
    assert set(ran) == {f"L{i}.{role}" for i in (7, 8, 9) for role in ("norm", "mixer", "add")} | {"norm", "lm_head"}
    assert torch.equal(found["logits"], execute(graph, weights, TOKENS)["logits"])


@pytest.mark.parametrize("op", example_ops(), ids=op_id)
def test_an_op_has_the_values_that_it_says_are_scored(op: Op) -> None:
    graph = one_op_graph(op)
    shown: dict[str, set[str]] = {}

    def watch(reading: Reading) -> None:
        if reading.node.op == op:
            shown.setdefault(reading.name, set()).update(d.name for axis in reading.axes for d in axis.dims())

    execute(graph, random_weights(graph), random_inputs(op), watch=watch)
    for role, name in op.scored.items():
        dim = op.dims.get(role)
        assert dim is None or dim.name in shown[name], (role, name)
