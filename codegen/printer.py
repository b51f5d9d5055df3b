"""Printing a trace as the straight-line code that its author wrote.

Nodes made within one statement print as one expression; values that the author named keep their names and shape
comments; what nobody uses vanishes. A node that no author's statement made (a rewrite inserted it) is named after
its primitive's results.
"""

from __future__ import annotations

import inspect
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from archc.codegen.layout import wrapped
from archc.codegen.named import ATOM, POWER, SUM, TERM, Named, binary
from archc.codegen.source import Statement
from archc.codegen.trace import ALIAS, HOME, Place, Trace
from archc.kernels.primitive import primitives, results, source_function

_OPERATORS: dict[Callable[..., Any], tuple[str, int]] = {
    operator.add: ("+", SUM),
    operator.sub: ("-", SUM),
    operator.mul: ("*", TERM),
    operator.truediv: ("/", TERM),
    operator.floordiv: ("//", TERM),
    operator.mod: ("%", TERM),
    operator.matmul: ("@", TERM),
    operator.pow: ("**", POWER),
}
_COMPARISONS = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "=="}
_UNARY = {operator.neg: "-", operator.invert: "~"}


@dataclass
class Line:
    """One printed statement: `targets = value`, or `return value`."""

    targets: tuple[str, ...]
    value: str
    above: tuple[str, ...] = ()
    beside: str = ""


@dataclass
class _Group:
    """The nodes of one statement of the source, in order; the last is its value, before any unpacking."""

    place: Place | None
    nodes: list[fx.Node] = field(default_factory=list)

    @property
    def unpacked(self) -> list[fx.Node]:
        """The trailing `getitem`s that an unpacking made."""
        last = self.nodes[-1]
        if not _is_item(last) or (self.place is not None and not self.place.statement.unpacks):
            return []
        return [n for n in self.nodes if _is_item(n) and n.args[0] is last.args[0]]

    @property
    def root(self) -> fx.Node:
        """The node whose value is bound, or unpacked."""
        unpacked = self.unpacked
        return unpacked[0].all_input_nodes[0] if unpacked else self.nodes[-1]


def body(trace: Trace, *, rename: dict[str, str] | None = None) -> list[Line]:
    """The statements of a trace; `rename` maps placeholders and attributes to the code that stands for them."""
    return _Printer(trace, rename or {}).lines()


def expression(trace: Trace, rename: dict[str, str]) -> tuple[str, int] | None:
    """A trace as one expression and how tightly it binds; None where it takes several statements."""
    printer = _Printer(trace, rename)
    return printer.value(printer.output) if len(printer.lines()) == 1 else None


def render(lines: Iterable[Line], indent: str) -> str:
    """Lines as source text, comments included."""
    found: list[str] = []
    for line in lines:
        start = f"{', '.join(line.targets)} = " if line.targets else "return "
        found += [f"{indent}# {comment}" for comment in line.above]
        found += wrapped(start + line.value, indent, line.beside)
    return "\n".join(found)


