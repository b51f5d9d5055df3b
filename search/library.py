"""The block library: for each layer of a parent the variants that may stand in its place, and what each costs.

A variant is passes restricted to one layer (none of them: the block stays; `drop-layers`: it goes). What it costs is
arithmetic: figures that are sums over nodes (parameters, weights, state, FLOPs, seconds) differ by what the block's own
nodes sum to. What it loses is measured by whoever is handed in as `ReplacementScore`. Together they are a `Problem`,
and a solution of it is a pipeline that makes the combination of the parent's weights.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from archc.ir.graph import LAYERS, Graph, Node
from archc.ir.text_line import print_value
from archc.kernels.errors import ArchcError, SearchError, UnknownName
from archc.passes import Pipeline, apply
from archc.passes.base import Pass
from archc.passes.drop_layers import DropLayers
from archc.passes.fitted import FittedPass
from archc.passes.ranking import FIRST, RANDOM
from archc.search.budgets import Budget
from archc.search.figures import Figure
from archc.search.mip import Chosen, Cost, Option, Problem
from archc.search.node_sums import linear, node_sum

LAYERS_FIELD, BY_FIELD = "layers", "by"


@dataclass(frozen=True)
class Variant:
    """What may stand in a layer's place, by name: passes in order, whose `layers` mean nothing here."""

    name: str
    passes: tuple[Pass, ...] = ()

    def __post_init__(self) -> None:
        for one in self.passes:
            if LAYERS_FIELD not in {f.name for f in dataclasses.fields(one)}:
                raise SearchError(
                    f"`{one.name}` changes the whole model, it has no `{LAYERS_FIELD}`: no variant of one"
                )

    def at(self, layers: Sequence[int]) -> tuple[Pass, ...]:
        """The passes at these positions of the parent."""
        return tuple(_with(one, LAYERS_FIELD, tuple(layers)) for one in self.passes)

    @property
    def drops(self) -> bool:
        """Whether the layer goes, so that positions behind it change."""
        return any(isinstance(one, DropLayers) for one in self.passes)

    @property
    def fitted(self) -> bool:
        """Whether weights of it are fitted on what the layer does."""
        return any(isinstance(one, FittedPass) for one in self.passes)


def text_of(one: Pass) -> str:
    """A pass as text, without its `layers`."""
    told = (f"{name}={print_value(value)}" for name, value in _given(one))
    listed = ", ".join(told)
    return f"{one.name}{{{listed}}}" if listed else one.name


def _given(one: Pass) -> Iterator[tuple[str, Any]]:
    for f in dataclasses.fields(one):
        value = getattr(one, f.name)
        if f.name != LAYERS_FIELD and value != f.default:
            yield f.name, value


KEEP, DROP = Variant("keep"), Variant("drop", (DropLayers(layers=()),))


@dataclass(frozen=True)
class Replacement:
    """A variant in the place of one layer, all others as they are in the parent."""

    parent: Graph = field(compare=False, repr=False)
    layer: int
    variant: Variant

    @property
    def block(self) -> str:
        """The id of the layer's block."""
        return self.parent.blocks[LAYERS][self.layer]

    @property
    def pipeline(self) -> Pipeline:
        """The passes that make it."""
        return Pipeline(self.variant.at((self.layer,)))

    @functools.cached_property
    def graph(self) -> Graph:
        """The model with it, sizes only: which units stay does not matter.

        Raises SearchError where a pass does not apply to the layer, or changes others too."""
        try:
            made, _ = apply(self.parent, sized(self.pipeline))
        except ArchcError as error:
            raise SearchError(f"layer {self.layer}, `{self.variant.name}`: {error}") from None
        self._check_others(made)
        return made

    def _check_others(self, made: Graph) -> None:
        kept = {n.id: n.op for n in made.nodes}
        for node in self.parent.nodes:
            if (node.region, node.block) != (LAYERS, self.block) and kept.get(node.id) != node.op:
                raise SearchError(
                    f"layer {self.layer}, `{self.variant.name}`: changes `{node.id}` too, with which the layer shares a"
                    " dim or its parameters: one layer cannot be replaced alone"
                )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that stand in the layer's place."""
        return self.graph.block_nodes(LAYERS, self.block)


class ReplacementScore(Protocol):
    """What replacing one block alone loses: less is better."""

    def __call__(self, replacement: Replacement) -> float:
        """The score of a replacement."""
        ...


