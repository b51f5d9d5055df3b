"""The normal form of weight expressions: takes at the leaves and fused, so that only needed rows are read.

Every rewrite keeps each element's bits: rearrangements move through elementwise arithmetic and through each
other, never through a matrix product (whose sums a smaller product may round otherwise). Where a take cannot go
on (an order that mixes parts, an index that no axis of the source has), what can be left out is left out below it
and the reordering stays.

The order from the leaf outwards: takes (axis 0 first), transposes, reshapes and joins, arithmetic.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from archc.ir.weight_expr import (
    Children,
    Concat,
    Const,
    Dequantise,
    Elementwise,
    Old,
    Quantise,
    Reshape,
    Scale,
    Stack,
    Take,
    Transpose,
    WeightExpr,
)
from archc.ir.weight_formats import Shape, packing
from archc.ir.weight_index import Index, Positions

# Longest flat index that a take through a reshape may pass through; a longer one stays above the reshape.
MAX_FLAT_POSITIONS = 2**26


def normalise(expr: WeightExpr, shapes: Mapping[str, Shape] | None = None) -> WeightExpr:
    """The same value in normal form.

    Without the shapes of the old parameters, takes stop where a size decides where they go (concat along their own
    axis, reshape). Raises WeightError when a take does not fit a shape that is known."""
    return Normaliser(shapes or {}).run(expr)


class Normaliser:
    """Builds nodes in normal form, given what is known of the old shapes; each method makes one kind of node.

    Remembers the shape of every expression it met: make one per parameter."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes
        self._known: dict[int, tuple[WeightExpr, Shape | None]] = {}  # by id: hashing a stack of experts is slow

    def run(self, expr: WeightExpr) -> WeightExpr:
        """`expr` in normal form."""
        children = tuple(self.run(c) for c in expr.children)
        match expr:
            case Take():
                return self.take(children[0], expr.axis, expr.index)
            case Transpose():
                return self.transpose(children[0], expr.perm)
            case Reshape():
                return self.reshape(children[0], expr.shape)
            case Concat():
                return self.concat(children, expr.axis)
            case Stack():
                return self.stack(children, expr.axis)
        return expr.with_children(children)

    def shape(self, expr: WeightExpr) -> Shape | None:
        """The shape, None when an old parameter's shape is not known."""
        if isinstance(expr, Old):
            return self._shapes.get(expr.name)
        if id(expr) not in self._known:
            children = [self.shape(c) for c in expr.children]
            fits = [c for c in children if c is not None]
            self._known[id(expr)] = expr, expr.infer_shape(fits) if len(fits) == len(children) else None
        return self._known[id(expr)][1]

    def each(self, expr: WeightExpr, change: Callable[[WeightExpr], WeightExpr]) -> WeightExpr:
        """`expr` with every child changed."""
        return expr.with_children(tuple(change(c) for c in expr.children))

    # -- take ----------------------------------------------------------------------------------------------------------

    def take(self, x: WeightExpr, axis: int, index: Index) -> WeightExpr:
        """Take(x, axis, index), moved down as far as it goes; `x` is in normal form."""
        size = self.shape(x)
        if size is not None:
            Take(x, axis, index).infer_shape([size])
            if index.is_all(size[axis]):
                return x
        pushed = self._push(x, axis, index)
        return Take(x, axis, index) if pushed is None else pushed

    @functools.singledispatchmethod
    def _push(self, x: WeightExpr, axis: int, index: Index) -> WeightExpr | None:
        """The take moved into `x`, None when it stays above."""
        return None

    @_push.register
    def _(self, x: Take, axis: int, index: Index) -> WeightExpr | None:
        if x.axis == axis:
            return self.take(x.x, axis, x.index.then(index))
        inner = self.take(x.x, axis, index)
        stuck = isinstance(inner, Take) and inner.x is x.x and inner.axis == axis
        if not stuck:
            return self.take(inner, x.axis, x.index)
        return Take(inner, x.axis, x.index) if axis < x.axis else None

    @_push.register
    def _(self, x: Const, axis: int, index: Index) -> WeightExpr | None:
        return Const(x.value, _resized(x.shape, axis, len(index)), x.dtype)

    @_push.register
    def _(self, x: Elementwise, axis: int, index: Index) -> WeightExpr | None:
        return self.each(x, lambda c: self.take(c, axis, index))

    @_push.register
    def _(self, x: Scale, axis: int, index: Index) -> WeightExpr | None:
        by = self.take(x.by, 0, index) if axis == x.axis else x.by
        return Scale(self.take(x.x, axis, index), by, x.axis)

    @_push.register
    def _(self, x: Transpose, axis: int, index: Index) -> WeightExpr | None:
        return self.transpose(self.take(x.x, x.perm[axis], index), x.perm)

    @_push.register
    def _(self, x: Stack, axis: int, index: Index) -> WeightExpr | None:
        if axis == x.axis:
            return self.stack(tuple(x.parts[i] for i in index), axis) if len(index) else None
        inner = axis if axis < x.axis else axis - 1
        return self.stack(tuple(self.take(p, inner, index) for p in x.parts), x.axis)

    @_push.register
    def _(self, x: Concat, axis: int, index: Index) -> WeightExpr | None:
        if axis != x.axis:
            return self.concat(tuple(self.take(p, axis, index) for p in x.parts), x.axis)
        shapes = [self.shape(p) for p in x.parts]
        if not len(index) or any(s is None for s in shapes):
            return None
        starts = np.cumsum([0, *(s[axis] for s in shapes if s is not None)])
        part = np.searchsorted(starts, index.positions, side="right") - 1
        within = index.positions - starts[part]
        pieces = _pieces(part)
        if len(pieces) <= len(x.parts):
            taken = (self.take(x.parts[part[a]], axis, Index(within[a:b])) for a, b in pieces)
            return self.concat(tuple(taken), axis)
        return self._keep_needed(x, axis, index, starts)

    def _keep_needed(self, x: Concat, axis: int, index: Index, starts: Positions) -> WeightExpr | None:
        """Each part reduced to the positions that `index` names, and the reordering of what is left above."""
        needed, order = np.unique(index.positions, return_inverse=True)
        if len(needed) == starts[-1]:
            return None
        bounds = np.searchsorted(needed, starts)
        parts = tuple(
            self.take(p, axis, Index(needed[a:b] - start))
            for p, a, b, start in zip(x.parts, bounds, bounds[1:], starts, strict=False)
            if a < b
        )
        return self.take(self.concat(parts, axis), axis, Index(order))

    @_push.register
    def _(self, x: Reshape, axis: int, index: Index) -> WeightExpr | None:
        old = self.shape(x.x)
        group = None if old is None else _group_of(old, x.shape, axis)
        if old is None or group is None or not len(index):
            return None
        first, olds, before, news = group  # the axes `old[first:]` of sizes `olds` become the new axes of sizes `news`
        result = _resized(x.shape, axis, len(index))
        if math.prod(result[before : before + len(news)]) > MAX_FLAT_POSITIONS:
            return None
        flat = _flat(news, axis - before, index)
        kept = _outer_product(flat, olds)
        if kept is not None:
            return self.reshape(self._take_each(x.x, first, kept), result)
        return self._keep_needed_reshape(x, axis, flat, first, olds) if len(news) == 1 else None

    def _keep_needed_reshape(
        self, x: Reshape, axis: int, flat: Positions, first: int, olds: Shape
    ) -> WeightExpr | None:
        """Each merged axis reduced to what `flat` names, and the take of what is left above."""
        coordinates = np.unravel_index(flat, olds)
        needed = [np.unique(c) for c in coordinates]
        sizes = tuple(len(n) for n in needed)
        if sizes == olds:
            return None
        inner = self._take_each(x.x, first, needed)
        new = np.ravel_multi_index([np.searchsorted(n, c) for n, c in zip(needed, coordinates, strict=True)], sizes)
        return self.take(self.reshape(inner, _resized(x.shape, axis, math.prod(sizes))), axis, Index(new))

    def _take_each(self, x: WeightExpr, first: int, kept: Sequence[Positions]) -> WeightExpr:
        for offset, positions in enumerate(kept):
            x = self.take(x, first + offset, Index(positions))
        return x

    @_push.register
    def _(self, x: Dequantise, axis: int, index: Index) -> WeightExpr | None:
        logical = self.shape(x)
        if logical is None:
            return None
        if axis == len(logical) - 1:
            blocks = packing(x.format).whole_blocks(index)
            return None if blocks is None else self.each(x, lambda c: self.take(c, axis, blocks))
        return self.each(x, lambda c: self.take(c, axis, index))

    @_push.register
    def _(self, x: Quantise, axis: int, index: Index) -> WeightExpr | None:
        logical = self.shape(x.x)
        if logical is None or axis >= len(logical):
            return None
        inner = packing(x.format).elements(index) if axis == len(logical) - 1 else index
        return self.each(x, lambda c: self.take(c, axis, inner))

    # -- transpose -----------------------------------------------------------------------------------------------------

    def transpose(self, x: WeightExpr, perm: tuple[int, ...]) -> WeightExpr:
        """Transpose(x, perm), fused with what it meets; `x` is in normal form."""
        if perm == tuple(range(len(perm))):
            return x
        match x:
            case Transpose():
                return self.transpose(x.x, tuple(x.perm[p] for p in perm))
            case Const():
                return Const(x.value, tuple(x.shape[p] for p in perm), x.dtype)
            case Elementwise():
                return self.each(x, lambda c: self.transpose(c, perm))
            case Scale():
                return Scale(self.transpose(x.x, perm), x.by, perm.index(x.axis))
            case Concat():
                return self.concat(tuple(self.transpose(p, perm) for p in x.parts), perm.index(x.axis))
            case Stack():
                inner = tuple(p - (p > x.axis) for p in perm if p != x.axis)
                return self.stack(tuple(self.transpose(p, inner) for p in x.parts), perm.index(x.axis))
        return Transpose(x, perm)

    # -- reshape -------------------------------------------------------------------------------------------------------

    def reshape(self, x: WeightExpr, new: Shape) -> WeightExpr:
        """Reshape(x, new), fused with what it meets; `x` is in normal form."""
        if self.shape(x) == new:
            return x
        match x:
            case Reshape():
                return self.reshape(x.x, new)
            case Const():
                return Const(x.value, new, x.dtype)
            case Elementwise():
                return self.each(x, lambda c: self.reshape(c, new))
            case Stack() | Concat():
                return self._rejoin(x, new) or Reshape(x, new)
        return Reshape(x, new)

    def _rejoin(self, x: Stack | Concat, new: Shape) -> WeightExpr | None:
        """A stack whose new axis is merged with the next one is a concat of its parts, and the other way round."""
        part, n, axis = self.shape(x.parts[0]), len(x.parts), x.axis
        if part is None or axis >= len(part):
            return None
        if isinstance(x, Stack):
            merged = _resized(part, axis, n * part[axis])
            return self.concat(x.parts, axis) if new == merged else None
        stacked = (*part[:axis], n, *part[axis:])
        alike = all(self.shape(p) == part for p in x.parts)
        return self.stack(x.parts, axis) if alike and new == stacked else None

    # -- joins ---------------------------------------------------------------------------------------------------------

    def stack(self, parts: Children, axis: int) -> WeightExpr:
        """Stack(parts, axis); one part alone is a reshape, where its shape is known."""
        only = self.shape(parts[0]) if len(parts) == 1 else None
        if only is None:
            return Stack(parts, axis)
        return self.reshape(parts[0], (*only[:axis], 1, *only[axis:]))

    def concat(self, parts: Children, axis: int) -> WeightExpr:
        """Concat(parts, axis) with nested concats opened and neighbours that are pieces of one thing joined again."""
        flat: list[WeightExpr] = []
        for part in parts:
            flat.extend(part.parts if isinstance(part, Concat) and part.axis == axis else (part,))
        joined: list[WeightExpr] = []
        for part in flat:
            both = self._join(joined[-1], part, axis) if joined else None
            if both is None:
                joined.append(part)
            else:
                joined[-1] = both
        return joined[0] if len(joined) == 1 else Concat(tuple(joined), axis)

    def _join(self, a: WeightExpr, b: WeightExpr, axis: int) -> WeightExpr | None:
        """`a` and `b` one after the other as one take, None unless they are takes of the same thing."""
        (base, first), (other, second) = (self._positions_of(x, axis) for x in (a, b))
        if base != other or first is None or second is None:
            return None
        return self.take(base, axis, Index(np.concatenate([first.positions, second.positions])))

    def _positions_of(self, x: WeightExpr, axis: int) -> tuple[WeightExpr, Index | None]:
        """(what `x` takes from, which positions along `axis`), None where that is all of an unknown size."""
        if isinstance(x, Take):
            if x.axis == axis:
                return x.x, x.index
            base, index = self._positions_of(x.x, axis)
            return Take(base, x.axis, x.index), index
        size = self.shape(x)
        return x, None if size is None or axis >= len(size) else Index.all(size[axis])


