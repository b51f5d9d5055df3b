"""What a primitive is: a torch function that is a leaf of every trace.

A primitive owns the loops and the control flow on length; op maths is straight-line code over primitives.
Its reference implementation uses torch and other primitives only, because codegen copies its source,
without this decorator, into the packages it emits. Helpers of a primitive are primitives too, so that
`dependencies` finds all that has to be copied along.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")

_REGISTRY: dict[str, Callable[..., Any]] = {}


@overload
def primitive(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def primitive(*, results: tuple[str, ...] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def primitive(fn: Callable[..., Any] | None = None, /, *, results: tuple[str, ...] = ()) -> Any:
    """Register a function as a primitive: called on fx proxies it records one `call_function` node.

    `results` names the values of a function that returns several; a trace keeps them in `node.meta["results"]`.

    >>> @primitive(results=("low", "high"))
    ... def halves(x):
    ...     return x.chunk(2, dim=-1)
    >>> results(halves)
    ('low', 'high')
    """
    if fn is None:
        return functools.partial(_register, results=results)
    return _register(fn, results=results)


def _register(fn: Callable[..., Any], *, results: tuple[str, ...]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = next(_proxies((args, kwargs)), None)
        if proxy is None:
            return fn(*args, **kwargs)
        made = proxy.tracer.create_proxy("call_function", call, args, kwargs)
        made.node.meta["results"] = results
        return made

    if fn.__name__ in _REGISTRY:
        raise ValueError(f"primitive `{fn.__name__}` is registered twice")
    call.results = results  # type: ignore[attr-defined]
    _REGISTRY[fn.__name__] = call
    return call


def _proxies(value: Any) -> Iterator[Any]:
    """The fx proxies in a value, looked for in tuples, lists and dicts."""
    from torch.fx import Proxy

    if isinstance(value, Proxy):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _proxies(item)
    elif isinstance(value, dict):
        yield from _proxies(tuple(value.values()))


def primitives() -> dict[str, Callable[..., Any]]:
    """Every registered primitive by name; importing `archc.kernels.reference` registers them all."""
    return dict(_REGISTRY)


def results(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the values a primitive returns; empty for a single value, or where the call decides how many."""
    return getattr(fn, "results", ())


def source_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function behind a primitive, whose source codegen copies."""
    return getattr(fn, "__wrapped__", fn)


def dependencies(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the primitives that a primitive calls directly, in alphabetical order."""
    tree = ast.parse(inspect.getsource(source_function(fn)))
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return tuple(sorted(_REGISTRY.keys() & called))
