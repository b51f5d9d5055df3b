"""Weight expressions: how a new parameter is made of old ones.

Leaves name old parameters, constants, fresh values or fitted data; nodes rearrange and combine. Every node is a
frozen dataclass that knows its shape and storage type from those of its children; values are computed by
`archc.ir.weight_eval`, and takes are moved to the leaves by `archc.ir.weight_normal`.

Arithmetic is defined elementwise with one rounding per stated step, so that taking before and taking after
give the same bits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from archc.ir.weight_formats import Shape, check_dtype, packing
from archc.ir.weight_index import Index, IndexLike
from archc.kernels.errors import WeightError, suggestion

Children: TypeAlias = "tuple[WeightExpr, ...]"
T = TypeVar("T")

# Element counts stay exact in every number type that meets them.
MAX_ELEMENTS = 2**53


class WeightExpr:
    """Base of every weight expression."""

    @property
    def children(self) -> Children:
        """The expressions this one is computed from."""
        return ()

    def with_children(self, children: Children) -> WeightExpr:
        """The same node over other children."""
        return self

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Shape of the value, given the shapes of the children. Raises WeightError when they do not fit."""
        raise NotImplementedError

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        """Storage type of the value, given those of the children. Raises WeightError when they do not fit."""
        raise NotImplementedError

    def __str__(self) -> str:
        """`take(transpose(up_proj, (1, 0)), 0, [0:8])`: for messages and people."""
        values = [getattr(self, f.name) for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__.lower()}({', '.join(_show(v) for v in values)})"


def _show(value: object) -> str:
    if isinstance(value, tuple) and any(isinstance(v, WeightExpr) for v in value):
        shown = [str(v) for v in value[:4]] + ([f"... {len(value) - 4} more"] if len(value) > 4 else [])
        return f"[{', '.join(shown)}]"
    return repr(value) if isinstance(value, Index) else str(value)


# -- leaves -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Old(WeightExpr):
    """An old parameter, whole."""

    name: str

    def __str__(self) -> str:
        return self.name


class _Given(WeightExpr):
    """A leaf that states its own shape and storage type."""

    shape: Shape
    dtype: str

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        check_dtype(self.dtype)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.shape

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        return self.dtype


@dataclass(frozen=True)
class Const(_Given):
    """One number everywhere."""

    value: float
    shape: Shape
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_finite(self.value)


@dataclass(frozen=True)
class Init(_Given):
    """Fresh values by a rule of `archc.ir.init` and its numbers, drawn from `seed` and `key` over the whole shape."""

    seed: int
    rule: str
    shape: Shape
    dtype: str
    args: tuple[float, ...] = ()
    key: str = ""


@dataclass(frozen=True)
class File(_Given):
    """The tensor `key` of a safetensors file fitted on data; `path` is relative to the folder the map lies in.

    `sha256` (hex) is that of the whole file, so that a map means one thing."""

    path: str
    key: str
    sha256: str
    shape: Shape
    dtype: str


# -- shapes of nodes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unary(WeightExpr):
    """A node over one expression, of the same storage type unless it says otherwise."""

    x: WeightExpr

    @property
    def children(self) -> Children:
        return (self.x,)

    def with_children(self, children: Children) -> WeightExpr:
        (x,) = children
        return self if x is self.x else dataclasses.replace(self, x=x)

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        return dtypes[0]


@dataclass(frozen=True)
class Nary(WeightExpr):
    """A node over several expressions of one storage type."""

    parts: Children

    def __post_init__(self) -> None:
        if not self.parts:
            raise WeightError(f"{type(self).__name__.lower()} needs at least one part")

    @property
    def children(self) -> Children:
        return self.parts

    def with_children(self, children: Children) -> WeightExpr:
        same = all(new is old for new, old in zip(children, self.parts, strict=True))
        return self if same else dataclasses.replace(self, parts=children)

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        return _one("storage type", self, dtypes)


class Elementwise(WeightExpr):
    """Marks nodes that act on each element alone: every rearrangement moves through them."""


# -- rearrangements ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, init=False)
class Take(Unary):
    """The positions `index` of one axis, in that order; a position may repeat."""

    axis: int
    index: Index

    def __init__(self, x: WeightExpr, axis: int, index: IndexLike) -> None:
        if axis < 0:
            raise WeightError(f"take counts axes from 0: got {axis}")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "axis", axis)
        object.__setattr__(self, "index", index if isinstance(index, Index) else Index(index))

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        (shape,) = shapes
        _check_axis(self, self.axis, len(shape))
        if self.index.end > shape[self.axis]:
            raise WeightError(f"{_head(self)}: no position {self.index.end - 1} on axis {self.axis} of {list(shape)}")
        return (*shape[: self.axis], len(self.index), *shape[self.axis + 1 :])


