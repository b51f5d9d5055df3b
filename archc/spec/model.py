"""What a spec says: the value that reading a YAML spec yields, and the graph it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archc.ir.build import Norm
    from archc.ir.graph import Graph

Formats = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One layer: the kind of its op, the op's spec fields, and formats of parameters that differ from the model's."""

    kind: str
    fields: Any
    formats: Formats = ()


@dataclass(frozen=True, kw_only=True)
class MTPSpec:
    """Multi-token prediction: the layers of the one module, applied `steps` times by reference."""

    layers: tuple[Block, ...]
    steps: int = 1


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of parameters as its source prints it (`31.6B`).

    `metric` is total or active; both leave out what `without` lists (input_embedding, output_embedding, router,
    mtp). `gap` says what is known of a figure that no convention reaches, and is empty otherwise.
    """

    metric: str
    text: str
    without: tuple[str, ...] = ()
    gap: str = ""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A model as its spec declares it, every layer with all its fields."""

    name: str
    d_model: int
    vocab: int
    layers: tuple[Block, ...]
    norm: Norm
    tied: bool = False
    init_std: float = 0.02
    mtp: MTPSpec | None = None
    formats: Formats = ()
    description: str = ""
    published: tuple[Figure, ...] = ()
    source: tuple[str, ...] = ()

    def graph(self) -> Graph:
        """The verified graph."""
        from archc.ir.build import MTP, build_model
        from archc.ir.graph import LAYERS, MTP_LAYERS

        mtp = MTP(layers=_plain(self.mtp.layers), steps=self.mtp.steps) if self.mtp else None
        graph = build_model(
            name=self.name,
            d_model=self.d_model,
            vocab=self.vocab,
            layers=_plain(self.layers),
            norm=self.norm,
            tied=self.tied,
            mtp=mtp,
            formats=self.formats,
            init_std=self.init_std,
        )
        graph = _with_formats(graph, LAYERS, self.layers)
        return _with_formats(graph, MTP_LAYERS, self.mtp.layers) if self.mtp else graph

    def to_yaml(self) -> str:
        """The spec as YAML: equal layers under one letter, a layer that differs in few fields as an override."""
        from archc.spec.write import write_spec

        return write_spec(self)


def _plain(layers: Sequence[Block]) -> list[tuple[str, Any]]:
    return [(block.kind, block.fields) for block in layers]


def _with_formats(graph: Graph, region: str, layers: Sequence[Block]) -> Graph:
    """The graph with the formats that blocks of a region give their parameters."""
    owners = [node.id for node in graph.nodes if node.region == region and node.role == "mixer" and not node.owner]
    chosen = {name: block.formats for name, block in zip(owners, layers, strict=True) if block.formats}
    return replace(graph, nodes=tuple(replace(n, formats=chosen.get(n.id, n.formats)) for n in graph.nodes))


def spec_from_graph(graph: Graph) -> Spec:
    """The spec that builds `graph`, up to the ids of its nodes: the inverse of `Spec.graph`.

    Raises UnsupportedError when the graph is no chain of norm, mixer and residual add, or links dims that a spec
    cannot link.
    """
    from archc.spec.read_graph import read_graph

    return read_graph(graph)
