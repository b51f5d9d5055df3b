"""The JSON form: it gives the same graph back, and its errors name the place."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from archc.ir.graph import Graph
from archc.ir.graph_json import graph_from_json, graph_to_json
from archc.ir.text import parse_graph, print_graph
from archc.kernels.errors import GraphError
from archc.resolve import load
from archc.testing import graphs
from archc.zoo import names


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_round_trip(graph: Graph) -> None:
    assert graph_from_json(json.loads(json.dumps(graph_to_json(graph), allow_nan=False))) == graph


@pytest.mark.parametrize("name", names())
def test_every_zoo_model_round_trips(name: str) -> None:
    graph = load(name)
    assert graph_from_json(json.loads(json.dumps(graph_to_json(graph), allow_nan=False))) == graph
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"archc_graph": 7}, "m.json: version 7 of the JSON form is unknown: this archc reads 1"),
        ({"lineage": ["0123"]}, "m.json: lineage.0: expected 16 hexadecimal digits, got `0123`"),
        ({"name": 3}, "name: input should be a valid string"),
        ({"nods": []}, "nods: extra inputs are not permitted"),
        ({"dims": [{"name": "a", "size": "4"}]}, "dims.0.size: input should be a valid integer"),
        ({"dims": [{"name": "a", "size": 4, "within": "b"}]}, "dims.0: unknown dim `b`"),
        ({"dims": [{"name": "a", "size": 4}] * 2}, "dims.1: dim `a` is declared twice"),
        ({"inputs": {"tokens": ["batch", "token"]}}, "inputs.tokens: unknown dim `token`: did you mean `tokens`?"),
    ],
)
def test_errors_name_the_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError) as caught:
        graph_from_json({**graph_to_json(load("tiny-dense")), **change}, file="m.json")
    assert message in str(caught.value) and str(caught.value).startswith("m.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "mpl"}, "did you mean `mlp`"),
        ({"attributes": {"activatio": "relu2"}}, "unknown attribute of mlp `activatio`: did you mean `activation`"),
        ({"attributes": {"d_ff": 3}}, "unknown attribute of mlp `d_ff`"),
        ({"dims": {"d_modl": "d_model"}}, "unknown dim of mlp `d_modl`: did you mean `d_model`"),
        ({"dims": {}}, "missing 2 required keyword-only arguments"),
    ],
)
def test_errors_in_a_node_name_it(change: dict[str, Any], message: str) -> None:
    data: Any = graph_to_json(load("tiny-dense"))
    i = next(i for i, node in enumerate(data["nodes"]) if node["op"] == "mlp")
    data["nodes"][i] |= change
    with pytest.raises(GraphError) as caught:
        graph_from_json(data, file="m.json")
    assert f"m.json: nodes.{i}" in str(caught.value) and message in str(caught.value)
