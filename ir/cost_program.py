"""The cost of a graph as one set of expressions over its dims, for many candidates at once.

    program = cost_program(graph, varying=["L1.mixer.d_ff"], droppable=["L5"], workload=workload, profile=a10g)
    figures = program({"L1.mixer.d_ff": widths, "keep.L5": kept})      # arrays of one length, or ints, or tensors
    fits = figures["peak_bytes"] <= a10g.memory_bytes

No graph is built for a candidate. `keep.<block>` is 1 for a kept block and 0 for a dropped one; between them it is an
expected value, as an elastic router has it. Figures are those of `archc.ir.cost` (a test holds the two together):
whole numbers where that rounds up, exact on ints, float64 on arrays, tensors (differentiable) and as JSON.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archc.ir.cost_graph import Costed, Group, live_values
from archc.ir.cost_op import STATE_CLASSES, bytes_sym
from archc.ir.expr import (
    Expr,
    Json,
    Num,
    Operand,
    Program,
    Sym,
    ceil,
    compile_expr,
    maximum,
    minimum,
    substitute,
    total,
)
from archc.ir.graph import Graph, Node
from archc.ir.hardware import HardwareProfile, Mode
from archc.ir.latency import call_s, hardware_env
from archc.ir.op import BATCH_SYM, CONTEXT_SYM
from archc.ir.workload import FormatChoice, Workload
from archc.kernels.errors import UnknownName

INPUT, PREFILL_CHUNK, RESERVE = Sym("input"), Sym("prefill_chunk"), Sym("reserve_bytes")


@dataclass(frozen=True)
class CostProgram:
    """Figures as expressions, and what their symbols stand for where a candidate does not say."""

    figures: Mapping[str, Expr]
    defaults: Mapping[str, Any]

    @functools.cached_property
    def _compiled(self) -> Program:
        return compile_expr(*self.figures.values())

    @property
    def symbols(self) -> tuple[str, ...]:
        """What candidates may vary: dims, kept blocks, workload, formats and hardware."""
        return self._compiled.symbols

    def __call__(self, candidates: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every figure for the candidates; what they leave out has its default.

        Raises UnknownName for a name that no figure depends on."""
        given = candidates or {}
        for name in given:
            if name not in self.defaults:
                raise UnknownName("symbol", name, self.defaults)
        return dict(zip(self.figures, self._compiled({**self.defaults, **given}), strict=True))

    def to_json(self) -> dict[str, Any]:
        """The expressions and defaults as plain data; `archc.ir.expr.evaluate_json` evaluates one."""
        figures: dict[str, Json] = {name: expr.to_json() for name, expr in self.figures.items()}
        return {"figures": figures, "defaults": {name: float(value) for name, value in self.defaults.items()}}


def cost_program(
    graph: Graph,
    *,
    workload: Workload,
    varying: Iterable[str] | Mapping[str, str] = (),
    droppable: Iterable[str] = (),
    profile: HardwareProfile | None = None,
    formats: FormatChoice | None = None,
    mtp: bool = True,
) -> CostProgram:
    """The cost of `graph` over the `varying` dims (by name) and the `droppable` blocks (by id).

    A mapping of `varying` gives each dim the one whose symbol it shares, for dims that always have one size. Times are
    there only with a `profile`. Raises UnknownName for a dim or block that the graph does not have.
    """
    costed = Costed(graph, formats or FormatChoice(), mtp)
    dims = dict(varying) if isinstance(varying, Mapping) else {name: name for name in varying}
    blocks = frozenset(droppable)
    _check("dim", (*dims, *dims.values()), graph.dims)
    _check("block", blocks, [block for ids in graph.blocks.values() for block in ids])
    builder = _Builder(costed, profile, dims, blocks)
    figures = dict(builder.figures())
    return CostProgram(figures, builder.defaults(figures.values(), workload))


