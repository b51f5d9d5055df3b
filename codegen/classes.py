"""The classes of an emitted model: one per distinct maths, named, and printed."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from archc.codegen.layout import wrapped
from archc.codegen.modules import ModuleSource
from archc.codegen.names import RESERVED, checked
from archc.codegen.templates import render_template
from archc.ir.op import Op
from archc.kernels.errors import GraphError
from archc.kernels.primitive import primitives

EXTRAS = {"segments": "Tensor | None = None", "state": "LayerState | None = None"}


def class_names(found: Iterable[tuple[ModuleSource, Op]]) -> dict[ModuleSource, str]:
    """A name for every distinct source: the op's class name, told apart by their fields where several share it."""
    first: dict[ModuleSource, Op] = {}
    for source, op in found:
        first.setdefault(source, op)
    by_name: dict[str, list[ModuleSource]] = {}
    for source in first:
        by_name.setdefault(checked("class name", source.name), []).append(source)
    names: dict[ModuleSource, str] = {}
    for name, sources in by_name.items():
        plainest = min((first[s] for s in sources), key=_unusual)
        for source in sources:
            names[source] = _free(name, _words(first[source], plainest), set(names.values()))
    return {source: names[source] for source in first}


def _free(name: str, words: Sequence[str], taken: set[str]) -> str:
    """`name` with the fewest of the words before it that make it new, else with a number behind."""
    for made in ("".join(words[:n]) + name for n in range(min(1, len(words)), len(words) + 1)):
        if made in RESERVED or made in primitives():
            raise GraphError(f"class name `{made}` is taken in generated source")
        if made not in taken:
            return made
    return next(made for n in itertools.count(2) if (made := f"{''.join(words)}{name}{n}") not in taken)


def _unusual(op: Op) -> int:
    """How many fields differ from their defaults."""
    defaults = {f.name: f.default for f in dataclasses.fields(op)}
    unusual = [k for k, v in op.attributes.items() if v != defaults[k]]
    return len(unusual) + len([k for k in op.dims if defaults[k] is None])


def _words(op: Op, plainest: Op) -> list[str]:
    """What sets an op apart from the plainest of its name, the most telling first."""
    words = [_word(k, v) for k, v in op.attributes.items() if v != plainest.attributes[k]]
    words += [_camel(role) for role in op.dims if role not in plainest.dims]
    return [word for word in words if word]


def _word(name: str, value: Any) -> str:
    if value is False or value is None:
        return ""
    if isinstance(value, str):
        return _camel(value)
    return _camel(name.removeprefix("has_")) if value is True or not isinstance(value, (int, float)) else ""


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_") if len(part) > 2)


def print_class(name: str, source: ModuleSource, extras: Sequence[str], *, stateful: bool) -> str:
    """The source of a class; `extras` are those its forward takes, `stateful` whether it makes a state."""
    tensors = ", ".join(f"{tensor}={code}" for tensor, code in source.state)
    text = render_template(
        "module.py",
        name=name,
        source=source,
        doc=docstring(source.doc),
        signature=signature("__init__", source.arguments),
        setup=[line for code in source.setup for line in statement(code)],
        forward_signature=signature("forward", forward_arguments(source.inputs, extras), "Tensor"),
        stateful=stateful,
        new_state="\n".join(wrapped(f"return LayerState({tensors})", " " * 8)),
    )
    return text.rstrip()


def docstring(text: str) -> str:
    """A docstring of one paragraph for the body of a class."""
    safe = text.replace("\\", "\\\\").replace('"', "'")
    return textwrap.fill(f'"""{safe}"""', 116, initial_indent=" " * 4, subsequent_indent=" " * 4)


def forward_arguments(inputs: Sequence[str], extras: Sequence[str]) -> list[tuple[str, str]]:
    """Names and annotations of what `forward` takes."""
    return [*((name, "Tensor") for name in inputs), *((name, EXTRAS[name]) for name in extras)]


def signature(name: str, arguments: Iterable[tuple[str, str]], returns: str = "None") -> str:
    """The `def` line of a method."""
    given = ", ".join(["self", *(f"{arg}: {kind}" for arg, kind in arguments)])
    return "\n".join(wrapped(f"def {name}({given}) -> {returns}:", " " * 4))


def statement(code: str) -> list[str]:
    """One statement of `__init__`, wrapped, its comment kept at the end."""
    text, _, comment = code.partition("  # ")
    indent = " " * (8 + len(text) - len(text.lstrip()))
    return wrapped(text.lstrip(), indent, comment)
