"""Values of weight expressions that only move elements, as bits in numpy: no arithmetic, and no torch.

Most of what passes do to a checkpoint is to keep some rows and columns. For that neither a type that numpy does not
have (bf16, fp8) nor torch, whose import takes longer than to prune a gigabyte, is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from archc.ir import weight_expr as w
from archc.ir.weight_formats import DTYPE_BYTES, Shape
from archc.ir.weight_index import Index

Bits: TypeAlias = npt.NDArray[np.integer[Any]]  # elements of any storage type as integers of its size
_MOVES = (w.Old, w.Take, w.Transpose, w.Reshape, w.Concat, w.Stack)


class ReadBits(Protocol):
    """Gives the bits of an old parameter, or of some of its rows in the order asked for (they may repeat)."""

    def __call__(self, name: str, rows: Index | None = None) -> Bits: ...


def only_moves(expr: w.WeightExpr) -> bool:
    """Whether an expression computes nothing: it takes, turns, joins and lays out what is there."""
    return isinstance(expr, _MOVES) and all(map(only_moves, expr.children))


def moved(expr: w.WeightExpr, read: ReadBits) -> Bits:
    """The bits of an expression that only moves elements. Reads only the rows that takes directly on a leaf name."""
    match expr:
        case w.Take(x=w.Old(name=name), axis=0, index=index):
            return read(name, index)
        case w.Old(name=name):
            return read(name)
    return _moved(expr, [moved(child, read) for child in expr.children])


def _moved(expr: w.WeightExpr, values: Sequence[Bits]) -> Bits:
    """One node, given its children."""
    match expr:
        case w.Take():
            return taken(values[0], expr.axis, expr.index)
        case w.Transpose():
            return values[0].transpose(expr.perm)
        case w.Reshape():
            return values[0].reshape(expr.shape)
        case w.Concat():
            return np.concatenate(values, expr.axis)
        case w.Stack():
            return np.stack(values, expr.axis)
    raise AssertionError(f"{type(expr).__name__} is no move")  # `only_moves` has seen to it


def taken(bits: Bits, axis: int, index: Index) -> Bits:
    """The positions `index` of one axis; a view where they are evenly spaced."""
    span = index.span()
    return bits[(slice(None),) * axis + (span,)] if span is not None else bits.take(index.positions, axis)


def empty(shape: Shape, dtype: str) -> Bits:
    """Room for the bits of a tensor."""
    made: Bits = np.empty(shape, f"i{DTYPE_BYTES[dtype]}")
    return made
