"""Weights that are stored packed, through passes: whole blocks as they are, others quantised anew where one allows it.

Blocks lie along the last axis, so that whatever a map does along other axes it can do with blocks as with numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from archc.hub.checkpoint_dir import Packed, packed_weights
from archc.ir.graph import Graph
from archc.ir.weight_expr import Concat, Dequantise, Quantise, Reshape, Stack, Take, WeightExpr, shape
from archc.ir.weight_formats import Shape, packing
from archc.ir.weight_normal import Normaliser, normalise
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import UnsupportedError


def stored(graph: Graph, weights: WeightMap, shapes: Mapping[str, Shape], *, requantise: bool) -> WeightMap:
    """The tensors that a checkpoint of `graph` stores, given its `weights` as expressions over parameters of `shapes`.

    Where all that is kept of a packed weight is whole blocks in order, they stay bit by bit. Raises UnsupportedError
    for the weights that no blocks fit, and for those that are to be quantised anew, unless `requantise`."""
    packed, sizes = packed_weights(graph), graph.weight_shapes()
    _refuse({key: how for key, how in packed.items() if _rest(how, sizes[key])}, "no whole number of blocks")
    laid = {key: _as_laid(how, weights.params[key], shapes) for key, how in packed.items()}
    whole = {key: _blocks(laid[key], how.format, shapes) for key, how in packed.items()}
    if not requantise:
        hint = ": keep those, or allow to quantise what is taken anew (`--requantise`, in a recipe `requantise: true`)"
        anew = {key: how for key, how in packed.items() if whole[key] is None}
        _refuse(anew, f"of other values than whole blocks in order{hint}")
    made = {key: expr for key, expr in weights.params.items() if key not in packed}
    for key, how in packed.items():
        names = [part.name for part in packing(how.format).parts]
        parts = whole[key] or [Quantise(laid[key], how.format, name) for name in names]
        made |= {f"{key}.{name}": normalise(expr, shapes) for name, expr in zip(names, parts, strict=True)}
    return WeightMap(made, weights.dropped)


def _rest(how: Packed, size: Shape) -> int:
    """Units along the blocked axis beyond whole blocks."""
    return size[-2 if how.turned else -1] % packing(how.format).block


def _as_laid(how: Packed, expr: WeightExpr, shapes: Mapping[str, Shape]) -> WeightExpr:
    """The weight with its blocked axis last, in normal form."""
    normaliser = Normaliser(shapes)
    whole = normaliser.run(expr)
    return normaliser.transpose(whole, (0, 2, 1)) if how.turned else whole


def _blocks(expr: WeightExpr, chosen: str, shapes: Mapping[str, Shape]) -> list[WeightExpr] | None:
    """The parts of a format whose blocks are all that `expr` is made of; None where there is more to it."""
    if isinstance(expr, Dequantise) and expr.format == chosen:
        return list(expr.children)
    inner = [_blocks(child, chosen, shapes) for child in expr.children]
    if not inner or not _leaves_last(expr, shapes):
        return None
    found = [parts for parts in inner if parts is not None]
    if len(found) < len(inner):
        return None
    made = packing(chosen)
    by_part = zip(made.parts, zip(*found, strict=True), strict=True)
    if isinstance(expr, Reshape):
        return [Reshape(x, made.packed_shape(part.name, expr.shape)) for part, (x,) in by_part]
    return [expr.with_children(children) for _, children in by_part]


def _leaves_last(expr: WeightExpr, shapes: Mapping[str, Shape]) -> bool:
    """Whether the last axis of `expr` is that of its children, as it was."""
    size = shape(expr, shapes)
    match expr:
        case Take() | Concat() | Stack():
            return expr.axis < len(size) - 1
        case Reshape():
            return len(size) > 1 and shape(expr.x, shapes)[-1] == size[-1]
    return False


def _refuse(wrong: Mapping[str, Packed], what: str) -> None:
    if wrong:
        key, how = next(iter(wrong.items()))
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        block = packing(how.format).block
        raise UnsupportedError(f"`{key}`{more}, stored as {how.format} in blocks of {block}, would be made {what}")
