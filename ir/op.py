"""What an op is: one class, one file, and everything archc knows about a block.

A concrete op is a frozen dataclass made by `@op("kind")`. Its fields are Dims (roles) and attributes (numbers,
strings, booleans, None, tuples of those, or frozen records). It declares its parameters, state, products and
maths once; shapes, counts, FLOPs, slices, text, emitted code and pictures derive from that. No op contains
another, and nobody else asks what kind an op is.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from archc.ir.dims import FREE_BATCH, FREE_TOKENS, Axis, Concat, Dim, Product
from archc.ir.expr import Expr, Num, Sym
from archc.kernels.errors import GraphError, UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.selection import Selections

T = TypeVar("T", bound="Op")

# Symbols of a workload, beside an op's own dims, in which costs are expressed (per sequence).
BATCH_SYM = Sym("batch")
TOKENS_SYM = Sym("tokens")  # new tokens of this call, per sequence
CONTEXT_SYM = Sym("context")  # tokens of the sequence so far, the new ones included
LOGITS_SYM = Sym("logits")  # positions whose logits are computed: all in training, the last when serving


@dataclass(frozen=True)
class Init:
    """How a parameter starts: a rule of `archc.ir.init` and its numbers."""

    rule: str
    args: tuple[float, ...] = ()


ZEROS, ONES = Init("zeros"), Init("ones")


@dataclass(frozen=True)
class Param:
    """A logical tensor of an op.

    `contracts` is the axis that a matrix product (or convolution) with this parameter sums over; None for a
    parameter that is looked up or applied elementwise. `share` is the part of the parameter that one token
    meets (top_k / experts for routed experts). `trained` is False for buffers that gradients do not reach.
    `positions` counts the tokens that meet it: every token, or only those whose logits are wanted.
    """

    name: str
    axes: tuple[Axis, ...]
    init: Init
    contracts: Axis | None = None
    share: Expr = field(default_factory=lambda: Num(1))
    trained: bool = True
    positions: Expr = TOKENS_SYM
    lookup: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(a.size for a in self.axes)


@dataclass(frozen=True)
class Constant:
    """Tables computed from attributes, neither counted nor stored (rotary frequencies).

    `primitive` names the primitive that computes them, one result a name, from the keyword arguments `args`.
    """

    names: tuple[str, ...]
    primitive: str
    args: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class State:
    """What a sequence carries from one call to the next.

    `shape` is per sequence (per stored token when `stored_tokens` is given), entries are axes or expressions
    over roles; `format_class` (kv, ssm, conv) says which format of the workload it takes.
    """

    name: str
    shape: tuple[Axis | Expr, ...]
    format_class: str
    stored_tokens: Expr | None = None
    rewindable: bool = False


@dataclass(frozen=True)
class Contraction:
    """A product between values (attention scores, SSD chunks): FLOPs per sequence, 2 per multiply-add."""

    name: str
    flops: Expr
    contracts: tuple[Dim, ...]


@dataclass(frozen=True)
class Value:
    """A value computed inside an op: elements per token, for activation memory and traffic."""

    name: str
    elements: Expr


class Maths(Protocol):
    """What `Op.forward` sees as `m`: parameters as tensors, dims, derived sizes and numeric attributes by name.

    A name read from `m` is printed by name in emitted code; a branch on `self` is decided when tracing.
    """

    segments: Any
    state: Any

    def __getattr__(self, name: str) -> Any: ...

    def tap(self, name: str, value: Tensor, *axes: Axis, fill: float = 0.0) -> Tensor:
        """Declare `value` under `name`, its trailing axes laid out as `axes`: estimators read or mask it there.

        A masked unit reads as `fill`. None passes through."""
        ...

    def probe(self, name: str, value: Callable[[], Tensor], *axes: Axis, at: Tensor | None = None) -> None:
        """Declare a value that only estimators read, its trailing axes laid out as `axes`; nothing is masked there.

        `value` is computed when it is read, at once or never. With `at`, indices [..., K], the value is [..., K, *]:
        of the first of `axes` only the units `at` are there, all others are zero."""
        ...


class DimMaker:
    """Makes the dims of one node: `d("d_ff", 4096)` is the Dim `<node id>.d_ff`, or a shared one by role."""

    def __init__(self, node_id: str, shared: Mapping[str, Dim]) -> None:
        self.node_id, self.shared = node_id, shared

    def __call__(self, role: str, size: int = 0, *, within: Dim | None = None, order: str = "free") -> Dim:
        if role in self.shared:
            return self.shared[role]
        return Dim(f"{self.node_id}.{role}", size, within, order)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Op:
    """Base of every op: what the rest of archc may ask of it."""

    kind: ClassVar[str]
    # The letter of layer patterns, where the field has one; else the initial of the kind.
    letter: ClassVar[str] = ""
    # Parameters that only some variants have; the maths reads None where this one lacks them.
    optional: ClassVar[frozenset[str]] = frozenset()
    # Taps that emitted modules offer by name, as the module `<name>`: what training wants to watch (router logits).
    exposes: ClassVar[Mapping[str, str]] = {}
    # Where the activations of a dim's units are, by role: a tap or probe, "" for the output. Else the first tap of it.
    scored: ClassVar[Mapping[str, str]] = {}
    # Role of the dim whose units each token chooses among (experts): they may lie on several devices, see `spread`.
    spreads: ClassVar[str] = ""
    # The fields a spec gives for this op (a frozen dataclass), None for ops that only the builder makes.
    Fields: ClassVar[Any] = None
    # Small field sets that the op contract runs, the first two at different widths of the stream: no two dims equal,
    # groups and choices above one.
    Examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {})

    def params(self) -> Iterator[Param]:
        """The parameters, in the order they are printed and stored."""
        return iter(())

    def constants(self) -> Iterator[Constant]:
        """Tables computed from attributes."""
        return iter(())

    def state(self) -> Iterator[State]:
        """What a sequence carries between calls."""
        return iter(())

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        """The axes of each input value."""
        raise NotImplementedError

    def output(self) -> tuple[Axis, ...]:
        """The axes of the output value."""
        raise NotImplementedError

    def derived(self) -> Mapping[str, Axis]:
        """Named sizes that the maths uses beside the dims (d_inner, n_heads)."""
        return {}

    def contractions(self) -> Iterator[Contraction]:
        """Products between values; those with parameters follow from `Param.contracts`."""
        return iter(())

    def values(self) -> Iterator[Value]:
        """Values computed inside, for activation memory and traffic; inputs and outputs not included."""
        return iter(())

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        """The maths, in torch over primitives: straight-line code, traced and executed alike."""
        raise NotImplementedError

    @property
    def exact(self) -> frozenset[str]:
        """Roles of dims whose pruning equals masking exactly (masked units leave no trace in the result)."""
        return frozenset()

    def spread(self, first: int) -> Self:
        """The same op, all weights of what `spreads` names over a dim `held` of their own, which may then be cut.

        What is kept of it is to be the units from `first` on. The choice is still made among all of them."""
        raise NotImplementedError

    @property
    def streams(self) -> bool:
        """Whether a sequence may be fed piece by piece with the same result: False for what looks ahead."""
        return True

    @property
    def summary(self) -> str:
        """What this variant does, in a sentence: the docstring of the emitted class."""
        return " ".join((type(self).__doc__ or type(self).__name__).partition("\n\n")[0].split())

    @property
    def class_name(self) -> str:
        """Name of the emitted class."""
        return type(self).__name__

    @classmethod
    def usual_letter(cls) -> str:
        """The letter that stands for this kind of block in layer patterns."""
        return cls.letter or cls.kind[0].upper()

    @classmethod
    def make(cls, fields: Any, d: DimMaker) -> Self:
        """The op that a spec's `fields` describe."""
        raise NotImplementedError

    @classmethod
    def examples(cls) -> Iterator[Self]:
        """Small instances by `Examples`, as the op contract runs them."""
        for i, given in enumerate(cls.Examples):
            shared = {"d_model": Dim("d_model", (28, 34)[i % 2]), "vocab": Dim("vocab", (41, 53)[i % 2], order="fixed")}
            if cls.Fields is not None:
                yield cls.make(cls.Fields(**given), DimMaker("op", shared))
            else:
                roles = {role: shared[role] for role in field_types(cls) if role in shared}
                yield cls(**roles, **given)

    @classmethod
    def check(cls, fields: Any) -> Iterator[tuple[str, str, str]]:
        """Broken rules between fields: (field, message, hint)."""
        return iter(())

    def fields(self) -> Any:
        """The spec fields that make this op: inverse of `make`."""
        raise NotImplementedError

    # -- derived, written once -----------------------------------------------------------------------------------

    @functools.cached_property
    def dims(self) -> Mapping[str, Dim]:
        """The dims by role."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {role: d for role, d in found.items() if isinstance(d, Dim)}

    @functools.cached_property
    def attributes(self) -> Mapping[str, Any]:
        """The fields that are not dims."""
        types = field_types(type(self))
        return {name: getattr(self, name) for name, kind in types.items() if Dim not in _choices(kind)}

    def with_dims(self, change: Callable[[Dim], Dim]) -> Self:
        """The same op with every dim replaced."""
        return dataclasses.replace(self, **{role: change(d) for role, d in self.dims.items()})

    @property
    def input_products(self) -> tuple[Param, ...]:
        """The parameters, contracted along their last axis, that are all the only input meets: a gain on it can be
        theirs. None where the input is used otherwise as well: an op that does so and has such parameters says so here.
        """
        inputs = self.inputs()
        last = inputs[0][-1]
        return tuple(p for p in self.params() if len(inputs) == 1 and p.contracts == last and p.axes[-1] == last)

    def selected(self, chosen: Selections, *, as_zeroed: bool = False) -> tuple[Self, Mapping[str, float]]:
        """The op with units of its dims kept as chosen, and factors on parameters that keep its function by name.

        Norms take their statistics over the kept units; `as_zeroed` makes them give what they gave where the others
        are zero. Raises GraphError where no factor does that."""
        return self.with_dims(chosen.resized), {}

    def expr(self, axis: Axis) -> Expr:
        """The size of an axis as an expression over roles."""
        if isinstance(axis, Concat):
            return functools.reduce(lambda a, b: a + b, (self.expr(p) for _, p in axis.parts))
        if isinstance(axis, Product):
            return product(self.expr(p) for p in axis.parts)
        return Sym(self._roles[axis.name])

    @functools.cached_property
    def _roles(self) -> Mapping[str, str]:
        return {d.name: role for role, d in self.dims.items()}

    def elements(self, param: Param) -> Expr:
        """Elements of a parameter as an expression over roles."""
        return product(self.expr(a) for a in param.axes)

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """What two ops must share to have the same cost expressions and, up to sizes, the same maths."""
        return (self.kind, tuple(self.dims), tuple(self.attributes.items()))

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the dims in role order."""
        return tuple(d.size for d in self.dims.values())

    def param(self, name: str) -> Param:
        """The parameter of that name."""
        for p in self.params():
            if p.name == name:
                return p
        raise UnknownName(f"parameter of {self.kind}", name, [p.name for p in self.params()])


