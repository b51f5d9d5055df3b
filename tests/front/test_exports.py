"""Exports for other viewers hold the graph they were made from, whatever it is and whatever its names are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings

from archc import zoo
from archc.ir.dims import Dim
from archc.ir.formats import get_format
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph, Node
from archc.resolve import load
from archc.testing.strategies import graphs
from archc.viz.dot import dot
from archc.viz.mermaid import mermaid
from archc.viz.model_explorer import model_explorer
from archc.viz.netron import netron
from archc.viz.overlay import Choices, Overlay, Units
from archc.viz.structure import Drawn, Repeat, outline, regions
from tests.front.export_readers import EVIL, SHOWN, read_dot, read_mermaid, read_model_explorer, read_netron, renamed

EXPORTS: tuple[Callable[..., str], ...] = (dot, mermaid, model_explorer, netron)


def edges(graph: Graph) -> list[tuple[str, str, int]]:
    return [(source, node.id, i) for node in graph.nodes for i, source in enumerate(node.inputs)]


def check_model_explorer(graph: Graph) -> None:
    found = read_model_explorer(model_explorer(graph))
    outputs = {f"output {name}": source for name, source in graph.outputs}
    assert [node["id"] for node in found["nodes"]] == [*dict(graph.inputs), *graph.by_id, *outputs]
    assert [
        (edge["sourceNodeId"], node["id"], int(edge["targetNodeInputId"]))
        for node in found["nodes"]
        for edge in node["incomingEdges"]
    ] == [*edges(graph), *((source, name, 0) for name, source in outputs.items())]
    groups = {node["namespace"] for node in found["nodes"]}
    for region in regions(graph):
        prefix = region.replace(".", "/") + "/"
        assert sum(group.startswith(prefix) for group in groups) == len(
            {n.block for n in graph.nodes if n.region == region}
        )


def check_netron(graph: Graph) -> None:
    found = read_netron(netron(graph))
    assert [node["name"] for node in found["nodes"]] == list(graph.by_id)
    assert [
        (source, node["name"], i)
        for node in found["nodes"]
        for i, argument in enumerate(node["inputs"])
        for source in argument["value"]
    ] == edges(graph)
    assert {one["name"]: one["value"] for one in found["outputs"]} == {name: [of] for name, of in graph.outputs}
    params = {(node["name"], attribute["name"]) for node in found["nodes"] for attribute in node["attributes"]}
    assert {(node.id, param.name) for node, param in graph.params()} <= params


def look(graph: Graph, name: str) -> object:
    """What two nodes that one box stands for must share."""
    node = graph.by_id.get(name)
    return (node.role, node.op.key, node.op.sizes, node.owner) if node else name


def check_dot(graph: Graph) -> None:
    found = read_dot(dot(graph))
    inputs, outputs = dict(graph.inputs), [f"output {name}" for name, _ in graph.outputs]
    drawn = [graph.node(name) for name in found.nodes if name not in (*inputs, *outputs)]
    assert {look(graph, node.id) for node in graph.nodes} == {look(graph, node.id) for node in drawn}
    assert {node.id for node in graph.nodes if not node.block} <= set(found.nodes)
    assert len(found.edges) == sum(len(node.inputs) for node in drawn) + len(outputs)
    for node in drawn:
        sources = [source for source, target in found.edges if target == node.id]
        assert [look(graph, source) for source in sources] == [look(graph, source) for source in node.inputs]
    last = [(source, target) for source, target in found.edges if target in outputs]
    assert [look(graph, source) for source, _ in last] == [look(graph, source) for _, source in graph.outputs]
    check_counts(graph, found.layers)


def check_mermaid(graph: Graph) -> None:
    found = read_mermaid(mermaid(graph))
    assert all(source in found.nodes for source, _ in found.edges)
    assert sum(target.startswith("out") for _, target in found.edges) == len(graph.outputs)
    kinds = {node.op.kind for node in graph.nodes if node.op.Fields is not None or not node.block}
    assert kinds <= {word for label in found.nodes.values() for word in label.splitlines()[0].split(" + ")}
    assert len(found.edges) <= 500  # GitHub draws no more
    check_counts(graph, found.layers)


def check_counts(graph: Graph, layers: Callable[[str], int]) -> None:
    """Blocks, each as often as it is meant, are as many as there are."""
    for region in regions(graph):
        assert layers(region) == len({node.block for node in graph.nodes if node.region == region})


CHECKS = (check_dot, check_mermaid, check_model_explorer, check_netron)


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize("check", CHECKS)
def test_every_zoo_model_is_exported_whole(check: Callable[[Graph], None], name: str) -> None:
    check(load(name))


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_any_graph_is_exported_whole(graph: Graph) -> None:
    for check in CHECKS:
        check(graph)


@pytest.mark.parametrize("export", EXPORTS)
def test_the_same_graph_gives_the_same_text(export: Callable[..., str]) -> None:
    assert export(load("tiny-latent")) == export(load("tiny-latent"))


def test_multi_token_prediction_stands_apart() -> None:
    graph = load("tiny-latent")
    assert "multi-token prediction" in read_dot(dot(graph)).clusters
    assert "multi-token prediction" in read_mermaid(mermaid(graph)).clusters
    groups = {n["id"]: n["namespace"] for n in read_model_explorer(model_explorer(graph))["nodes"]}
    assert groups["mtp2.joint"] == "mtp" and groups["M0x2.mixer"] == "mtp/layers/M0x2 attention"
    assert groups["L3.mixer"] == "layers/3 attention"


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_that_are_markup_are_only_names() -> None:
    graph = renamed(load("tiny-latent"), EVIL)
    check_model_explorer(graph)
    check_netron(graph)
    pictured = read_dot(dot(graph))
    assert len(pictured.nodes) == len(read_dot(dot(load("tiny-latent"))).nodes)
    assert f"L0.norm{SHOWN}" in pictured.nodes and pictured.nodes[f"tokens{SHOWN}"].startswith(f"tokens{SHOWN}\n")
    charted = mermaid(graph)
    assert f"tokens{SHOWN}\n[batch, tokens]" in read_mermaid(charted).nodes.values()
    assert "<script>" not in charted


@pytest.mark.parametrize("export", EXPORTS)
def test_exports_are_text_that_any_file_holds(export: Callable[..., str]) -> None:
    text = export(renamed(load("tiny-dense"), "\x1b \r\n"))
    assert text.encode("utf-8").endswith(b"\n") and "\r" not in text


# -- folding -----------------------------------------------------------------------------------------------------------


def drawn_times(graph: Graph, region: str = LAYERS) -> list[int]:
    """How many blocks each drawn block stands for, in order."""
    return [len(part.blocks) for part in flat(outline(graph, region))]


def flat(parts: Sequence[Drawn | Repeat]) -> list[Drawn]:
    return [one for part in parts for one in ([part] if isinstance(part, Drawn) else flat(part.parts))]


def changed(graph: Graph, name: str, change: Callable[[Node], Node]) -> Graph:
    return dataclasses.replace(graph, nodes=tuple(change(n) if n.id == name else n for n in graph.nodes))


def with_size(node: Node, role: str, size: int) -> Node:
    def resized(dim: Dim) -> Dim:
        return dataclasses.replace(dim, size=size) if dim.name == node.op.dims[role].name else dim

    return dataclasses.replace(node, op=node.op.with_dims(resized))


def test_equal_blocks_are_drawn_once_with_their_places() -> None:
    graph = load("qwen3-8b")
    (repeat,) = outline(graph, LAYERS)
    assert isinstance(repeat, Repeat) and (repeat.times, repeat.where) == (36, "layers 0-71")
    assert [part.where for part in repeat.parts] == ["layers 0, 2, ..., 70", "layers 1, 3, ..., 71"]


@pytest.mark.parametrize(
    "change",
    [
        lambda node: with_size(node, "d_ff", 64),
        lambda node: dataclasses.replace(node, op=dataclasses.replace(node.op, activation="gelu")),
        lambda node: dataclasses.replace(node, formats=(("up_proj", "nvfp4"),)),
    ],
    ids=["size", "attribute", "format"],
)
def test_one_block_that_differs_is_drawn_by_itself(change: Callable[[Node], Node]) -> None:
    graph = load("qwen3-8b")
    assert drawn_times(graph) == [36, 36]
    assert drawn_times(changed(graph, "L21.mixer", change)) == [10, 10, 1, 1, 25, 25]


def test_a_block_that_others_look_into_is_drawn_by_itself() -> None:
    graph = load("qwen3-8b")
    early = dataclasses.replace(graph, outputs=(*graph.outputs, ("early", "L20.norm")))
    assert drawn_times(early) == [10, 10, 1, 1, 25, 25]
    past = changed(graph, "norm", lambda node: dataclasses.replace(node, inputs=("L40.add",)))
    assert 1 in drawn_times(past)


def test_few_layers_are_drawn_one_by_one() -> None:
    graph = load("tiny-latent")
    assert drawn_times(graph, MTP_LAYERS) == [1, 1, 1, 1]


# -- overlays ----------------------------------------------------------------------------------------------------------


def test_values_of_overlays_stand_beside_their_nodes() -> None:
    graph = load("tiny-dense")
    node = next(node for node in graph.nodes if "d_ff" in node.op.dims)
    values = {"*": 0.25, "d_ff": Units((1.0, 2.0)), "up_proj": get_format("fp8")}
    overlays = (Overlay(f"score {EVIL}", {node.id: values}), Overlay("sizes", {node.id: {"d_ff": Choices((64, 128))}}))
    told = {
        f"score {EVIL}": "0.25",
        f"score {EVIL} of d_ff": "1 to 2, mean 1.5 of 2",
        f"score {EVIL} of up_proj": get_format("fp8").name,
        "sizes of d_ff": "one of 64, 128",
    }
    (explored,) = (n for n in read_model_explorer(model_explorer(graph, overlays))["nodes"] if n["id"] == node.id)
    assert told.items() <= {attr["key"]: attr["value"] for attr in explored["attrs"]}.items()
    (seen,) = (n for n in read_netron(netron(graph, overlays))["nodes"] if n["name"] == node.id)
    assert told.items() <= {attr["name"]: attr["value"] for attr in seen["attributes"]}.items()
    tips = "\n".join(read_dot(dot(graph, overlays)).tooltips.values())
    assert f"{node.id} score {SHOWN}: 0.25" in tips and f"{node.id} sizes of d_ff: one of 64, 128" in tips
    assert mermaid(graph, overlays) == mermaid(graph)
