"""Which units come first: dims named by role, and their units in order of a score, at random, or as they stand."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from archc.ir.dims import Dim, Product
from archc.ir.graph import LAYERS, Graph, Node
from archc.ir.op import Op
from archc.ir.selection import Index, Selection, Selections, keep
from archc.kernels.errors import GraphError, PassError, UnknownName
from archc.passes.base import Context
from archc.passes.scores import Values

FIRST, RANDOM = "first", "random"  # ways to choose that need no scores
STREAM = "d_model"  # the dim of all ops, that of the residual stream


def nodes_of(graph: Graph, kind: str = "", layers: Sequence[int] = ()) -> Iterator[Node]:
    """Nodes of a kind, at some positions: all where neither is given. Raises PassError for what there is not."""
    blocks = graph.blocks.get(LAYERS, ())
    wrong = [i for i in layers if not 0 <= i < len(blocks)]
    if wrong:
        raise PassError(f"`{graph.name}` has layers 0 to {len(blocks) - 1}: got {', '.join(map(str, wrong))}")
    kinds = {n.op.kind for n in graph.nodes}
    if kind and kind not in kinds:
        raise UnknownName(f"kind of op in `{graph.name}`", kind, kinds)
    chosen = {blocks[i] for i in layers}
    for node in graph.nodes:
        if (not kind or node.op.kind == kind) and (not layers or (node.region == LAYERS and node.block in chosen)):
            yield node


def dims_of(graph: Graph, role: str, kind: str = "", layers: Sequence[int] = ()) -> dict[str, tuple[Dim, int]]:
    """The dims that a role means, by name, each with how many units of it make up one unit of the role.

    The role is that of a dim, or of a product of dims (`n_heads`), whose innermost dim is meant and counts once for
    each unit of the others. Raises UnknownName where no node has it.
    """
    found: dict[str, tuple[Dim, int]] = {}
    known: set[str] = set()
    for node in nodes_of(graph, kind, layers):
        known |= node.op.dims.keys() | _products(node.op).keys()
        product = _products(node.op).get(role)
        if role in node.op.dims:
            found[node.op.dims[role].name] = (node.op.dims[role], 1)
        elif product is not None:
            *outer, inner = product
            found[inner.name] = (inner, int(np.prod([d.size for d in outer])))
    if not found:
        raise UnknownName(f"dim of `{graph.name}`", role, known)
    return found


def _products(op: Op) -> dict[str, tuple[Dim, ...]]:
    """Products of dims by the names that the maths gives them."""
    found = {}
    for name, axis in op.derived().items():
        parts = [p for p in axis.parts if isinstance(p, Dim)] if isinstance(axis, Product) else []
        if isinstance(axis, Product) and len(parts) == len(axis.parts) and parts[-1].within == parts[-2]:
            found[name] = tuple(parts)
    return found


def free_roles(graph: Graph) -> Iterator[tuple[str, str]]:
    """(kind of op, role) of every dim that may be cut, once each; no kind for a role of several, such as d_model."""
    kinds: dict[str, set[str]] = {}
    for node in graph.nodes:
        for role, dim in node.op.dims.items():
            if dim.order != "fixed" and dim.size > dim.multiple_of:
                kinds.setdefault(role, set()).add(node.op.kind)
    shared = graph.dims.get(STREAM)
    for role, found in kinds.items():
        yield from [("", role)] if shared is not None and role == STREAM else ((kind, role) for kind in sorted(found))


def order_of(dim: Dim, ctx: Context, by: str, seed: int = 0) -> Index:
    """Units of a dim, the most important first: `[rows, size]`, of a dim of pairs `[rows, size / 2]` first channels.

    Equal ones stay in their order. Raises PassError where there are no such scores."""
    values = ranked(dim, ctx, by, seed)
    if dim.order == "pairs":
        first, second = np.split(values, 2, axis=1)
        values = first + second
    return np.argsort(-values, axis=1, kind="stable")


def ranked(dim: Dim, ctx: Context, by: str, seed: int) -> Values:
    """How important each unit is, `[rows, size]`. Raises PassError where there are no such scores."""
    rows = max(dim.rows, 1)
    if by == FIRST:
        return np.zeros((rows, dim.size))
    if by == RANDOM:
        return np.random.default_rng([seed, zlib.crc32(dim.name.encode())]).random((rows, dim.size))
    if ctx.scores is None:
        without = f"choose by={FIRST} or by={RANDOM}"
        raise PassError(f"`by={by}` needs scores, and there are none: measure them (`archc importance`), or {without}")
    return ctx.scores.of(dim, by)


def kept(dim: Dim, units: Index) -> Selection:
    """The Selection of units as `order_of` counts them: whole pairs where the dim has pairs."""
    if dim.order == "pairs":
        units = np.concatenate([units, units + dim.size // 2], axis=1)
    try:
        return keep(dim, units)
    except GraphError as error:
        raise PassError(str(error)) from None


def handed_on(graph: Graph, ctx: Context, chosen: Selections) -> Context:
    """The context of the graph that a Selection makes."""
    scores = None if ctx.scores is None else ctx.scores.selected(graph, chosen)
    return replace(ctx, scores=scores)


def check_rules(before: Graph, after: Graph) -> None:
    """Raise PassError where sizes that changed break a rule of their op, such as top_k and experts."""
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old.op == new.op or new.op.Fields is None:
            continue
        for _, message, _ in new.op.check(new.op.fields()):
            raise PassError(f"{after.scopes[new.id]}: {message}")
