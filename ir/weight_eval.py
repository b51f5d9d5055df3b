"""Values of weight expressions, in torch: the one place where a WeightMap meets tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from archc.ir import init
from archc.ir import weight_expr as w
from archc.ir.weight_formats import Shape, packing
from archc.ir.weight_index import Index
from archc.ir.weight_moves import Bits, taken
from archc.kernels.errors import WeightError, suggestion

TORCH_DTYPES: Mapping[str, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "fp8_e8m0": torch.float8_e8m0fnu,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint64": torch.uint64,
    "uint32": torch.uint32,
    "uint16": torch.uint16,
    "uint8": torch.uint8,
    "bool": torch.bool,
    "complex64": torch.complex64,
}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


class Read(Protocol):
    """Gives an old parameter, or some of its rows in the order asked for (they may repeat)."""

    def __call__(self, name: str, rows: Index | None = None) -> Tensor: ...


ReadFile = Callable[[w.File], Tensor]


def no_files(leaf: w.File) -> Tensor:
    """The ReadFile of callers that have no files at hand: raises WeightError."""
    raise WeightError(f"the map takes `{leaf.key}` from {leaf.path}, which cannot be read here")


def evaluate(expr: w.WeightExpr, read: Read, read_file: ReadFile = no_files) -> Tensor:
    """The value of `expr`, contiguous. Reads only the rows that takes directly on a leaf name.

    Raises WeightError where values do not fit; check shapes and storage types first to hear of all at once."""
    value = _evaluate(expr, read, read_file)
    return value if value.is_contiguous() else empty(value.shape, value.dtype).copy_(value)


def _evaluate(expr: w.WeightExpr, read: Read, read_file: ReadFile) -> Tensor:
    match expr:
        case w.Take(x=w.Old(name=name), axis=0, index=index):
            return read(name, index)
        case w.Old(name=name):
            return read(name)
        case w.File():
            return read_file(expr)
    return _apply(expr, [_evaluate(c, read, read_file) for c in expr.children])


def reader(tensors: Mapping[str, Tensor]) -> Read:
    """A `Read` over tensors in memory."""

    def read(name: str, rows: Index | None = None) -> Tensor:
        if name not in tensors:
            raise WeightError(f"no old parameter `{name}`{suggestion(name, tensors)}")
        return tensors[name] if rows is None else take(tensors[name], 0, rows)

    return read


def empty(shape: Shape, dtype: torch.dtype) -> Tensor:
    """A new tensor whose memory comes from malloc as it is.

    What `torch.empty` cuts off to align it leaves holes that the next block of the same size does not fit into: threads
    that make one block after the other grew to many times what they hold (glibc before 2.38)."""
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)  # numpy strides it so that torch does not view it as bytes
    return torch.from_numpy(np.empty(shape, f"i{dtype.itemsize}")).view(dtype)


def dtype_name(tensor: Tensor) -> str:
    """Our name of a tensor's storage type."""
    if tensor.dtype not in DTYPE_NAMES:
        raise WeightError(f"tensors of {tensor.dtype} cannot be stored (known are {', '.join(TORCH_DTYPES)})")
    return DTYPE_NAMES[tensor.dtype]


def take(x: Tensor, axis: int, index: Index) -> Tensor:
    """The positions `index` of one axis, for every storage type (torch does not index all of them)."""
    span = index.span()
    if span is not None:
        return x[(slice(None),) * axis + (span,)]
    # by numpy: along the last axis four times as fast as index_select, and as fast along the others
    return torch.from_numpy(taken(_raw(x.detach()).numpy(), axis, index)).view(x.dtype)


def from_bits(bits: Bits, dtype: str) -> Tensor:
    """The tensor of a storage type that has these bits, which it shares."""
    if 0 in bits.shape:
        return torch.empty(bits.shape, dtype=TORCH_DTYPES[dtype])  # numpy strides it so that it cannot be viewed
    return torch.from_numpy(bits).view(TORCH_DTYPES[dtype])


