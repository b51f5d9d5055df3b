"""What one op costs, as expressions over its roles, the workload and formats; written once for every op.

Symbols beside the roles: `batch`, `tokens` (new ones of this call, per sequence), `context` (of the sequence so far,
the new ones included), `logits` (positions whose logits are wanted, per sequence); `bytes.<class or format>` is the
bytes of one element and `rate.<class or format>` the FLOP/s of products, for the classes weights, kv, ssm, conv and
activations and for every format that some parameter has as its own.

Ops with the same key have the same expressions, so these are built once a kind and not once a layer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archc.ir.dims import Axis, Concat, Dim
from archc.ir.expr import Expr, Num, Program, Sym, compile_expr, minimum, total
from archc.ir.op import BATCH_SYM, LOGITS_SYM, TOKENS_SYM, Op, Param, State
from archc.kernels.errors import GraphError

STATE_CLASSES = ("kv", "ssm", "conv")
FORMAT_CLASSES = ("weights", *STATE_CLASSES, "activations")

ParamFormats = tuple[tuple[str, str], ...]


def bytes_sym(name: str) -> Sym:
    """Bytes of one element of a format class, or of a format."""
    return Sym(f"bytes.{name}")


def rate_sym(name: str) -> Sym:
    """FLOP/s of matrix products in a format class, or in a format."""
    return Sym(f"rate.{name}")


@dataclass(frozen=True)
class OpCost:
    """Costs of one op.

    `params` counts elements; `active` those that one token meets. `weight_bytes` is what is stored; `kv`, `ssm` and
    `conv` are bytes of state of one sequence at `context`. FLOPs are of one sequence, 2 per multiply-add:
    `weight_flops` of matrix products and convolutions with parameters, `value_flops` of those between values. Of one
    call on the whole batch: `compute_s` is the time of its products at the hardware's rates, `weights_moved`,
    `state_moved` and `activations_moved` are bytes, and `elementwise` counts elements computed outside of products.
    `tables` counts the constant tables it applies (rotary frequencies), each with small kernels whatever the sizes.
    `output` and `inside` are elements of the result, and of the values computed on the way, for one position: a new
    token, or for ops `at_logits` a position whose logits are wanted.
    """

    params: Expr
    active: Expr
    weight_bytes: Expr
    kv: Expr
    ssm: Expr
    conv: Expr
    weight_flops: Expr
    value_flops: Expr
    elementwise: Expr
    compute_s: Expr
    weights_moved: Expr
    state_moved: Expr
    activations_moved: Expr
    tables: Expr
    output: Expr
    inside: Expr
    at_logits: bool
    reduces: bool

    @functools.cached_property
    def flops(self) -> Expr:
        """FLOPs of one sequence."""
        return self.weight_flops + self.value_flops

    @functools.cached_property
    def bytes_moved(self) -> Expr:
        """Bytes that one call on the batch moves."""
        return self.weights_moved + self.state_moved + self.activations_moved

    def evaluate(self, env: Mapping[str, Any], *names: str) -> list[Any]:
        """The values of the named expressions."""
        return _compiled(*(getattr(self, name) for name in names))(env)


_compiled: Callable[..., Program] = functools.cache(compile_expr)
_COSTS: dict[Any, OpCost] = {}


def op_cost(op: Op, formats: ParamFormats = ()) -> OpCost:
    """The cost expressions of an op whose parameters have these formats of their own."""
    key = (op.key, _links(op), formats)
    if key not in _COSTS:
        _COSTS[key] = _op_cost(op, dict(formats))
    return _COSTS[key]


def _links(op: Op) -> tuple[int, ...]:
    """Which roles stand for one and the same dim: such ops have expressions of their own."""
    names = [d.name for d in op.dims.values()]
    return tuple(names.index(name) for name in names)


def _op_cost(op: Op, formats: Mapping[str, str]) -> OpCost:
    params = tuple(op.params())
    stored = {p.name: bytes_sym(formats.get(p.name, "weights")) for p in params}
    state = {name: total(_state_bytes(op, s) for s in states) for name, states in _states(op).items()}
    positions = _positions(params)
    inside = total(v.elements for v in op.values())
    output = _elements(op, op.output())
    read = total(_elements(op, axes) for axes in op.inputs())
    return OpCost(
        params=total(op.elements(p) for p in params),
        active=total(op.elements(p) * p.share for p in params),
        weight_bytes=total(op.elements(p) * stored[p.name] for p in params),
        kv=state["kv"],
        ssm=state["ssm"],
        conv=state["conv"],
        weight_flops=total(flops for name, flops in product_flops(op).items() if name in stored),
        value_flops=total(c.flops for c in op.contractions()),
        elementwise=BATCH_SYM * positions * (inside + output),
        compute_s=BATCH_SYM * total(_times(op, formats)),
        weights_moved=total(_weights_moved(op, p) * stored[p.name] for p in params),
        state_moved=BATCH_SYM * total(_state_moved(op, s) for s in op.state()),
        # Inputs are read, the result written, values on the way written and read.
        activations_moved=BATCH_SYM * positions * (read + 2 * inside + output) * bytes_sym("activations"),
        tables=Num(sum(len(c.names) for c in op.constants())),
        output=output,
        inside=inside,
        at_logits=positions == LOGITS_SYM,
        reduces=any(_is_reduced(op, p) for p in params),
    )


def product_flops(op: Op) -> dict[str, Expr]:
    """FLOPs per sequence by product: 2 for every multiply-add, with a parameter or between values."""
    with_params = {p.name: 2 * op.elements(p) * p.share * p.positions for p in op.params() if p.contracts is not None}
    return {**with_params, **{c.name: c.flops for c in op.contractions()}}


def _times(op: Op, formats: Mapping[str, str]) -> Iterator[Expr]:
    """Seconds of each product for one sequence: with a parameter at its format's rate, else at the activations'."""
    own = {p.name: formats.get(p.name, "weights") for p in op.params()}
    for name, flops in product_flops(op).items():
        yield flops / rate_sym(own.get(name, "activations"))


def _positions(params: Iterable[Param]) -> Expr:
    """How many positions of a sequence an op works on: as many as its products do."""
    return next((p.positions for p in params if p.contracts is not None), TOKENS_SYM)


def _elements(op: Op, axes: Iterable[Axis]) -> Expr:
    """Elements of a value for one position."""
    sizes = [op.expr(a) for a in axes if not (isinstance(a, Dim) and a.free)]
    return _product(sizes)


def _product(factors: Iterable[Expr]) -> Expr:
    result: Expr = Num(1)
    for factor in factors:
        result = result * factor
    return result


# -- weights -----------------------------------------------------------------------------------------------------------


def _weights_moved(op: Op, param: Param) -> Expr:
    """Elements read in one call.

    A looked-up parameter gives a row a token. Of routed experts those are read that some token of the call chose:
    E * (1 - (1 - top_k/E)^n) are expected of n tokens that choose evenly and independently.
    """
    tokens = BATCH_SYM * param.positions
    if param.lookup:
        rows = op.expr(param.axes[0])
        return op.elements(param) / rows * minimum(tokens, rows)
    if param.share == Num(1):
        return op.elements(param)
    return op.elements(param) * (1 - (1 - param.share) ** tokens)


def _is_reduced(op: Op, param: Param) -> bool:
    """Whether the product sums over a dim of the op's own, which several devices share out: then they add up."""
    if param.contracts is None:
        return False
    shared = {d.name for axes in op.inputs() for axis in axes for d in _dims(axis)}
    return any(d.name not in shared and d.order != "fixed" for d in _dims(param.contracts))