def _resized(old: Shape, axis: int, size: int) -> Shape:
    return (*old[:axis], size, *old[axis + 1 :])


def _pieces(part: Positions) -> list[tuple[int, int]]:
    """(start, stop) of the stretches of equal values."""
    bounds = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)]
    return list(itertools.pairwise(bounds))


def _group_of(old: Shape, new: Shape, axis: int) -> tuple[int, Shape, int, Shape] | None:
    """The smallest group of adjacent axes that a reshape mixes and that holds new axis `axis`.

    Returns (first old axis, old sizes, first new axis, new sizes), None when an axis is empty or no old axis takes
    part (a size of 1 that the reshape made)."""
    if 0 in old or 0 in new:
        return None
    i = j = 0
    while j < len(new):
        start_old, start_new = i, j
        left, right = 1, new[j]
        j += 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        if axis < j:
            return (start_old, old[start_old:i], start_new, new[start_new:j]) if i > start_old else None
    return None


def _flat(sizes: Shape, axis: int, index: Index) -> Positions:
    """Flat positions in row-major order of what a take along one of several axes keeps."""
    outer, inner = (np.arange(math.prod(s), dtype=np.int64) for s in (sizes[:axis], sizes[axis + 1 :]))
    kept = outer[:, None] * sizes[axis] + index.positions
    return (kept[:, :, None] * len(inner) + inner).ravel()


def _outer_product(flat: Positions, sizes: Shape) -> list[Positions] | None:
    """Positions along each axis whose outer product in row-major order is `flat`, None when there are none."""
    if len(sizes) == 1:
        return [flat]
    stride = math.prod(sizes[1:])
    outer, inner = np.divmod(flat, stride)
    changes = np.flatnonzero(np.diff(outer))
    length = int(changes[0]) + 1 if len(changes) else len(flat)
    if len(flat) % length:
        return None
    rows, columns = outer[::length], inner[:length]
    if not np.array_equal((rows[:, None] * stride + columns).ravel(), flat):
        return None
    rest = _outer_product(columns, sizes[1:])
    return None if rest is None else [rows, *rest]
