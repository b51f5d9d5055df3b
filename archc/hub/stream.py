"""Running a WeightMap over a checkpoint on disk: bounded memory, sharded output, whole or not at all.

Parameters are made in blocks of rows, several at a time, wherever that reads little twice; of the source only the rows
that the normalised expressions name are read.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archc.hub.checkpoint import SHARD_BYTES, Checkpoint, staged, write_shards, write_tensors
from archc.hub.safetensors_io import Block, Outgoing, Stored, read_header
from archc.ir import weight_expr as w
from archc.ir.weight_formats import DTYPE_BYTES
from archc.ir.weight_index import Index
from archc.ir.weight_moves import Bits, moved, only_moves
from archc.ir.weight_normal import Normaliser
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import WeightError, suggestion
from archc.progress import bar

if TYPE_CHECKING:
    from torch import Tensor

# Larger parameters are made in blocks of rows of about this size (at least one row); arithmetic on bf16 holds a block
# some six times. Larger blocks are no faster, and smaller ones cost as much to hand to a thread as to make.
BLOCK_BYTES = 2 * 2**20
SMALL_BYTES = 2**16  # what is smaller is not handed over
# Blocks may together read this much more than the whole does.
REREAD = 1.25


def run(
    weight_map: WeightMap,
    source: Checkpoint,
    out_dir: str | Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    files: Path | None = None,
) -> Checkpoint:
    """The checkpoint that `weight_map` makes of `source`, as a new folder.

    `files` is the folder that `File` leaves are relative to. Raises one WeightError that lists every old parameter
    lost or unknown, or every new one that does not fit; nothing is written then."""
    with staged(out_dir, overwrite=overwrite) as folder:
        run_into(folder, weight_map, source, shard_bytes=shard_bytes, files=files)
    return Checkpoint(out_dir)


def run_into(
    folder: Path,
    weight_map: WeightMap,
    source: Checkpoint,
    *,
    shard_bytes: int = SHARD_BYTES,
    shards: Mapping[str, Sequence[str]] | None = None,
    files: Path | None = None,
) -> None:
    """As `run`, into a folder that the caller has staged and puts more into, in files as `shards` lays them out."""
    weight_map.check(source.names)
    shapes, dtypes = weight_map.shapes(source.shapes), weight_map.dtypes(source.dtypes)
    total = sum(math.prod(shapes[n]) * DTYPE_BYTES[dtypes[n]] for n in shapes)
    with bar("weights", total, unit="bytes") as advance:
        maker = _Maker(source, FittedFiles(files).read, advance)
        tensors = (
            Outgoing(name, dtypes[name], shapes[name], functools.partial(maker.pieces, expr))
            for name, expr in weight_map.params.items()
        )
        if shards is None:
            write_tensors(folder, tensors, shard_bytes=shard_bytes)
        else:
            write_shards(folder, tensors, shards)


class _Maker:
    """Makes the values of new parameters from a source, block by block."""

    def __init__(
        self,
        source: Checkpoint,
        read_file: Callable[[w.File], Tensor],
        advance: Callable[[int], None],
    ) -> None:
        self.source, self.read_file, self.advance = source, read_file, advance

    def pieces(self, expr: w.WeightExpr) -> Iterator[Tensor | Bits | Block]:
        """The value of `expr` as blocks of rows; at once where it is small, or large and has to be made whole."""
        blocks = self.blocks(expr)
        if len(blocks) == 1 and not SMALL_BYTES <= self.nbytes(blocks[0]) <= BLOCK_BYTES:
            yield self.made(blocks[0])
            return
        for block in blocks:
            yield Block(self.nbytes(block), functools.partial(self.made, block))

    def made(self, expr: w.WeightExpr) -> Tensor | Bits:
        """The value of a block; torch is for those that are computed."""
        value: Tensor | Bits
        if only_moves(expr):
            value = moved(expr, self.source.read_bits)
        else:
            from archc.ir.weight_eval import evaluate

            value = evaluate(expr, self.source.read, self.read_file)
        self.advance(value.nbytes)
        return value

    def blocks(self, expr: w.WeightExpr) -> list[w.WeightExpr]:
        """Normalised expressions of the row blocks of `expr`: one when it is small or several would read much twice."""
        normaliser = Normaliser(self.source.shapes)
        expr = normaliser.run(expr)
        shape, nbytes = w.shape(expr, self.source.shapes), self.nbytes(expr)
        if not shape or nbytes <= BLOCK_BYTES:
            return [expr]
        rows = max(BLOCK_BYTES * shape[0] // nbytes, 1)
        starts = range(0, shape[0], rows)
        blocks = [normaliser.take(expr, 0, Index(range(a, min(a + rows, shape[0])))) for a in starts]
        return blocks if sum(map(self.cost, blocks)) <= REREAD * self.cost(expr) else [expr]

    def nbytes(self, expr: w.WeightExpr) -> int:
        """Bytes of the value of `expr`."""
        return math.prod(w.shape(expr, self.source.shapes)) * DTYPE_BYTES[w.dtype(expr, self.source.dtypes)]

    def cost(self, expr: w.WeightExpr) -> int:
        """Bytes that evaluating `expr` reads or draws."""
        given = (leaf for leaf in w.leaves(expr) if isinstance(leaf, w.Init | w.File))
        drawn = sum(math.prod(leaf.shape) * DTYPE_BYTES[leaf.dtype] for leaf in given)
        return drawn + sum(_read_bytes(self.source.stored(name), rows) for name, rows in w.leaf_reads(expr))


def _read_bytes(stored: Stored, rows: Index | None) -> int:
    return stored.nbytes if rows is None else len(rows) * stored.row_bytes


class FittedFiles:
    """Tensors fitted on data, in safetensors files below one folder, each file checked against its hash once."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self._verified: dict[tuple[str, str], Mapping[str, Stored]] = {}

    def read(self, leaf: w.File) -> Tensor:
        """The tensor of a `File` leaf. Raises WeightError when it is not what the leaf says."""
        key = (leaf.path, leaf.sha256)
        if key not in self._verified:
            self._verified[key] = self._open(leaf)
        tensors = self._verified[key]
        if leaf.key not in tensors:
            raise WeightError(f"{leaf.path} has no tensor `{leaf.key}`{suggestion(leaf.key, tensors)}")
        stored = tensors[leaf.key]
        if (stored.shape, stored.dtype) != (leaf.shape, leaf.dtype):
            raise WeightError(
                f"{leaf.path}: `{leaf.key}` is {stored.dtype} {list(stored.shape)}, "
                f"expected {leaf.dtype} {list(leaf.shape)}"
            )
        return stored.read()

    def _open(self, leaf: w.File) -> Mapping[str, Stored]:
        if self.root is None:
            raise WeightError(f"the map takes `{leaf.key}` from {leaf.path}: say in which folder that lies")
        file = (self.root / leaf.path).resolve()
        if not file.is_relative_to(self.root.resolve()) or not file.is_file():
            raise WeightError(f"{leaf.path}: no such file below {self.root}")
        digest = file_sha256(file)
        if digest != leaf.sha256:
            raise WeightError(f"{file}: its sha256 is {digest}, the map was made with {leaf.sha256}")
        return {t.name: t for t in read_header(file)}


def file_sha256(file: Path) -> str:
    """The sha256 of a whole file, in hex: what fitted tensors and scores are named by."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
