"""Blocks of specs as foreign configs yield them, and how two specs differ as functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archc.ir.dims import Dim
from archc.ir.graph import LAYERS, MTP_LAYERS
from archc.ir.op import DimMaker, op_class
from archc.spec.model import Block, Spec

# Initial deviations shape training from scratch only: no checkpoint has one per block.
NOT_COMPARED = frozenset({"init_std"})


@dataclass(frozen=True)
class Difference:
    """What two specs disagree in: a field of the mixer at `scope` (its kind where `field` is ""), or of the model."""

    scope: str
    field: str
    a: Any
    b: Any


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


def differences(a: Spec, b: Spec) -> list[Difference]:
    """What two specs disagree in as functions; formats and initial values do not count."""
    found = [
        Difference("", name, getattr(a, name), getattr(b, name))
        for name in ("d_model", "vocab", "norm", "tied")
        if getattr(a, name) != getattr(b, name)
    ]
    found += _block_differences(LAYERS, a.layers, b.layers)
    steps = [0 if one.mtp is None else one.mtp.steps for one in (a, b)]
    if steps[0] != steps[1]:
        return [*found, Difference("", "mtp steps", *steps)]
    mtp = [() if one.mtp is None else one.mtp.layers for one in (a, b)]
    return found + _block_differences(MTP_LAYERS, *mtp)


def _block_differences(region: str, a: Sequence[Block], b: Sequence[Block]) -> list[Difference]:
    if len(a) != len(b):
        return [Difference("", f"blocks of {region}", len(a), len(b))]
    return [one for i, (x, y) in enumerate(zip(a, b, strict=True)) for one in _compare(f"{region}.{i}.mixer", x, y)]


def _compare(scope: str, a: Block, b: Block) -> Iterator[Difference]:
    if a.kind != b.kind:
        yield Difference(scope, "", a.kind, b.kind)
        return
    for field in dataclasses.fields(a.fields):
        x, y = getattr(a.fields, field.name), getattr(b.fields, field.name)
        if x != y and field.name not in NOT_COMPARED:
            yield Difference(scope, field.name, x, y)
