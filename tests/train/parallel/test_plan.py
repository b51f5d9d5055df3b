"""Plans: parts of every op add up to the op by every legal degree, of any graph; what does not divide is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings

import archc
from archc.ir.graph import Graph
from archc.ir.text import parse_graph, print_graph
from archc.kernels.errors import UnsupportedError
from archc.testing.contracts import example_ops
from archc.testing.parallel import assert_parts_add_up, legal_plans, places
from archc.testing.strategies import graphs
from archc.train.parallel import plan
from archc.train.parallel.plan import position

CUT_KINDS = {"attention", "mamba2", "mlp", "moe", "latent_moe"}


def test_every_kind_with_dims_of_its_own_is_cut() -> None:
    assert {op.kind for op in example_ops() if assert_parts_add_up(op)} == CUT_KINDS


@settings(max_examples=10, deadline=None)
@given(graphs())
def test_parts_of_any_graph_add_up(graph: Graph) -> None:
    for made in list(legal_plans(graph))[:3]:
        for cut in made.ops:
            assert_parts_add_up(graph.node(cut.node).op)


@settings(max_examples=10, deadline=None)
@given(graphs())
def test_pieces_tile_every_parameter(graph: Graph) -> None:
    for made in list(legal_plans(graph))[:3]:
        seen = {key: np.zeros(shape) for key, shape in graph.weight_shapes().items()}
        for at in places(made):
            for piece in made.pieces:
                where = [slice(0, n) for n in seen[piece.key].shape]
                for axis, n in enumerate(piece.local(made.degrees)):
                    over = [a for a, tensor_axis in piece.cuts if tensor_axis == axis]
                    start = n * position(over, at, made.degrees) + (piece.start if axis == piece.axis else 0)
                    where[axis] = slice(start, start + n)
                seen[piece.key][tuple(where)] += 1 / (
                    made.processes / np.prod([made.degrees[a] for a, _ in piece.cuts])
                )
        for key, counts in seen.items():
            np.testing.assert_allclose(counts, 1, err_msg=key)


@settings(max_examples=8, deadline=None)
@given(graphs())
def test_a_part_is_a_graph_with_a_text(graph: Graph) -> None:
    for made in list(legal_plans(graph))[:2]:
        part, weight_map = made.shard({"ep": made.ep - 1, "tp": 0})
        assert parse_graph(print_graph(part)) == part
        assert weight_map.shapes(graph.weight_shapes()) == part.weight_shapes()
        shapes: dict[str, int] = {}
        for piece in made.pieces:
            shapes[piece.key] = shapes.get(piece.key, 0) + int(np.prod(piece.local(made.degrees)))
        assert shapes == {k: int(np.prod(s)) for k, s in part.weight_shapes().items()}


def test_what_does_not_divide_is_all_said() -> None:
    with pytest.raises(UnsupportedError) as error:
        plan(archc.load("tiny-hybrid"), tp=4, ep=3)
    said = str(error.value)
    assert "(ep must divide 8, tp must divide 2)" in said
    assert "layers.0.mixer (mamba2 L0.mixer): `n_groups` of 2 does not divide by tp=4" in said
    assert "mtp.layers.1.mixer (moe M1.mixer): `experts` of 8 does not divide by ep=3" in said
    assert said.count("does not divide") == 12


def test_a_degree_that_cuts_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="ep=2: no op has a dim"):
        plan(archc.load("tiny-dense"), ep=2)
    with pytest.raises(UnsupportedError, match="at least 1"):
        plan(archc.load("tiny-dense"), tp=0)


def test_the_plan_can_be_read() -> None:
    made = plan(archc.load("tiny-hybrid"), tp=2, ep=2)
    assert "shared_d_ff 192 / ep x tp" in str(made)
    assert "all-reduce over ep x tp; gradients summed: router" in str(made)
    data = json.loads(json.dumps(made.to_json()))
    assert data["ops"][0]["cuts"] == [{"role": "n_groups", "dim": "L0.mixer.n_groups", "size": 2, "over": ["tp"]}]
    assert {"name": "layers.0.mixer.in_proj.dt", "shape": [4, 128], "cuts": {"tp": 0}} in data["parameters"]
    assert data["share"] == made.share
    assert 0.25 < made.share < 0.35


@pytest.mark.parametrize("name", ["nemotron-3-super-120b-a12b", "gpt-oss-20b", "nemotron-nano-9b-v2", "qwen3-30b-a3b"])
def test_plans_of_the_zoo(name: str) -> None:
    graph = archc.load(name)
    made = plan(graph, tp=2, ep=8 if any(op.spreads for op in (n.op for n in graph.nodes)) else 1)
    part, _ = made.shard({"ep": 0, "tp": 1})
    assert sum(np.prod(s) for s in part.weight_shapes().values()) < 0.6 * sum(
        np.prod(s) for s in graph.weight_shapes().values()
    )


def test_a_norm_over_all_groups_leaves_the_mixer_whole() -> None:
    ops = [op for op in example_ops() if op.kind == "mamba2"]
    assert [bool(assert_parts_add_up(op)) for op in ops] == [True, False]