@dataclass(frozen=True)
class Library:
    """Replacements of each layer of a parent, in the order of layers; a layer without any stays."""

    graph: Graph
    layers: tuple[tuple[Replacement, ...], ...]

    def problem(self, budgets: Sequence[Budget], score: ReplacementScore) -> Problem:
        """The choice of a variant for every layer. Raises SearchError for a budget that is no sum over layers."""
        figures = {str(budget): budget.figure for budget in budgets}
        rows = tuple(linear(budget, self.shared(budget.figure)) for budget in budgets)
        layers = tuple(
            (str(i), tuple(Option(r.variant.name, score(r), self._costs(r, figures)) for r in options))
            for i, options in enumerate(self.layers)
        )
        return Problem(layers, rows)

    def shared(self, figure: Figure) -> Cost:
        """What of a figure no layer has."""
        kept = (Replacement(self.graph, i, KEEP) for i in range(len(self.layers)))
        return node_sum(figure, self.graph) - sum(self.part(r, figure) for r in kept)

    def part(self, replacement: Replacement, figure: Figure) -> Cost:
        """What of a figure the nodes in a layer's place have."""
        return node_sum(figure, self._nodes(replacement))

    def _nodes(self, replacement: Replacement) -> Graph:
        """The nodes in a layer's place, as a graph: those of one layer for all that are alike."""
        key = (self._make(replacement.layer), replacement.variant)
        if key not in self._known:
            made = dataclasses.replace(replacement.graph, nodes=replacement.nodes, outputs=())
            self._known[key] = made
        return self._known[key]

    def pipeline(self, chosen: Chosen) -> Pipeline:
        """The passes that make a combination of the parent: what is fitted first, and is so on the parent, then the
        others, one for all layers alike; layers go last, so that positions are the parent's."""
        groups: dict[tuple[Pass, ...], tuple[Variant, list[int]]] = {}
        for options, i in zip(self.layers, chosen, strict=True):
            variant = options[i].variant
            groups.setdefault(variant.passes, (variant, []))[1].append(options[i].layer)
        ordered = sorted(groups.values(), key=lambda group: (group[0].drops, not group[0].fitted))
        return Pipeline(tuple(one for variant, layers in ordered for one in variant.at(layers)))

    def build(self, chosen: Chosen) -> Graph:
        """The graph of a combination, sizes only."""
        return apply(self.graph, sized(self.pipeline(chosen)))[0]

    def _costs(self, replacement: Replacement, figures: Mapping[str, Figure]) -> dict[str, Cost]:
        return {name: self.part(replacement, figure) for name, figure in figures.items()}

    @functools.cached_property
    def _known(self) -> dict[Any, Graph]:
        return {}

    def _make(self, layer: int) -> Any:
        """What layers have in common whose variants cost the same. One that shares dims with others is its own."""
        block = self.graph.blocks[LAYERS][layer]
        nodes = self.graph.block_nodes(LAYERS, block)
        dims = {d.name for node in nodes for d in node.op.dims.values()} - self._stream
        alone = any(n.owner for n in nodes) or any(self._uses[d] > 1 for d in dims)
        return layer if alone else -1, tuple((n.role, n.op.key, n.op.sizes, n.formats) for n in nodes)

    @functools.cached_property
    def _uses(self) -> Counter[str]:
        """In how many blocks each dim is."""
        places = {(n.region, n.block, d.name) for n in self.graph.nodes for d in n.op.dims.values()}
        return Counter(name for _, _, name in places)

    @functools.cached_property
    def _stream(self) -> frozenset[str]:
        """Dims that lie outside all blocks, such as d_model: no variant changes them."""
        return frozenset(d.name for n in self.graph.nodes if not n.block for d in n.op.dims.values())


def library(
    graph: Graph, by_kind: Mapping[str, Sequence[Variant]], by_layer: Mapping[int, Sequence[Variant]] | None = None
) -> Library:
    """The library of a parent: variants by the kind of a layer's mixer, or by its position, which goes before.

    Layers of which neither says anything are kept. Raises UnknownName for a kind, SearchError for a position, names
    given twice, and passes that do not apply."""
    blocks, at = graph.blocks.get(LAYERS, ()), by_layer or {}
    kinds = [graph.node(f"{block}.mixer").op.kind for block in blocks]
    for kind in by_kind:
        if kind not in kinds:
            raise UnknownName(f"kind of layer of `{graph.name}`", kind, set(kinds))
    for position in at:
        if not 0 <= position < len(blocks):
            raise SearchError(f"`{graph.name}` has layers 0 to {len(blocks) - 1}: got {position}")
    chosen = [at.get(i, by_kind.get(kind, (KEEP,))) for i, kind in enumerate(kinds)]
    made = Library(graph, tuple(tuple(_replacements(graph, i, variants)) for i, variants in enumerate(chosen)))
    for options in made.layers:
        for one in options:
            made._nodes(one)  # so that what does not apply is told at once
    return made


def _replacements(graph: Graph, layer: int, variants: Sequence[Variant]) -> Iterator[Replacement]:
    names = [v.name for v in variants]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise SearchError(f"layer {layer}: variant `{twice[0]}` is there twice")
    yield from (Replacement(graph, layer, v) for v in variants)


def scored_by(one: Pass) -> str:
    """The estimator whose scores a pass keeps units by; empty where it needs none."""
    by = str(getattr(one, BY_FIELD, ""))
    return "" if by in (FIRST, RANDOM) else by


def sized(pipeline: Pipeline) -> Pipeline:
    """The same sizes without scores: passes that choose units by scores take the first ones."""
    return Pipeline(tuple(_with(p, BY_FIELD, FIRST) if scored_by(p) else p for p in pipeline.passes))


def _with(one: Pass, name: str, value: Any) -> Pass:
    given: dict[str, Any] = {name: value}
    return dataclasses.replace(one, **given)