class _Printer:
    def __init__(self, trace: Trace, rename: dict[str, str]) -> None:
        self.graph, self.rename = trace.graph, rename
        self.output: fx.Node = next(iter(self.graph.find_nodes(op="output"))).args[0]
        self.live = _live(self.output)
        self.groups = self._grouped()
        self.names: dict[fx.Node, str] = {}
        self.group_of = {node: group for group in self.groups for node in group.nodes}

    def lines(self) -> list[Line]:
        found: list[Line] = []
        for number, group in enumerate(self.groups):
            found += self._statement(group, number)
        if self.output in self.names or self.output not in self.group_of:
            found.append(Line((), self.code(self.output)))
        return _returned_directly(found)

    # -- statements -------------------------------------------------------------------------------------------------

    def _grouped(self) -> list[_Group]:
        """Live computed nodes by the statement they belong to, in order of the statements' ends.

        A value inside a statement that is needed elsewhere too becomes a statement of its own, before."""
        groups: dict[Any, _Group] = {}
        for node in self.graph.nodes:
            if node in self.live and node.op in ("call_function", "call_method", "call_module"):
                groups.setdefault(_key(node), _Group(_home(node))).nodes.append(node)
        whole = {node: group for group in groups.values() for node in group.nodes}
        alone = [_Group(None, [n]) for n, group in whole.items() if self._shared(n, group, whole)]
        taken = {n for group in alone for n in group.nodes}
        for group in groups.values():
            group.nodes = [n for n in group.nodes if n not in taken]
        order = {node: i for i, node in enumerate(self.graph.nodes)}
        return sorted([*groups.values(), *alone], key=lambda g: order[g.nodes[-1]])

    def _statement(self, group: _Group, number: int) -> Iterator[Line]:
        statement = group.place.statement if group.place is not None else Statement("", 0)
        unpacked, root = group.unpacked, group.root
        if statement.returns and root is self.output:
            yield Line((), self.code(root), statement.above, statement.beside)
        elif unpacked:
            items = {int(n.args[1]): n for n in unpacked}  # type: ignore[arg-type]
            value = self.code(root)
            wanted = statement.targets or results(root.target)  # type: ignore[arg-type]
            targets = tuple(self._bind(items[i], name, number) if i in items else "_" for i, name in enumerate(wanted))
            yield Line(targets, value, statement.above, statement.beside)
        else:
            name = statement.targets[0] if len(statement.targets) == 1 else _own_name(root)
            value = self.code(root)
            yield Line((self._bind(root, name, number),), value, statement.above, statement.beside)

    def _shared(self, node: fx.Node, group: _Group, whole: Mapping[fx.Node, _Group]) -> bool:
        """Whether a value inside an expression is needed more than once, or by another statement."""
        if node is group.root or node in group.unpacked or node.target is getattr:
            return False
        users = [u for u in node.users if u in self.live]
        return len(users) > 1 or any(whole.get(u) is not group for u in users)

    def _bind(self, node: fx.Node, wanted: str, number: int) -> str:
        """Name a value: as wanted, unless a value of that name is still needed after this statement."""
        name, again = wanted, 2
        while self._taken(name, number):
            name, again = f"{wanted}{again}", again + 1
        self.names[node] = name
        return name

    def _taken(self, name: str, number: int) -> bool:
        if name in primitives():
            return True
        holders = [n for n in self._all_named() if self._name(n) == name]
        if not holders:
            return False
        later = {n for g in self.groups[number + 1 :] for n in g.nodes}
        return any(u in later or u.op == "output" for u in holders[-1].users if u in self.live or u.op == "output")

    def _all_named(self) -> list[fx.Node]:
        placeholders = [n for n in self.graph.nodes if n.op == "placeholder"]
        return [*placeholders, *self.names]

    def _name(self, node: fx.Node) -> str:
        if node.op == "placeholder":
            return self.rename.get(str(node.target), str(node.target))
        return self.names[node]

    # -- expressions ------------------------------------------------------------------------------------------------

    def code(self, value: Any, *, fresh: bool = False) -> str:
        """Source of a value; a named node prints as its name unless `fresh`."""
        return self.value(value, fresh=fresh)[0]

    def value(self, value: Any, *, fresh: bool = False) -> tuple[str, int]:
        if isinstance(value, Named):
            return value.code, value.binds
        if not isinstance(value, fx.Node):
            return self._literal(value), ATOM
        if value.op == "placeholder" or (value in self.names and not fresh):
            return self._name(value), ATOM
        if value.op == "get_attr":
            return self.rename.get(str(value.target), f"self.{value.target}"), ATOM
        return self._call(value)

    def _literal(self, value: Any) -> str:
        if isinstance(value, slice):
            parts = ["" if p is None else self.code(p) for p in (value.start, value.stop)]
            return f"{parts[0]} : {parts[1]}" if all(parts) else f"{parts[0]}:{parts[1]}"
        if isinstance(value, tuple):
            inside = ", ".join(self.code(v) for v in value)
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if isinstance(value, list):
            return "[" + ", ".join(self.code(v) for v in value) + "]"
        if value is Ellipsis:
            return "..."
        if isinstance(value, str):
            return json.dumps(value)
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            return f'float("{value}")'
        module = getattr(value, "__module__", None)
        return str(value) if module != "builtins" or not hasattr(value, "__name__") else value.__name__

    def _call(self, node: fx.Node) -> tuple[str, int]:
        if node.op == "call_module":
            return f"self.{node.target}({self.code(node.args[0])})", ATOM
        if node.op == "call_method":
            return f"{self._operand(node.args[0])}.{node.target}({self._arguments(node.args[1:], node.kwargs)})", ATOM
        target: Any = node.target
        if target is getattr:
            return f"{self._operand(node.args[0])}.{node.args[1]}", ATOM
        if target is operator.getitem:
            return f"{self._operand(node.args[0])}[{self._index(node.args[1])}]", ATOM
        if target in _OPERATORS:
            symbol, binds = _OPERATORS[target]
            return binary(symbol, binds, *self.value(node.args[0]), *self.value(node.args[1])), binds
        if target in _COMPARISONS:
            left, right = (self._operand(a) for a in node.args)
            return f"{left} {_COMPARISONS[target]} {right}", 0
        if target in _UNARY:
            return _UNARY[target] + self._operand(node.args[0]), POWER
        return f"{function_name(target)}({self._arguments(*_given(node))})", ATOM

    def _operand(self, value: Any) -> str:
        code, binds = self.value(value)
        return code if binds == ATOM else f"({code})"

    def _index(self, index: Any) -> str:
        return ", ".join(self.code(i) for i in index) if isinstance(index, tuple) else self.code(index)

    def _arguments(self, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        return ", ".join([*_starred(args, self.code), *(f"{k}={self.code(v)}" for k, v in kwargs.items())])


def _returned_directly(lines: list[Line]) -> list[Line]:
    """`y = f(x); return y` as `return f(x)`."""
    last = lines[-2:]
    if len(last) < 2 or last[0].targets != (last[1].value,):
        return lines
    return [*lines[:-2], Line((), last[0].value, (*last[0].above, *last[1].above), last[0].beside or last[1].beside)]


def _starred(args: Sequence[Any], code: Callable[[Any], str]) -> list[str]:
    """Positional arguments; all items of a named tuple in a row as `*self.limits`."""
    printed = [code(a) for a in args]
    for i, arg in enumerate(args):
        name, length = getattr(arg, "whole", None) or ("", 0)
        if name and printed[i : i + length] == [f"{name}[{n}]" for n in range(length)]:
            return [*printed[:i], f"*{name}", *_starred(args[i + length :], code)]
    return printed


def function_name(target: Callable[..., Any]) -> str:
    """How emitted code calls a function: a primitive by its name, one of torch by its path."""
    name = getattr(target, "__name__", str(target))
    return name if is_primitive(target) else f"torch.{name}"


def is_primitive(target: Any) -> bool:
    """Whether a node's target is a registered primitive."""
    return primitives().get(getattr(target, "__name__", "")) is target


def _given(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call without those that repeat the function's defaults."""
    target: Any = node.target
    if not is_primitive(target):
        return node.args, dict(node.kwargs)
    parameters = list(inspect.signature(source_function(target)).parameters.values())
    args = list(node.args)
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][: len(args)]
    while len(args) == len(positional) and args and _repeats(args[-1], positional[-1].default):
        args.pop()
        positional.pop()
    defaults = {p.name: p.default for p in parameters}
    missing = inspect.Parameter.empty
    return tuple(args), {k: v for k, v in node.kwargs.items() if not _repeats(v, defaults.get(k, missing))}


def _repeats(value: Any, default: Any) -> bool:
    if isinstance(value, fx.Node) or default is inspect.Parameter.empty or getattr(value, "is_size", False):
        return False
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)


def _live(output: fx.Node) -> set[fx.Node]:
    found, todo = set(), [output]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += node.all_input_nodes
    return found


def _home(node: fx.Node) -> Place | None:
    """The statement that a node belongs to: what a helper returns belongs to the statement that called it."""
    places: tuple[Place, ...] = node.meta.get(HOME, ())
    for place in reversed(places[1:]):
        if not place.statement.returns:
            return place
    return places[0] if places else None


def _key(node: fx.Node) -> Any:
    """What the nodes of one statement share; a value without a home shares it with those that unpack it."""
    place = _home(node)
    if place is not None:
        return place.call, place.statement.line
    source = node.all_input_nodes[0] if _is_item(node) else None
    unpacks = source is not None and _home(source) is None and callable(source.target) and results(source.target)
    return source if unpacks else node


def _own_name(node: fx.Node) -> str:
    """A name for a value that its author did not name: what a helper calls it, or its primitive's result."""
    named = results(node.target) if callable(node.target) else ()
    return named[0] if len(named) == 1 else str(node.meta.get(ALIAS, "value"))


def _is_item(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is operator.getitem
