"""One op as the source of one `nn.Module` class, and the arguments that make it.

Two ops with equal `ModuleSource` are instances of one class: sizes and numbers are arguments, never source.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archc.codegen.named import named, plain
from archc.codegen.printer import body, render
from archc.codegen.sizes import Sizes
from archc.codegen.trace import trace
from archc.ir.dims import Axis, Concat
from archc.ir.expr import Expr
from archc.ir.formats import get_format
from archc.ir.op import Constant, Op, Param, State
from archc.kernels.errors import GraphError

EXTRAS = ("segments", "state")  # placeholders of a trace beside its inputs


@dataclass(frozen=True)
class ModuleSource:
    """Everything that the source of a class depends on; `setup` is the body of `__init__`, `forward` is printed."""

    name: str
    doc: str
    arguments: tuple[tuple[str, str], ...]  # name and annotation
    setup: tuple[str, ...]
    inputs: tuple[str, ...]
    extras: tuple[str, ...]
    forward: str
    state: tuple[tuple[str, str], ...]  # name of each tensor of the LayerState, and the code that makes it
    rewindable: bool
    primitives: tuple[str, ...]


@dataclass(frozen=True)
class Module:
    """The class of an op and its arguments."""

    source: ModuleSource
    values: Mapping[str, Any]


def module(op: Op, formats: Mapping[str, str], *, stateful: bool = True) -> Module:
    """The class and arguments of an op; `formats` are the graph's formats by class (kv, ssm, conv).

    Where the model cannot be fed piece by piece nothing is `stateful`.
    """
    source = _source(_signature(op), _Same(op), tuple(sorted(formats.items())), stateful)
    return Module(source, {name: _value(op, name) for name, _ in source.arguments})


def _signature(op: Op) -> tuple[Any, ...]:
    return (type(op).__qualname__, op.kind, tuple(op.dims), tuple((k, repr(v)) for k, v in op.attributes.items()))


@dataclass(frozen=True)
class _Same:
    """An op that takes no part in comparison: the cache is keyed by what the source depends on."""

    op: Op = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=256)
def _source(signature: Any, same: _Same, formats: tuple[tuple[str, str], ...], stateful: bool) -> ModuleSource:
    return _Builder(same.op, dict(formats), stateful).source()


def constant_arguments(op: Op, constant: Constant) -> dict[str, Any]:
    """The arguments of a constant's primitive, without options that repeat its defaults."""
    parameters = inspect.signature(_primitive(constant)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {k: v for k, v in constant.args if v != defaults.get(k)}


def _primitive(constant: Constant) -> Any:
    import archc.kernels.reference as primitives

    return getattr(primitives, constant.primitive)


def _value(op: Op, name: str) -> Any:
    """The value of a constructor argument."""
    for constant in op.constants():
        given = constant_arguments(op, constant)
        if name in given and name not in op.dims:
            return given[name]
    return op.dims[name].size if name in op.dims else plain(op.attributes[name])


class _Builder:
    def __init__(self, op: Op, formats: Mapping[str, str], stateful: bool) -> None:
        numbers = {k: named(v, f"self.{k}") for k, v in op.attributes.items()}
        self.op, self.formats = dataclasses.replace(op, **numbers), formats
        self.traced = trace(self.op, stateful=stateful)
        self.lines = body(self.traced)
        self.forward = render(self.lines, " " * 8)
        self.params = tuple(op.params())
        everything = {name: f"self.{name}" for name in (*op.dims, *op.derived())}
        states = self.op.state() if stateful else ()
        self.state = tuple((s.name, self._zeros(s, Sizes(self.op, everything))) for s in states)
        self.read = set(re.findall(r"self\.(\w+)", " ".join([self.forward, *(code for _, code in self.state)])))
        self.needed = self._needed()

    def source(self) -> ModuleSource:
        op = self.op
        setup = tuple(self._setup())
        used = set(re.findall(r"(?<!\.)\b\w+", "\n".join(setup)))
        arguments = {role: "int" for role in op.dims if role in used}
        arguments |= {k: _annotation(v) for k, v in op.attributes.items() if f"self.{k} = {k}" in setup}
        for constant in op.constants():
            more = {k: _annotation(v) for k, v in constant_arguments(op, constant).items() if k not in op.dims}
            if clash := more.keys() & arguments.keys():
                raise GraphError(f"{op.kind}: constant argument `{min(clash)}` has the name of an attribute")
            arguments |= more
        placeholders = {str(n.target) for n in self.traced.graph.find_nodes(op="placeholder")}
        return ModuleSource(
            name=op.class_name,
            doc=op.summary,
            arguments=tuple(arguments.items()),
            setup=setup,
            inputs=self.traced.inputs,
            extras=tuple(e for e in EXTRAS if e in placeholders and re.search(rf"\b{e}\b", self.forward)),
            forward=self.forward,
            state=self.state,
            rewindable=all(s.rewindable for s in op.state()),
            primitives=self._primitives(setup),
        )

    def _primitives(self, setup: tuple[str, ...]) -> tuple[str, ...]:
        from archc.kernels.primitive import primitives

        called = set(re.findall(r"(?<![\w.])(\w+)\(", "\n".join([self.forward, *setup])))
        return tuple(sorted(called & primitives().keys()))

    # -- __init__ -----------------------------------------------------------------------------------------------------

    def _needed(self) -> dict[str, Axis]:
        """Derived sizes that the class uses, each after those it is made of."""
        derived = self.op.derived()
        sizes = Sizes(self.op, {**{role: role for role in self.op.dims}, **{name: f"@{name}" for name in derived}})
        shapes = [sizes.axis(axis) for p in self.params for axis in p.axes]
        wanted = self.read | set(re.findall(r"@(\w+)", " ".join(shapes)))
        earlier = dict(derived)
        for name in reversed(list(derived)):
            axis = earlier.pop(name)
            if name in wanted:
                wanted |= set(re.findall(r"@(\w+)", sizes.axis(axis, derived=earlier)))
        return {name: axis for name, axis in derived.items() if name in wanted}

    def _setup(self) -> Iterator[str]:
        op = self.op
        for name in (*op.dims, *op.attributes):
            if name in self.read and not any(p.name == name for p in self.params):
                yield f"self.{name} = {name}"
        names = {role: role for role in op.dims}
        names |= {name: f"self.{name}" if name in self.read else name for name in self.needed}
        sizes = Sizes(op, names)
        done: dict[str, Axis] = {}
        for name, axis in self.needed.items():
            yield f"{names[name]} = {sizes.axis(axis, derived=done)}"
            done[name] = axis
        for param in self.params:
            yield self._parameter(param, sizes)
        for constant in op.constants():
            yield from self._constant(constant)
        for exposed in op.exposes.values():
            if exposed in self.read:
                yield f"self.{exposed} = nn.Identity()  # to be tapped"

    def _parameter(self, param: Param, sizes: Sizes) -> str:
        shape = ", ".join(sizes.axis(axis, derived=self.needed) for axis in param.axes)
        if not param.trained:
            return f'self.register_buffer("{param.name}", torch.empty({shape}))'
        comment = f"  # [{', '.join(self._layout(param))}]" if _has_parts(param) or _is_in_by_out(param) else ""
        return f"self.{param.name} = nn.Parameter(torch.empty({shape})){comment}"

    def _layout(self, param: Param) -> list[str]:
        axes = [self._parts(axis) for axis in param.axes]
        return [*axes[:-2], f"{axes[-2]} in", f"{axes[-1]} out"] if _is_in_by_out(param) else axes

    def _parts(self, axis: Axis) -> str:
        if isinstance(axis, Concat):
            return " | ".join(name for name, _ in axis.parts)
        return str(self.op.expr(axis))

    def _constant(self, constant: Constant) -> Iterator[str]:
        """Tables, made on the CPU wherever the parameters are: load() sketches those on the meta device."""
        from torch import Tensor

        made = _primitive(constant)(**dict(constant.args))
        tables = {name for name, value in zip(constant.names, made, strict=True) if isinstance(value, Tensor)}
        targets = ", ".join(name if name in tables else f"self.{name}" for name in constant.names)
        given = ", ".join(f"{k}={k}" for k in constant_arguments(self.op, constant))
        yield 'with torch.device("cpu"):  # a table, made even where load() only sketches parameters'
        yield f"    {targets} = {constant.primitive}({given})"
        for name in sorted(tables):
            yield f'self.register_buffer("{name}", {name}, persistent=False)'

    # -- state --------------------------------------------------------------------------------------------------------

    def _zeros(self, state: State, sizes: Sizes) -> str:
        symbols = {"context": "max_context", "batch": "batch_size"}
        shape = ["batch_size"]
        if state.stored_tokens is not None:
            shape.append(sizes.expression(state.stored_tokens, symbols))
        for part in state.shape:
            shape.append(sizes.expression(part, symbols) if isinstance(part, Expr) else sizes.axis(part))
        weight = f"self.{self.params[0].name}"
        if state.format_class in self.formats:
            shape.append(f"dtype=torch.{get_format(self.formats[state.format_class]).torch_dtype}")
        elif state.format_class == "ssm":
            shape.append(f"dtype=torch.promote_types({weight}.dtype, torch.float32)")
        return f"{weight}.new_zeros({', '.join(shape)})"


def _has_parts(param: Param) -> bool:
    return any(isinstance(axis, Concat) for axis in param.axes)


def _is_in_by_out(param: Param) -> bool:
    """Whether a matrix lies the other way than those that `linear` takes: its last axis is not what it sums over."""
    return len(param.axes) > 1 and param.axes[-1] != param.contracts == param.axes[-2]


def _annotation(value: Any) -> str:
    if isinstance(value, dict):
        return "dict[str, Any]"
    if isinstance(value, (tuple, list)):
        return "list[float]"
    return "int" if isinstance(value, int) else "float" if isinstance(value, float) else type(value).__name__