@dataclass(frozen=True)
class Transpose(Unary):
    """Axes in another order: axis i of the result is axis perm[i] of `x`."""

    perm: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.perm) != list(range(len(self.perm))):
            raise WeightError(f"transpose needs a permutation of its axes: got {self.perm}")

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        (shape,) = shapes
        if len(shape) != len(self.perm):
            raise WeightError(f"{_head(self)}: permutes {len(self.perm)} axes of a tensor of shape {list(shape)}")
        return tuple(shape[p] for p in self.perm)


@dataclass(frozen=True)
class Reshape(Unary):
    """The same elements in row-major order under another shape."""

    shape: Shape

    def __post_init__(self) -> None:
        _check_shape(self.shape)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        (shape,) = shapes
        if math.prod(shape) != math.prod(self.shape):
            raise WeightError(f"{_head(self)}: shape {list(shape)} cannot become {list(self.shape)}")
        return self.shape


@dataclass(frozen=True)
class Concat(Nary):
    """Parts one after the other along an axis they have."""

    axis: int

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        for shape in shapes:
            _check_axis(self, self.axis, len(shape))
        rest = [(*s[: self.axis], -1, *s[self.axis + 1 :]) for s in shapes]
        _one(f"shape beside axis {self.axis}", self, rest)
        total = sum(s[self.axis] for s in shapes)
        return (*rest[0][: self.axis], total, *rest[0][self.axis + 1 :])


@dataclass(frozen=True)
class Stack(Nary):
    """Parts of one shape along a new axis."""

    axis: int

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        shape = _one("shape", self, shapes)
        _check_axis(self, self.axis, len(shape) + 1)
        return (*shape[: self.axis], len(shapes), *shape[self.axis :])


# -- arithmetic -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear(Nary, Elementwise):
    """sum_i coefficients[i] * parts[i], added from the left in fp32 (fp64 for fp64), rounded once at the end."""

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.coefficients) != len(self.parts):
            raise WeightError(f"linear has {len(self.parts)} parts and {len(self.coefficients)} coefficients")
        _check_finite(*self.coefficients)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        return _one("shape", self, shapes)


@dataclass(frozen=True)
class Affine(Unary, Elementwise):
    """x * scale + shift, in fp32 (fp64 for fp64), rounded once at the end."""

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(self.scale, self.shift)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]


@dataclass(frozen=True)
class Scale(WeightExpr):
    """`x` times the vector `by` along one axis, in fp32 (fp64 for fp64), rounded once at the end, as `x` is stored."""

    x: WeightExpr
    by: WeightExpr
    axis: int

    @property
    def children(self) -> Children:
        return (self.x, self.by)

    def with_children(self, children: Children) -> WeightExpr:
        x, by = children
        return Scale(x, by, self.axis)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        x, by = shapes
        _check_axis(self, self.axis, len(x))
        if by != (x[self.axis],):
            raise WeightError(f"{_head(self)}: a vector of shape {list(by)} along axis {self.axis} of {list(x)}")
        return x

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        return dtypes[0]


@dataclass(frozen=True)
class Cast(Unary, Elementwise):
    """Another storage type, rounding to nearest even."""

    dtype: str

    def __post_init__(self) -> None:
        check_dtype(self.dtype)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        return self.dtype


@dataclass(frozen=True)
class MatMul(WeightExpr):
    """a [*, n, k] @ b [*, k, m], in fp32 (fp64 for fp64), rounded once at the end."""

    a: WeightExpr
    b: WeightExpr

    @property
    def children(self) -> Children:
        return (self.a, self.b)

    def with_children(self, children: Children) -> WeightExpr:
        return MatMul(*children)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        a, b = shapes
        if len(a) < 2 or len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
            raise WeightError(f"{_head(self)}: shapes {list(a)} and {list(b)} have no matrix product")
        return (*a[:-1], b[-1])

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        return _one("storage type", self, dtypes)


# -- packed formats ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantise(Unary):
    """One stored part of `x` packed in a format: mxfp4 has the parts `blocks` and `scales`."""

    format: str
    part: str

    def __post_init__(self) -> None:
        packing(self.format).part(self.part)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        return packing(self.format).packed_shape(self.part, shapes[0])

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        return packing(self.format).part(self.part).dtype