def _dims(axis: Axis) -> Iterator[Dim]:
    if isinstance(axis, Concat):
        for _, part in axis.parts:
            yield from _dims(part)
    else:
        yield from axis.dims()


# -- state -------------------------------------------------------------------------------------------------------------


def _states(op: Op) -> dict[str, list[State]]:
    found: dict[str, list[State]] = {name: [] for name in STATE_CLASSES}
    for state in op.state():
        if state.format_class not in found:
            raise GraphError(f"state `{state.name}` of {op.kind}: `{state.format_class}` is none of {STATE_CLASSES}")
        found[state.format_class].append(state)
    return found


def _state_elements(op: Op, state: State) -> Expr:
    """Elements of a state per sequence, or per stored token."""
    sizes = [part if isinstance(part, Expr) else op.expr(part) for part in state.shape]
    return _product(sizes)


def _state_bytes(op: Op, state: State) -> Expr:
    stored = Num(1) if state.stored_tokens is None else state.stored_tokens
    return _state_elements(op, state) * stored * bytes_sym(state.format_class)


def _state_moved(op: Op, state: State) -> Expr:
    """Bytes read and written in one call, for one sequence: a summary whole, of stored tokens the new ones written."""
    each = _state_elements(op, state) * bytes_sym(state.format_class)
    if state.stored_tokens is None:
        return 2 * each
    return each * (state.stored_tokens + minimum(TOKENS_SYM, state.stored_tokens))
