"""For tests of exports: small readers, written against the formats and not against archc, and names that are markup."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any

from archc.ir.graph import Graph, Node

EVIL = 'a "b" <script>alert(1)</script> \\n \\" &amp; #35; `c` {d} |e| [f] / 名前 %% \x00 \u202e end'
SHOWN = EVIL.replace("\x00", "\\x00").replace("\u202e", "\\u202e")  # as pictures show what cannot be shown

_STRING = r'"((?:[^"\\]|\\.)*)"'
_TIMES = re.compile(r"x(\d+)  ")


@dataclass
class Drawing:
    """A picture's nodes by name with their labels, its edges, and how often each block is meant: (label, times)."""

    nodes: dict[str, str] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    blocks: list[tuple[str, int]] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    tooltips: dict[str, str] = field(default_factory=dict)

    def layers(self, region: str) -> int:
        """How many blocks of a region the picture stands for."""
        return sum(times for label, times in self.blocks if f" {region} " in f" {label} ")


def read_dot(text: str) -> Drawing:
    """DOT as archc writes it: a statement a line."""
    found, times = Drawing(), [1]
    for line in text.splitlines():
        line = line.strip()
        if edge := re.match(rf"{_STRING} -> {_STRING}", line):
            found.edges.append((_dot(edge[1]), _dot(edge[2])))
        elif node := re.match(rf"{_STRING} \[label={_STRING}", line):
            found.nodes[_dot(node[1])] = _dot(node[2])
            if tip := re.search(rf"tooltip={_STRING}", line):
                found.tooltips[_dot(node[1])] = _dot(tip[1])
        elif line.startswith("subgraph"):
            times.append(times[-1])
        elif line == "}":
            times.pop()
        elif (cluster := re.match(rf"label={_STRING};", line)) and len(times) > 1:
            _cluster(found, times, _dot(cluster[1]))
    assert not times  # as many brackets closed as opened, the graph's own included
    return found


def _cluster(found: Drawing, times: list[int], label: str) -> None:
    found.clusters.append(label)
    if repeat := _TIMES.match(label):
        times[-1] *= int(repeat[1])
    else:
        found.blocks.append((label, times[-1]))


def _dot(string: str) -> str:
    """What a DOT string says: its words of backslashes, and its entity."""
    plain = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), string)
    return plain.replace("&amp;", "&")


def read_mermaid(text: str) -> Drawing:
    """A flowchart as archc writes it: a statement a line."""
    found, times = Drawing(), [1]
    for line in map(str.strip, text.splitlines()):
        if frame := re.match(r'subgraph \w+\["(.*)"\]$', line):
            times.append(times[-1])
            label = _mermaid(frame[1])
            found.clusters.append(label)
            times[-1] *= int(repeat[1]) if (repeat := _TIMES.match(label)) else 1
        elif line == "end":
            times.pop()
        elif edge := re.match(r'(\w+) --> (\w+)(?:\(\["(.*)"\]\))?$', line):
            found.edges.append((edge[1], edge[2]))
        elif node := re.match(r'(\w+)(?:\["(.*)"\]|\(\["(.*)"\]\))$', line):
            found.nodes[node[1]] = _mermaid(node[2] or node[3])
            found.blocks.append((found.nodes[node[1]].replace("\n", " "), times[-1]))
    assert times == [1]
    return found


def _mermaid(label: str) -> str:
    """What a label says; it may hold no character that could be markup."""
    lines = label.split("<br/>")
    assert all(re.fullmatch(r"(?:[\w =,:]|#\d+;)*", line) for line in lines), label
    return "\n".join(re.sub(r"#(\d+);", lambda m: chr(int(m[1])), line).replace("\u2060", "") for line in lines)


def read_model_explorer(text: str) -> dict[str, Any]:
    """The one graph of a Model Explorer file, held against the form that the viewer reads."""
    (graph,) = json.loads(text)
    ids = [node["id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids)
    for node in graph["nodes"]:
        assert {"id", "label", "namespace", "incomingEdges"} <= set(node)
        assert all(isinstance(attr["value"], str) for attr in node.get("attrs", []))
        assert all(edge["sourceNodeId"] in ids for edge in node["incomingEdges"])
    groups = {""} | {node["namespace"] for node in graph["nodes"]}
    assert set(graph["groupNodeAttributes"]) <= groups
    assert all(isinstance(v, str) for of in graph["groupNodeAttributes"].values() for v in of.values())
    return dict(graph)


def read_netron(text: str) -> dict[str, Any]:
    """The one graph of a `.netron` file, with values in place of their indices."""
    assert re.match(r'^{\s*"signature":\s*"(netron:.*)"\s*,\s*', text[:64])
    (graph,) = json.loads(text)["graphs"]
    names = [value["name"] for value in graph["values"]]
    for argument in (
        *graph["inputs"],
        *graph["outputs"],
        *(a for n in graph["nodes"] for a in n["inputs"] + n["outputs"]),
    ):
        argument["value"] = [names[i] for i in argument["value"]]
    return dict(graph)


def renamed(graph: Graph, suffix: str) -> Graph:
    """The graph with a suffix on its name and on every id."""
    ids = {node.id: f"{node.block}.{node.role}{suffix}" if node.block else node.role + suffix for node in graph.nodes}
    ids |= {name: name + suffix for name, _ in graph.inputs}

    def node(old: Node) -> Node:
        inputs = tuple(ids[source] for source in old.inputs)
        return dataclasses.replace(old, role=old.role + suffix, inputs=inputs, owner=ids.get(old.owner, ""))

    return dataclasses.replace(
        graph,
        name=graph.name + suffix,
        nodes=tuple(map(node, graph.nodes)),
        inputs=tuple((name + suffix, axes) for name, axes in graph.inputs),
        outputs=tuple((name + suffix, ids[source]) for name, source in graph.outputs),
    )