@dataclass(frozen=True)
class CostPart:
    """Nodes that cost the same, and what one of them costs as expressions over its roles (`sizes`), the workload,
    formats and hardware: for who evaluates elsewhere, as the page of `archc show --html` does.

    Symbols beside the roles are those of a CostProgram: batch, context, input, prefill_chunk, `bytes.*`, `rate.*`, ...
    """

    group: Group
    figures: Mapping[str, Expr]


def cost_parts(costed: Costed) -> tuple[CostPart, ...]:
    """A graph's cost in parts, by the roofline; sums over their nodes are the figures of the cost sheet.

    What a node that refers to another's parameters would own is 0, as is the state of multi-token prediction."""
    return tuple(CostPart(group, dict(_part_figures(group))) for group in costed.groups)


def activation_bytes(costed: Costed) -> Expr:
    """Bytes of the largest live set of a call, over batch, input and prefill_chunk."""
    return _Builder(costed, None, {}, frozenset()).activation()


def _part_figures(group: Group) -> Iterator[tuple[str, Expr]]:
    cost, step = group.cost, _STEP
    yield "params", cost.params if group.owns else Num(0)
    yield "active", cost.active if group.owns else Num(0)
    yield "weights_bytes", cost.weight_bytes if group.owns else Num(0)
    for name in STATE_CLASSES:
        yield f"{name}_bytes", Num(0) if group.mtp else BATCH_SYM * getattr(cost, name)
    yield "decode_flops", BATCH_SYM * substitute(cost.flops, step)
    yield "prefill_flops", BATCH_SYM * substitute(cost.flops, _PROMPT)
    yield "moved_bytes", substitute(cost.bytes_moved, step)
    yield "decode_s", substitute(_call_s(cost, None), step)
    yield "prefill_s", _prefill_s(_call_s(cost, None))


def _prefill_s(call: Expr) -> Expr:
    """Seconds of as many mean calls as prefill takes: see `archc.ir.cost.prefill_calls`."""
    tokens = minimum(PREFILL_CHUNK, INPUT)
    sequences = minimum(BATCH_SYM, PREFILL_CHUNK / tokens)
    mean: dict[str, Operand] = {"batch": sequences, "tokens": tokens, "context": (INPUT + tokens) / 2, "logits": 1}
    return BATCH_SYM * INPUT / (tokens * sequences) * substitute(call, mean)


# One new token a sequence; a prompt at once, with logits of its last position.
_STEP: dict[str, Operand] = {"tokens": 1, "logits": 1}
_PROMPT: dict[str, Operand] = {"tokens": INPUT, "context": INPUT, "logits": 1}