def product(factors: Iterable[Expr]) -> Expr:
    """The product of expressions; 1 of none."""
    one: Expr = Num(1)
    return functools.reduce(lambda a, b: a * b, factors, one)


def stream(d_model: Axis) -> tuple[Axis, ...]:
    """Axes of a value on the residual stream: [batch, tokens, d_model]."""
    return (FREE_BATCH, FREE_TOKENS, d_model)


# -- registry --------------------------------------------------------------------------------------------------------

_OPS: dict[str, type[Op]] = {}


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def op(kind: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: makes the class a frozen dataclass and registers it under `kind`."""

    def register(cls: type[T]) -> type[T]:
        if kind in _OPS:
            raise GraphError(f"op `{kind}` is registered twice: {_OPS[kind].__module__} and {cls.__module__}")
        cls.kind = kind
        made = dataclass(frozen=True, kw_only=True)(cls)
        _OPS[kind] = made
        return made

    return register


def registered_ops() -> tuple[type[Op], ...]:
    """Every registered op, in order of registration."""
    import archc.ir.ops  # noqa: F401  (registers the built-in ops)

    return tuple(_OPS.values())


def op_class(kind: str) -> type[Op]:
    """The op registered under `kind`; raises UnknownName with a suggestion."""
    by_kind = {cls.kind: cls for cls in registered_ops()}
    if kind not in by_kind:
        raise UnknownName("op", kind, by_kind)
    return by_kind[kind]


def field_types(cls: Any) -> Mapping[str, Any]:
    """The resolved annotations of a dataclass's fields."""
    return _field_types(cls)


@functools.cache
def _field_types(cls: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _choices(annotation: Any) -> Sequence[Any]:
    args = typing.get_args(annotation)
    return args if args and typing.get_origin(annotation) is not typing.ClassVar else (annotation,)


def record_type(annotation: Any) -> type[Any] | None:
    """The record (frozen dataclass that is not a Dim) that a field of this annotation may hold."""
    for choice in _choices(annotation):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice) and choice is not Dim:
            return choice
    return None


def all_dims(ops: Iterable[Op]) -> dict[str, Dim]:
    """Every dim of the ops, outer dims first, by name.

    Raises GraphError when two dims of one name disagree."""
    found: dict[str, Dim] = {}
    for one in ops:
        for d in one.dims.values():
            for dim in (*d.outer, d):
                known = found.setdefault(dim.name, dim)
                if known is not dim and known != dim:
                    raise GraphError(f"dim `{dim.name}` stands for two things: {describe(known)} and {describe(dim)}")
    return found


def describe(dim: Dim) -> str:
    """`name[size]` with what it lies within and its order."""
    within = f" within {dim.within.name}" if dim.within else ""
    return f"{dim.name}[{dim.size}]{within}" + (f" {dim.order}" if dim.order != "free" else "")
