"""What a primitive is: a torch function that is a leaf of every trace.

A primitive owns the loops and the control flow on length; op maths is straight-line code over primitives.
Its reference implementation uses torch and other primitives only, because codegen copies its source,
without this decorator, into the packages it emits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_REGISTRY: dict[str, Callable[..., Any]] = {}


def primitive(fn: Callable[P, R]) -> Callable[P, R]:
    """Register `fn` as a primitive: called on fx proxies it records one `call_function` node."""

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        import torch

        proxies = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.fx.Proxy)]
        if not proxies:
            return fn(*args, **kwargs)
        return proxies[0].tracer.create_proxy("call_function", call, args, kwargs)  # type: ignore[return-value]

    if fn.__name__ in _REGISTRY:
        raise ValueError(f"primitive `{fn.__name__}` is registered twice")
    _REGISTRY[fn.__name__] = call
    return call


def primitives() -> dict[str, Callable[..., Any]]:
    """Every registered primitive by name; importing `archc.kernels.reference` registers them all."""
    return dict(_REGISTRY)


def source_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function behind a primitive, whose source codegen copies."""
    return getattr(fn, "__wrapped__", fn)
