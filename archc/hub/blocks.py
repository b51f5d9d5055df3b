"""Blocks of specs as foreign configs yield them, and how two specs differ as functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archc.ir.dims import Dim
from archc.ir.graph import LAYERS, MTP_LAYERS
from archc.ir.op import DimMaker, op_class
from archc.spec.model import Block, Spec

# Initial deviations shape training from scratch only: no checkpoint has one per block.
NOT_COMPARED = frozenset({"init_std"})


def block(kind: str, fields: Mapping[str, Any]) -> Block:
    """The block of `kind` with these spec fields, in the op's own normal form.

    One that breaks a rule of its op has no such form: it is kept as given, for `broken_rules` to find."""
    op = op_class(kind)
    given = op.Fields(**fields)
    if any(op.check(given)):
        return Block(kind=kind, fields=given)
    made = op.make(given, DimMaker("block", {"d_model": Dim("d_model", 1)}))
    return Block(kind=kind, fields=made.fields())


def all_blocks(spec: Spec) -> tuple[Block, ...]:
    """The blocks of a spec, those of MTP last."""
    return (*spec.layers, *(spec.mtp.layers if spec.mtp else ()))


def differences(a: Spec, b: Spec) -> list[str]:
    """What two specs disagree in as functions, one line each; formats and initial values do not count."""
    lines = [
        f"{name}: {getattr(a, name)} against {getattr(b, name)}"
        for name in ("d_model", "vocab", "norm", "tied")
        if getattr(a, name) != getattr(b, name)
    ]
    lines += _block_differences(LAYERS, a.layers, b.layers)
    steps = [0 if one.mtp is None else one.mtp.steps for one in (a, b)]
    if steps[0] != steps[1]:
        return [*lines, f"mtp: {steps[0]} steps against {steps[1]}"]
    mtp = [() if one.mtp is None else one.mtp.layers for one in (a, b)]
    return lines + _block_differences(MTP_LAYERS, *mtp)


def _block_differences(region: str, a: Sequence[Block], b: Sequence[Block]) -> list[str]:
    if len(a) != len(b):
        return [f"{region}: {len(a)} blocks against {len(b)}"]
    return [f"{region}.{i}.mixer: {line}" for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in _compare(x, y)]


def _compare(a: Block, b: Block) -> Iterator[str]:
    if a.kind != b.kind:
        yield f"{a.kind} against {b.kind}"
        return
    for field in dataclasses.fields(a.fields):
        x, y = getattr(a.fields, field.name), getattr(b.fields, field.name)
        if x != y and field.name not in NOT_COMPARED:
            yield f"{field.name} {x} against {y}"