@dataclass(frozen=True)
class Dequantise(Nary):
    """The logical tensor that packed parts stand for, in the order the format declares (mxfp4: blocks, scales)."""

    format: str
    dtype: str = "bf16"

    def __post_init__(self) -> None:
        super().__post_init__()
        packing(self.format)
        check_dtype(self.dtype)

    def infer_shape(self, shapes: Sequence[Shape]) -> Shape:
        return packing(self.format).logical_shape(shapes)

    def infer_dtype(self, dtypes: Sequence[str]) -> str:
        wanted = [p.dtype for p in packing(self.format).parts]
        if list(dtypes) != wanted:
            raise WeightError(f"{_head(self)}: {self.format} parts are stored as {wanted}, got {list(dtypes)}")
        return self.dtype


# -- questions about a whole expression -------------------------------------------------------------------------------


def shape(expr: WeightExpr, shapes: Mapping[str, Shape]) -> Shape:
    """Shape of the value, given the shapes of the old parameters.

    Raises WeightError for an old parameter that `shapes` lacks and for parts that do not fit."""
    if isinstance(expr, Old):
        return tuple(_look_up(expr.name, shapes))
    return expr.infer_shape([shape(c, shapes) for c in expr.children])


def dtype(expr: WeightExpr, dtypes: Mapping[str, str]) -> str:
    """Storage type of the value, given those of the old parameters; raises WeightError as `shape` does."""
    if isinstance(expr, Old):
        return _look_up(expr.name, dtypes)
    return expr.infer_dtype([dtype(c, dtypes) for c in expr.children])


def leaves(expr: WeightExpr) -> Iterator[WeightExpr]:
    """The leaves, from the left, each as often as it occurs."""
    if not expr.children:
        yield expr
    for child in expr.children:
        yield from leaves(child)


def old_names(expr: WeightExpr) -> frozenset[str]:
    """The old parameters that the value depends on."""
    return frozenset(leaf.name for leaf in leaves(expr) if isinstance(leaf, Old))


def leaf_reads(expr: WeightExpr) -> Iterator[tuple[str, Index | None]]:
    """(old name, rows) of every read, from the left; rows is None where the parameter is read whole."""
    if isinstance(expr, Take) and isinstance(expr.x, Old) and expr.axis == 0:
        yield expr.x.name, expr.index
    elif isinstance(expr, Old):
        yield expr.name, None
    else:
        for child in expr.children:
            yield from leaf_reads(child)


def reads(expr: WeightExpr) -> dict[str, Index | None]:
    """The old parameters that are read, each with its rows (ascending), or None for the whole of it.

    Say it of a normalised expression: only takes along axis 0 that stand directly on a leaf save reading."""
    found: dict[str, Index | None] = {}
    for name, rows in leaf_reads(expr):
        known = found.get(name, rows)
        whole = rows is None or known is None
        found[name] = None if whole else Index(sorted({*known, *rows}))  # type: ignore[misc]
    return found


def _look_up(name: str, table: Mapping[str, T]) -> T:
    if name not in table:
        raise WeightError(f"no old parameter `{name}`{suggestion(name, table)}")
    return table[name]


# -- checks -----------------------------------------------------------------------------------------------------------


def _head(expr: WeightExpr) -> str:
    """The expression, shortened for a message."""
    text = str(expr)
    return text if len(text) <= 120 else f"{text[:116]} ..."


def _check_shape(shape: Shape) -> None:
    if any(size < 0 for size in shape) or math.prod(shape) >= MAX_ELEMENTS:
        raise WeightError(f"a shape holds sizes from 0 and fewer than 2^53 elements: got {list(shape)}")


def _check_axis(expr: WeightExpr, axis: int, rank: int) -> None:
    if not 0 <= axis < rank:
        raise WeightError(f"{_head(expr)}: no axis {axis} in a tensor of {rank} axes")


def _check_finite(*numbers: float) -> None:
    if not all(math.isfinite(n) for n in numbers):
        raise WeightError(f"a weight expression holds finite numbers: got {numbers}")


def _one(what: str, expr: WeightExpr, values: Sequence[T]) -> T:
    """The value that all parts share."""
    for i, value in enumerate(values):
        if value != values[0]:
            first, other = (str(list(v)) if isinstance(v, tuple) else str(v) for v in (values[0], value))
            raise WeightError(f"{_head(expr)}: parts 0 and {i} differ in {what}: {first} and {other}")
    return values[0]
