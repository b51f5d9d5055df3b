"""Tracing an op's maths to torch.fx, every node knowing the statement of the author's source that made it.

One trace serves training, prefill and decode: `m.state` is a placeholder that is None in training, and only
primitives, the leaves of the trace, look into it. A branch on the op's own fields is decided here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import fx
from torch.fx.proxy import GraphAppendingTracer

from archc.codegen.named import named
from archc.codegen.source import Statement, input_names, statement_at
from archc.ir.op import Op

# Files between an op's frame and the creation of a node: not the author's.
_MACHINERY = ("/torch/fx/", "/kernels/primitive.py", "/codegen/trace.py")

# Keys of node.meta: the Places from `forward` inwards that made the node, and what a helper calls it.
HOME, ALIAS = "home", "alias"


@dataclass(frozen=True)
class Place:
    """A statement as executed: `call` tells calls of the same function apart."""

    call: int
    statement: Statement


@dataclass(frozen=True)
class Trace:
    """The maths of one op: placeholders `inputs`, then `segments` and `state`; one output."""

    graph: fx.Graph
    inputs: tuple[str, ...]


def trace(op: Op, names: Mapping[str, Any] | None = None, *, stateful: bool = True) -> Trace:
    """Trace `op.forward`. Dims, derived sizes and numeric attributes are numbers named `self.<name>`, or as `names`
    says; parameters and constants are `get_attr` nodes; a tap that the op exposes is a `call_module`. The state is
    None where the op has none, and where `stateful` says that none is kept."""
    return _OpTracer(op, names or {}, stateful=stateful and any(True for _ in op.state())).trace()


class _OpTracer(GraphAppendingTracer):
    def __init__(self, op: Op, names: Mapping[str, Any], *, stateful: bool) -> None:
        super().__init__(fx.Graph())
        self.op, self.names, self.stateful = op, names, stateful
        self.calls: list[FrameType] = []

    def trace(self) -> Trace:
        inputs = input_names(type(self.op).forward.__code__)
        proxies: list[Any] = [self.create_proxy("placeholder", name, (), {}) for name in inputs]
        result: Any = self.op.forward(_Names(self), *proxies)
        self.graph.output(result.node)
        self.calls.clear()
        return Trace(self.graph, inputs)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Proxy:
        made = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        if kind not in ("placeholder", "get_attr"):
            made.node.meta[HOME] = self.places()
        return made

    def places(self) -> tuple[Place, ...]:
        """The author's statements being executed, from `forward` inwards."""
        frames: list[FrameType] = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code is not _OpTracer.trace.__code__:
            if not any(part in frame.f_code.co_filename for part in _MACHINERY):
                frames.append(frame)
            frame = frame.f_back
        for inner in frames[:-1]:
            _note_parameters(inner)
        return tuple(Place(self.call(f), statement_at(f.f_code, f.f_lineno)) for f in reversed(frames))

    def call(self, frame: FrameType) -> int:
        """Number of the call that a frame belongs to; frames are held until the end, so none is mistaken."""
        for number, known in enumerate(self.calls):
            if known is frame:
                return number
        self.calls.append(frame)
        return len(self.calls) - 1


def _note_parameters(frame: FrameType) -> None:
    """Note what a helper calls the values it was given: a name for those that have no other."""
    code = frame.f_code
    for name in code.co_varnames[: code.co_argcount]:
        value = frame.f_locals.get(name)
        if isinstance(value, fx.Proxy):
            value.node.meta.setdefault(ALIAS, name)


class _Names:
    """What `forward` sees as `m` while it is traced."""

    def __init__(self, tracer: _OpTracer) -> None:
        op = tracer.op
        sizes = {role: d.size for role, d in op.dims.items()} | {k: axis.size for k, axis in op.derived().items()}
        known = {name: named(value, f"self.{name}") for name, value in {**op.attributes, **sizes}.items()}
        for name in sizes:
            known[name].is_size = True
        self._tracer, self._known = tracer, {**known, **dict.fromkeys(op.optional), **tracer.names}
        self._nodes = {p.name for p in op.params()} | {name for c in op.constants() for name in c.names}
        self._made: dict[str, fx.Proxy] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "state" and not self._tracer.stateful:
            return None
        if name in ("segments", "state"):
            return self._once(name, "placeholder")
        if name in self._nodes:
            return self._once(name, "get_attr")
        if name in self._known:
            return self._known[name]
        raise AttributeError(f"{self._tracer.op.kind} declares no `{name}`")

    def _once(self, name: str, kind: str) -> fx.Proxy:
        if name not in self._made:
            # GraphAppendingTracer has no root module, so the attribute need not exist: only its name is printed.
            self._made[name] = fx.Proxy(self._tracer.graph.create_node(kind, name), self._tracer)
        return self._made[name]

    def tap(self, name: str, value: Any, *axes: Any, fill: float = 0.0) -> Any:
        """See `Maths.tap`: the value itself, through a module of that name where the op exposes it."""
        exposed = self._tracer.op.exposes.get(name)
        if exposed is None or value is None:
            return value
        return self._tracer.create_proxy("call_module", exposed, (value,), {})

    def probe(self, *args: Any, **kwargs: Any) -> None:
        """See `Maths.probe`: emitted code has no estimators."""
