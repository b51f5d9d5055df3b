"""Which blocks of one model another one has as they were, by a fingerprint of their weights."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from torch import float32

from archc.hub.compare.values import bits
from archc.hub.weights import Weights
from archc.ir.graph import Graph, Node

_TENSORS = 3  # of a block are looked at: its largest


def evidence(a: Weights, b: Weights) -> dict[str, str]:
    """Names of A's blocks that B has with all their weights the same, each with its name in B.

    Told by the shapes of all their tensors and the first rows of the largest, so that little is read. Blocks that
    several of either model may be (equal fresh ones) are left out: nothing is said of them."""
    ours, theirs = _by_print(a), _by_print(b)
    return {name: theirs[mark] for mark, name in ours.items() if mark in theirs}


def _by_print(weights: Weights) -> dict[str, str]:
    prints = {name: _print(weights, nodes) for name, nodes in _blocks(weights.graph).items()}
    times = Counter(prints.values())
    return {mark: name for name, mark in prints.items() if times[mark] == 1}


def _blocks(graph: Graph) -> Mapping[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.block and not node.owner:
            found.setdefault(node.block, []).append(node)
    return {name: nodes for name, nodes in found.items() if any(True for node in nodes for _ in node.op.params())}


def _print(weights: Weights, nodes: list[Node]) -> str:
    scopes = weights.graph.scopes
    keys = {f"{n.role}.{p.name}": f"{scopes[n.id]}.{p.name}" for n in nodes for p in n.op.params()}
    digest = hashlib.sha256(repr([(n.role, n.op.kind) for n in nodes]).encode())
    digest.update(repr([(name, weights.shapes[key]) for name, key in keys.items()]).encode())
    for key in sorted(keys.values(), key=lambda key: -weights.nbytes(key))[:_TENSORS]:
        digest.update(bits(weights.first(key, 1), float32).numpy().tobytes())
    return digest.hexdigest()
