"""Hypothesis strategies: any graph archc can express, small."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any

from annotated_types import Ge, Gt, Le
from hypothesis import strategies as st

from archc.ir.build import MTP, Norm, build_model
from archc.ir.dims import Dim
from archc.ir.formats import FORMATS
from archc.ir.graph import Graph, Node
from archc.ir.op import Op, registered_ops

CLASSES = ("weights", "kv", "ssm", "conv", "activations")


def block_ops() -> list[type[Op]]:
    """Ops that a spec may use as a block."""
    return [cls for cls in registered_ops() if cls.Fields is not None]


@st.composite
def blocks(draw: st.DrawFn) -> tuple[str, Any]:
    """A (kind, Fields) pair that breaks no rule of its op.

    Rules between fields (heads divide by groups) fail for half of what is drawn. That must not reject the whole graph,
    so after a few attempts come the plainest fields: every required size the same, the rest at its default.
    """
    cls = draw(st.sampled_from(block_ops()))
    for _ in range(4):
        fields = draw(records(cls.Fields))
        if not list(cls.check(fields)):
            return cls.kind, fields
    required = (f.name for f in dataclasses.fields(cls.Fields) if f.default is dataclasses.MISSING)
    return cls.kind, cls.Fields(**dict.fromkeys(required, 4))


@functools.cache
def records(cls: type[Any]) -> st.SearchStrategy[Any]:
    """A frozen dataclass, every field drawn by its annotation, half the time left at its default."""
    hints = typing.get_type_hints(cls, include_extras=True)
    given = {}
    for f in dataclasses.fields(cls):
        drawn = values(hints[f.name])
        given[f.name] = drawn if f.default is dataclasses.MISSING else st.one_of(st.just(f.default), drawn)
    return st.builds(cls, **given)


@functools.cache
def values(annotation: Any) -> st.SearchStrategy[Any]:
    """A value of an annotated type, within its bounds."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        limits = tuple(m for m in args[1:] if isinstance(m, (Ge, Gt, Le)))  # the rest is documentation
        return bounded(args[0], limits) if limits else values(args[0])
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(values(a) for a in args))
    if origin is tuple:
        item = values(args[0])
        return st.lists(item, min_size=1, max_size=3).map(tuple) if args[-1] is ... else st.tuples(*map(values, args))
    if dataclasses.is_dataclass(annotation):
        return records(typing.cast(Any, annotation))
    plain = {int: st.integers(1, 12), float: floats(), bool: st.booleans(), type(None): st.none()}
    return plain[annotation]


def bounded(kind: Any, limits: Any) -> st.SearchStrategy[Any]:
    """A number within annotated bounds; sizes stay small, and mostly even, so that rules between them hold often."""
    if kind is int:
        least: list[Any] = [m.ge for m in limits if isinstance(m, Ge)]
        above: list[Any] = [m.gt for m in limits if isinstance(m, Gt)]
        low = max([1, *least, *(n + 1 for n in above)])
        return st.sampled_from([n for n in (1, 2, 3, 4, 6, 8, 12) if n >= low])
    most: list[Any] = [m.le for m in limits if isinstance(m, Le)]
    return floats(min([1e6, *most]))


def floats(top: float = 1e6) -> st.SearchStrategy[float]:
    """Positive floats of the sizes specs have, up to a bound."""
    usual = [x for x in (1e-6, 1e-5, 0.02, 0.5, 1.0, 2.5, 1e4) if x <= top]
    return st.one_of(st.sampled_from(usual), st.floats(1e-6, top))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A model of random blocks: every registered op, per-layer dims, shared parameters, MTP, formats and lineage."""
    name = draw(st.from_regex(r"[a-z][a-z0-9_.\-]{0,12}", fullmatch=True))
    graph = build_model(
        name=name,
        d_model=draw(st.integers(1, 64)),
        vocab=draw(st.integers(1, 300)),
        layers=draw(st.lists(blocks(), max_size=2) | st.lists(blocks(), min_size=3, max_size=5)),
        norm=Norm(kind=draw(st.sampled_from(["rms", "layer", "layer1p"])), eps=draw(st.sampled_from([1e-5, 1e-6]))),
        tied=draw(st.booleans()),
        mtp=draw(st.none() | mtps()),
        formats=tuple(draw(st.dictionaries(st.sampled_from(CLASSES), st.sampled_from(sorted(FORMATS)))).items()),
    )
    lineage = tuple(draw(st.lists(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), max_size=2)))
    return dataclasses.replace(graph, nodes=tuple(draw(formatted(n)) for n in graph.nodes), lineage=lineage)


def mtps() -> st.SearchStrategy[MTP]:
    """Multi-token prediction of one or two blocks, in up to three steps."""
    return st.builds(MTP, layers=st.lists(blocks(), min_size=1, max_size=2), steps=st.integers(1, 3))


@st.composite
def formatted(draw: st.DrawFn, node: Node) -> Node:
    """The node, perhaps with formats of its own for some parameters."""
    names = [p.name for p in node.op.params()]
    if node.owner or not names or not draw(st.booleans()):
        return node
    chosen = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(sorted(FORMATS)), max_size=2))
    return dataclasses.replace(node, formats=tuple(chosen.items()))


def renamed(graph: Graph) -> Graph:
    """The same model by other ids of nodes and names of dims, its lineage unknown."""
    ids = {n.id: f"{n.block}x.{n.role}" if n.block else f"{n.id}x" for n in graph.nodes}
    nodes = (
        dataclasses.replace(
            n,
            role=n.role if n.block else ids[n.id],
            block=n.block and f"{n.block}x",
            inputs=tuple(ids.get(i, i) for i in n.inputs),
            owner=ids.get(n.owner, ""),
        )
        for n in graph.nodes
    )
    outputs = tuple((name, ids.get(source, source)) for name, source in graph.outputs)
    made = dataclasses.replace(graph, nodes=tuple(nodes), outputs=outputs, lineage=())
    return made.with_dims(_renamed)


def _renamed(dim: Dim) -> Dim:
    return dataclasses.replace(dim, name=f"{dim.name}_x", within=dim.within and _renamed(dim.within))
