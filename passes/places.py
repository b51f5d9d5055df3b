"""Which nodes a pass means: those of one class of op in the layers that it names, or the mixers there."""

from __future__ import annotations

from typing import Any

from archc.ir.graph import LAYERS, Graph, Node
from archc.passes.base import Pass


def nodes_of(one: Pass, graph: Graph, kind: type[Any], layers: tuple[int, ...]) -> tuple[Node, ...]:
    """The nodes whose op is a `kind`: of every layer, and of multi-token prediction, where `layers` are none.

    Raises PassError where there is none, for a position that there is not and for a layer without such a node.
    """
    everywhere = tuple(n for n in graph.nodes if isinstance(n.op, kind))
    if not everywhere:
        raise one.error(f"`{graph.name}` has no {kind.kind}")
    if not layers:
        return everywhere
    found = {
        i: tuple(n for n in graph.block_nodes(LAYERS, block) if isinstance(n.op, kind))
        for i, block in _blocks(one, graph, layers).items()
    }
    lacking = [str(i) for i, nodes in found.items() if not nodes]
    if lacking:
        raise one.error(f"no {kind.kind} in layers {', '.join(lacking)}")
    return tuple(n for nodes in found.values() for n in nodes)


def mixers(one: Pass, graph: Graph, layers: tuple[int, ...]) -> tuple[Node, ...]:
    """The mixers of the layers at these positions. Raises PassError for a position that there is not."""
    return tuple(graph.node(f"{block}.mixer") for block in _blocks(one, graph, layers).values())


def _blocks(one: Pass, graph: Graph, layers: tuple[int, ...]) -> dict[int, str]:
    blocks = graph.blocks.get(LAYERS, ())
    wrong = [i for i in layers if not 0 <= i < len(blocks)]
    if wrong:
        raise one.error(f"`{graph.name}` has layers 0 to {len(blocks) - 1}: got {', '.join(map(str, wrong))}")
    return {i: blocks[i] for i in layers}