def _check(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise UnknownName(kind, name, known)


@dataclass(frozen=True)
class _Builder:
    costed: Costed
    profile: HardwareProfile | None
    varying: Mapping[str, str]  # dim -> whose symbol it has
    droppable: frozenset[str]

    def figures(self) -> Iterator[tuple[str, Expr]]:
        """Every figure by name, in the order of the cost sheet."""
        yield "params_total", self.sum("params", self.owned(mtp=False))
        active = self.sum("active", self.owned(mtp=False))
        yield "params_active", active
        yield "params_active_without_embedding", active - self.sum("active", self.costed.looked_up)
        kept = [*self.owned(mtp=False), *(self.owned(mtp=True) if self.costed.mtp else ())]
        memory = [("weights_bytes", ceil(self.sum("weight_bytes", kept)))]
        memory += [(f"{name}_bytes", BATCH_SYM * ceil(self.sum(name, self.serving))) for name in STATE_CLASSES]
        yield from memory
        resident, activation = total(expr for _, expr in memory), self.activation()
        yield "resident_bytes", resident
        yield "activation_bytes", activation
        yield "peak_bytes", resident + activation + RESERVE
        flops = self.sum("flops", self.serving)
        yield "prefill_flops", ceil(BATCH_SYM * substitute(flops, _PROMPT))
        yield "decode_flops", BATCH_SYM * substitute(flops, _STEP)
        if self.profile is not None:
            yield "decode_s", substitute(self.seconds(self.profile, "decode"), _STEP)
            yield "prefill_s", _prefill_s(self.seconds(self.profile, "prefill"))

    # -- sums over nodes -----------------------------------------------------------------------------------------------

    def owned(self, *, mtp: bool) -> list[Node]:
        """Nodes with parameters of their own, in or outside multi-token prediction."""
        graph = self.costed.graph
        return [n for n in graph.nodes if not n.owner and graph.in_mtp(n) == mtp]

    @functools.cached_property
    def serving(self) -> list[Node]:
        """The nodes of a plain serving step."""
        return [n for n in self.costed.graph.nodes if not self.costed.graph.in_mtp(n)]

    def sum(self, name: str, nodes: Iterable[Node]) -> Expr:
        """The sum of one of the ops' expressions over nodes."""
        return self.gathered((n, getattr(self.costed.node_cost(n), name)) for n in nodes)

    def gathered(self, terms: Iterable[tuple[Node, Expr]]) -> Expr:
        """The sum of an op's expression for each node; what is the same for several stands there once, times how many
        of them are kept: a space of shared sizes is as quick with sixty layers as with one of each kind."""
        kept: dict[Expr, list[Expr]] = {}
        for node, expr in terms:
            kept.setdefault(self.of(node, expr), []).append(self.keep(node))
        return total(total(keeps) * expr for expr, keeps in kept.items())

    def keep(self, node: Node) -> Expr:
        """1, or the symbol that says whether the node's block is kept."""
        return Sym(f"keep.{node.block}") if node.block in self.droppable else Num(1)

    def of(self, node: Node, expr: Expr) -> Expr:
        """An op's expression with the node's dims in place of roles: symbols where they vary."""
        dims, varying = node.op.dims.items(), self.varying
        return substitute(expr, {role: Sym(varying[d.name]) if d.name in varying else d.size for role, d in dims})

    # -- figures that are no plain sums --------------------------------------------------------------------------------

    def activation(self) -> Expr:
        """The largest live set of a call; a dropped block has none."""
        tokens = maximum(minimum(BATCH_SYM * INPUT, PREFILL_CHUNK), BATCH_SYM)
        nodes = self.costed.graph.by_id
        kept: dict[Expr, list[Expr]] = {}
        for node, ids in live_values(self.costed.graph):
            parts = [(self.costed.node_cost(nodes[i]), self.output(nodes[i])) for i in ids]
            own = self.costed.node_cost(node)
            parts.append((own, self.of(node, own.inside)))
            elements = total(size * (BATCH_SYM if cost.at_logits else tokens) for cost, size in parts)
            kept.setdefault(elements, []).append(self.keep(node))
        each = (maximum(*keeps) * elements for elements, keeps in kept.items())
        return maximum(*(ceil(size * bytes_sym("activations")) for size in each))

    def output(self, node: Node) -> Expr:
        """Elements of a node's output for one position."""
        return self.of(node, self.costed.node_cost(node).output)

    def seconds(self, profile: HardwareProfile, mode: Mode) -> Expr:
        """Seconds of one call, over batch, tokens, context and logits."""
        fmt = self.costed.formats["weights"]
        laws = ((n, _call_s(self.costed.node_cost(n), profile.timing(fmt, mode, n.op.kind))) for n in self.serving)
        return self.gathered(laws)

    def defaults(self, figures: Iterable[Expr], workload: Workload) -> dict[str, Any]:
        """What the symbols of the figures stand for."""
        profile = self.profile
        known = {
            **{name: self.costed.graph.dims[name].size for name in self.varying.values()},
            **{f"keep.{block}": 1 for block in self.droppable},
            **self.costed.env,
            **(hardware_env(profile, self.costed.formats) if profile else {}),
            BATCH_SYM.name: workload.sequences,
            CONTEXT_SYM.name: workload.context,
            INPUT.name: workload.input,
            PREFILL_CHUNK.name: workload.prefill_chunk,
            RESERVE.name: profile.total_reserve_bytes if profile else 0,
        }
        return {name: known[name] for name in compile_expr(*figures).symbols}


_call_s = functools.cache(call_s)