def to_bits(x: Tensor) -> Bits:
    """The bits of a tensor, on the CPU and in order."""
    bits: Bits = _raw(x.detach().cpu().contiguous()).numpy()
    return bits


def _raw(x: Tensor) -> Tensor:
    """The same bits as integers of that size: moving elements is not defined for every storage type."""
    return x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def join(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Concatenation of parts of one storage type, for every storage type."""
    return torch.cat([_raw(p) for p in parts], axis).view(parts[0].dtype)


@functools.singledispatch
def _apply(expr: w.WeightExpr, values: Sequence[Tensor]) -> Tensor:
    """The value of one node, given those of its children."""
    raise WeightError(f"no evaluation of {type(expr).__name__}")


@_apply.register
def _(expr: w.Const, values: Sequence[Tensor]) -> Tensor:
    return torch.tensor(expr.value, dtype=torch.float64).to(TORCH_DTYPES[expr.dtype]).expand(expr.shape)


@_apply.register
def _(expr: w.Init, values: Sequence[Tensor]) -> Tensor:
    dtype = TORCH_DTYPES[expr.dtype]
    return init.sample(expr.rule, expr.args, expr.shape, seed=expr.seed, key=expr.key, dtype=dtype)


@_apply.register
def _(expr: w.Take, values: Sequence[Tensor]) -> Tensor:
    return take(values[0], expr.axis, expr.index)


@_apply.register
def _(expr: w.Transpose, values: Sequence[Tensor]) -> Tensor:
    return values[0].permute(expr.perm)


@_apply.register
def _(expr: w.Reshape, values: Sequence[Tensor]) -> Tensor:
    return values[0].reshape(expr.shape)


@_apply.register
def _(expr: w.Concat, values: Sequence[Tensor]) -> Tensor:
    return join(values, expr.axis)


@_apply.register
def _(expr: w.Stack, values: Sequence[Tensor]) -> Tensor:
    return join([v.unsqueeze(expr.axis) for v in values], expr.axis)


@_apply.register
def _(expr: w.Linear, values: Sequence[Tensor]) -> Tensor:
    # a product and a sum of their own, never one fused operation: the bits must not depend on where an element lies
    total = _times(values[0], expr.coefficients[0])
    for value, coefficient in zip(values[1:], expr.coefficients[1:], strict=True):
        total += _times(value, coefficient)
    return _to(total, values[0].dtype)


@_apply.register
def _(expr: w.Affine, values: Sequence[Tensor]) -> Tensor:
    return _to(_times(values[0], expr.scale).add_(expr.shift), values[0].dtype)


@_apply.register
def _(expr: w.Scale, values: Sequence[Tensor]) -> Tensor:
    x, by = values
    shape = [-1 if axis == expr.axis else 1 for axis in range(x.ndim)]
    wide = torch.promote_types(_wide(x).dtype, _wide(by).dtype)
    return (x.to(wide) * by.to(wide).view(shape)).to(x.dtype)


@_apply.register
def _(expr: w.MatMul, values: Sequence[Tensor]) -> Tensor:
    a, b = values
    return (_wide(a) @ _wide(b)).to(a.dtype)


@_apply.register
def _(expr: w.Cast, values: Sequence[Tensor]) -> Tensor:
    return _to(values[0], TORCH_DTYPES[expr.dtype])


@_apply.register
def _(expr: w.Quantise, values: Sequence[Tensor]) -> Tensor:
    return packing(expr.format).pack(values[0])[expr.part]


@_apply.register
def _(expr: w.Dequantise, values: Sequence[Tensor]) -> Tensor:
    return packing(expr.format).unpack(*values).to(TORCH_DTYPES[expr.dtype])


def _wide(x: Tensor) -> Tensor:
    """`x` in the type that arithmetic is done in."""
    return x if x.dtype == torch.float64 else _to(x, torch.float32)


def _times(x: Tensor, factor: float) -> Tensor:
    wide = _wide(x)
    return wide * factor if wide is x else wide.mul_(factor)


def _to(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == dtype else empty(x.shape, dtype).copy_(x)
