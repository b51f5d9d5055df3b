"""Pipelines: passes one after the other, checked before they run, verified between, their weight maps as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from archc.ir.graph import Graph
from archc.ir.text import parse_graph, print_graph
from archc.ir.verify import verify
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import GraphError, PassError, Place, SpecError, SpecErrors, placed
from archc.passes.base import Context, Pass, registered_passes
from archc.passes.text import parse_passes, placed_passes

Prepare: TypeAlias = Callable[[Pass, Graph], Pass]


def _as_it_is(one: Pass, graph: Graph) -> Pass:
    return one


@dataclass(frozen=True)
class Step:
    """A pass that ran, the graph it gave, and the map from the weights of the graph before it."""

    applied: Pass
    graph: Graph
    weights: WeightMap


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. `str` gives their text, one a line, which `Pipeline.parse` reads back.

    `places` say where each stands in a file, if they do: what is wrong with a pass is then a SpecError there."""

    passes: tuple[Pass, ...]
    places: tuple[Place, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, *, file: str | None = None) -> Pipeline:
        """The pipeline that a text describes, with its places where the text is that of a `file`; raises ParseError."""
        if file is None:
            return cls(parse_passes(text))
        found = list(placed_passes(text, file=file))
        return cls(tuple(one for one, _ in found), tuple(at for _, at in found))

    def __str__(self) -> str:
        return "\n".join(map(str, self.passes))

    @property
    def tokens(self) -> Sequence[int] | None:
        """The tokens that all passes leave, the old id by the new one; None where ids stay as they are."""
        found: Sequence[int] | None = None
        for one in self.passes:
            if one.tokens is not None:
                found = one.tokens if found is None else [found[i] for i in one.tokens]
        return found

    @property
    def placed(self) -> Iterator[tuple[Pass, Place | None]]:
        """The passes, each with its place."""
        return zip(self.passes, self.places or (None,) * len(self.passes), strict=True)

    def check(self, holds: Iterable[str] = ()) -> None:
        """Raise one PassError listing what a pass requires and neither `holds` nor a pass before it provides."""
        facts, problems = set(holds), list[tuple[str, Place | None]]()
        for one, at in self.placed:
            for fact in sorted(one.requires - facts):
                makers = [p.name for p in registered_passes() if any(fact in p(**e).provides for e in p.Examples)]
                hint = f": {' or '.join(makers)} provides it" if makers else ""
                problems.append((f"`{one}` requires `{fact}`, which does not hold there{hint}", at))
            facts = (facts - one.breaks) | one.provides
        if problems and self.places:
            raise SpecErrors([SpecError(at, text) for text, at in problems if at is not None])
        if problems:
            raise PassError("\n".join(["the pipeline does not fit together:", *(text for text, _ in problems)]))

    def steps(self, graph: Graph, ctx: Context | None = None, prepare: Prepare = _as_it_is) -> Iterator[Step]:
        """Run the passes, one Step each; every graph is verified (and goes through its text with ARCHC_CHECK=1).

        Each graph's lineage names the ones before it. `prepare` gives the pass that is applied in the place of one,
        of the graph as it stands before it.
        """
        ctx = ctx or Context()
        self.check(ctx.holds)
        for given, at in self.placed:
            with placed(at):
                before, one = graph, prepare(given, graph)
                made, weights = one.apply(graph, ctx)
                graph = made.made_from(before)
                _checked(one, before, graph, weights)
                dtypes = weights.dtypes(ctx.dtypes) if ctx.dtypes else {}
                ctx = Context((ctx.holds - one.breaks) | one.provides, one.scores_after(before, ctx), dtypes)
            yield Step(one, graph, weights)


def apply(graph: Graph, pipeline: Pipeline | Pass | str, ctx: Context | None = None) -> tuple[Graph, WeightMap]:
    """The graph after a pipeline (a Pipeline, one pass, or their text), and one map from its weights to the new ones.

    >>> import archc
    >>> made, weights = archc.apply(archc.load("llama-3.1-8b"), "drop-layers{layers=(10, 11)}")
    >>> len(made.blocks["layers"]), str(weights.params["layers.10.norm.weight"])
    (62, 'layers.12.norm.weight')

    Raises ParseError for text that does not read, PassError for a pass that cannot apply.
    """
    if isinstance(pipeline, str):
        pipeline = Pipeline.parse(pipeline)
    elif isinstance(pipeline, Pass):
        pipeline = Pipeline((pipeline,))
    if not isinstance(graph, Graph) or not isinstance(pipeline, Pipeline):
        got = f"{type(graph).__name__} and {type(pipeline).__name__}"
        raise PassError(f"expected a Graph, and a Pipeline, a Pass or their text: got {got}")
    shapes = graph.weight_shapes()
    weights = WeightMap.identity(shapes)
    for step in pipeline.steps(graph, ctx):
        graph, weights = step.graph, WeightMap.compose(weights, step.weights, shapes)
    return graph, weights


def _checked(one: Pass, before: Graph, after: Graph, weights: WeightMap) -> None:
    """What must hold after every pass: the graph holds together, and the map makes its weights of the old ones."""
    try:
        verify(after)
        if os.environ.get("ARCHC_CHECK", "0") not in ("", "0") and parse_graph(print_graph(after)) != after:
            raise GraphError("the graph does not survive its text form")
    except GraphError as error:
        raise one.error(str(error)) from error
    old, wanted = before.weight_shapes(), after.weight_shapes()
    weights.check(old)
    found = weights.shapes(old)
    if found != wanted:
        wrong = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        told = (f"`{n}`: {found.get(n)}, the graph has {wanted.get(n)}" for n in wrong)
        raise one.error("the weight map does not fit the new graph: " + "; ".join(told))
