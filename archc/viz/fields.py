"""What tells a block from others of its kind, in the words of a spec."""

from __future__ import annotations

import dataclasses

from archc.ir.op import Op
from archc.ir.text_line import value_words


def given_fields(op: Op) -> dict[str, str]:
    """The fields that a spec gives for this op where they differ from their defaults; none for ops without a spec.

    >>> from archc.ir.ops.mlp import MLP
    >>> given_fields(next(MLP.examples()))
    {'d_ff': '13', 'activation': 'relu2'}
    """
    if type(op).Fields is None:
        return {}
    given = op.fields()
    values = {f.name: (getattr(given, f.name), f.default) for f in dataclasses.fields(given)}
    return {name: value_words(value) for name, (value, usual) in values.items() if value != usual}


def told_sizes(op: Op) -> dict[str, str]:
    """What a line on an op has room for: the short words of its spec, else its dims but the width of the stream."""
    given = given_fields(op) or {role: str(dim.size) for role, dim in op.dims.items() if role != "d_model"}
    return {name: value for name, value in given.items() if not value.startswith(("{", "(")) and name != "init_std"}


def sizes_text(op: Op) -> str:
    """An op in a line.

    >>> from archc.ir.ops.mlp import MLP
    >>> sizes_text(next(MLP.examples()))
    'd_ff 13 · activation relu2'
    """
    return " · ".join(f"{name} {value}" for name, value in told_sizes(op).items())
