"""The safetensors file format: header length, JSON header, raw bytes.

Read and written here rather than through the safetensors package for two reasons. Its reader maps whole shards
(each page touched stays in the process: 465 MB resident after slicing a 400 MB file in pieces), where a streaming run
must stay bounded; and it reports the first thing wrong with a header, where we report all of them. Its writer wants
every tensor of a shard in memory.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archc.ir.weight_formats import DTYPE_BYTES, Shape
from archc.ir.weight_index import Index
from archc.ir.weight_moves import Bits, empty
from archc.kernels.errors import WeightError

if TYPE_CHECKING:
    from torch import Tensor

# Our storage types by the codes of the format.
CODES: Mapping[str, str] = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16",
    "F8_E4M3": "fp8", "F8_E5M2": "fp8_e5m2", "F8_E8M0": "fp8_e8m0",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
CODE_OF = {name: code for code, name in CODES.items()}

METADATA = "__metadata__"
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors package
MAX_RANK = 64  # of a torch tensor
WORKERS = 3  # threads that make and write blocks: more than cores, for they wait for the disk and for each other
# RWF_DONTCACHE (Linux 6.14): written to the disk at once and then not kept in the page cache. A stream of gigabytes
# would push out what others have there, and fresh pages for it took longer than to copy into them.
UNCACHED = 0x80
SKIPPED = memoryview(bytearray(2**16))  # where the bytes between the rows of one read go; nobody looks at them
MAX_BUFFERS = os.sysconf("SC_IOV_MAX")  # of one read


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: `start` is its first byte, counted from the start of the file."""

    file: Path
    name: str
    dtype: str
    shape: Shape
    start: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one position of the first axis."""
        return math.prod(self.shape[1:]) * DTYPE_BYTES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]

    def read(self, rows: Index | None = None) -> Tensor:
        """The tensor, or `rows` of its first axis in their order (they may repeat); reads little else."""
        from archc.ir.weight_eval import from_bits

        return from_bits(self.read_bits(rows), self.dtype)

    def read_bits(self, rows: Index | None = None) -> Bits:
        """As `read`, in numpy: its elements as integers of their size."""
        if rows is not None and (not self.shape or rows.end > self.shape[0]):
            raise WeightError(f"{self.file}: `{self.name}` of shape {list(self.shape)} has no row {rows.end - 1}")
        shape = self.shape if rows is None else (len(rows), *self.shape[1:])
        value = empty(shape, self.dtype)
        with self.file.open("rb", buffering=0) as f:
            for start, targets in self._reads(rows, value.reshape(-1).view(np.uint8).data):
                self._fill(f.fileno(), targets, start)
        return value

    def _reads(self, rows: Index | None, target: memoryview) -> Iterator[tuple[int, list[memoryview]]]:
        """(offset in the file, buffers for the bytes from there) of each read.

        Rows near each other share one with what lies between them: to skip that takes longer than to copy it."""
        if rows is None:
            yield self.start, [target]
            return
        first = np.flatnonzero(np.diff(rows.positions, prepend=-2) != 1)  # of every stretch of rows in a row
        starts = self.start + rows.positions[first] * self.row_bytes
        counts = np.diff(first, append=len(rows)) * self.row_bytes
        begin = end = 0
        targets: list[memoryview] = []
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            if 0 < len(targets) < MAX_BUFFERS - 1 and 0 <= start - end <= len(SKIPPED):
                targets.append(SKIPPED[: start - end])
            else:
                if targets:
                    yield begin, targets
                begin, targets = start, []
            targets.append(target[:count])
            target, end = target[count:], start + count
        if targets:
            yield begin, targets

    def _fill(self, file: int, targets: list[memoryview], start: int) -> None:
        targets = [t for t in targets if len(t)]
        while targets:
            count = os.preadv(file, targets, start)
            if not count:
                raise WeightError(f"{self.file}: ended while reading `{self.name}`; was it changed?")
            start += count
            while targets and count >= len(targets[0]):
                count -= len(targets.pop(0))
            if count:
                targets[0] = targets[0][count:]


# -- reading headers ---------------------------------------------------------------------------------------------------


def read_header(file: Path) -> list[Stored]:
    """Every tensor of a file, in the order of its bytes, without reading them.

    Raises one WeightError that names the file and lists everything wrong with it."""
    size = file.stat().st_size
    with file.open("rb") as f:
        prefix = f.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise WeightError(f"{file}: not a safetensors file, or truncated: {size} bytes, header of {length}")
        entries, problems = _parse(f.read(length))
    data_start = 8 + length
    found = []
    for name, entry in entries:
        try:
            found.append(_stored(file, name, entry, data_start))
        except WeightError as e:
            problems.append(f"{shown(name)}: {e}")
    found.sort(key=lambda t: (t.start, t.nbytes))
    problems = problems or _layout_problems(found, data_start, size)
    if problems:
        raise WeightError("\n".join(f"{file}: {p}" for p in problems))
    return found


def read_metadata(file: Path) -> dict[str, str]:
    """The texts that a file has beside its tensors; of a file that `read_header` reads."""
    with file.open("rb") as f:
        pairs = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    found = pairs.get(METADATA, {})
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _parse(header: bytes) -> tuple[list[tuple[str, Any]], list[str]]:
    """(name, entry) of every tensor as the JSON has them, and what is wrong with the JSON as a whole."""
    try:
        pairs = json.loads(header, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as e:
        return [], [f"corrupted header: {e}"]
    if not isinstance(pairs, _Object):
        return [], ["corrupted header: expected a JSON object of tensors"]
    twice = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    return [(n, e) for n, e in pairs if n != METADATA], [f"{shown(name)} stands twice in the header" for name in twice]


def shown(name: str) -> str:
    """A name from a file as messages show it: whole if harmless, else escaped and cut."""
    return f"`{name}`" if name.isprintable() and len(name) <= 200 else repr(name[:60])


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a name that stands twice is seen."""


def _stored(file: Path, name: str, entry: Any, data_start: int) -> Stored:
    fields = dict(entry) if isinstance(entry, _Object) and len(entry) == 3 else {}
    if fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightError("expected dtype, shape and data_offsets")
    if not name.isprintable():
        raise WeightError("a name is made of printable characters")
    code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(code, str) or code not in CODES:
        raise WeightError(f"storage type {str(code)[:20]!r} is not among {', '.join(CODES)}")
    if not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2:
        raise WeightError("shape and data_offsets are lists of integers from 0")
    if len(shape) > MAX_RANK or math.prod(max(n, 1) for n in shape) >= 2**59 or max(offsets) >= 2**63:
        raise WeightError(f"sizes overflow: shape {str(shape)[:60]}, data_offsets {str(offsets)[:60]}")
    begin, end = offsets
    nbytes = math.prod(shape) * DTYPE_BYTES[CODES[code]]
    if end - begin != nbytes:
        raise WeightError(f"{code} {shape} takes {nbytes} bytes, data_offsets {offsets} hold {end - begin}")
    return Stored(file, name, CODES[code], tuple(shape), data_start + begin)


def _is_sizes(value: Any) -> bool:
    if not isinstance(value, list) or isinstance(value, _Object):
        return False
    return all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)


def _layout_problems(found: Sequence[Stored], data_start: int, size: int) -> list[str]:
    """Overlaps, holes and a wrong length of the file; `found` is in the order of bytes."""
    at, problems = data_start, []
    for t in found:
        if t.start != at:
            where = "overlaps the tensor before it" if t.start < at else "leaves a hole before it"
            problems.append(f"`{t.name}` {where}: starts at byte {t.start}, expected {at}")
        at = max(at, t.start + t.nbytes)
    if at != size:
        kind = "truncated" if size < at else "longer than its header says"
        problems.append(f"{kind}: expected {at} bytes, has {size}")
    return problems


# -- writing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """Rows of a tensor that are yet to be made, by `make`, in any thread and whatever the order of blocks."""

    nbytes: int
    make: Callable[[], Tensor | Bits]


@dataclass(frozen=True)
class Outgoing:
    """One tensor to write: `pieces` gives its rows in order, made or to be made, when its turn comes."""

    name: str
    dtype: str
    shape: Shape
    pieces: Callable[[], Iterable[Tensor | Bits | Block]]

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> Outgoing:
        """A tensor in memory."""
        from archc.ir.weight_eval import dtype_name

        return cls(name, dtype_name(tensor), tuple(tensor.shape), lambda: (tensor,))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def write_file(file: Path, tensors: Sequence[Outgoing], metadata: Mapping[str, str]) -> None:
    """One safetensors file. Raises WeightError when a tensor turns out other than it was announced.

    Wider types come first, as the safetensors package does it, so that every tensor is aligned. A block is made and
    written by one thread, where it belongs, while others read or write theirs."""
    ordered = sorted(tensors, key=lambda t: -DTYPE_BYTES[t.dtype])
    header = _header(ordered, metadata)
    with file.open("wb", buffering=0) as f, ThreadPoolExecutor(WORKERS) as pool:
        uncached = _write_header(f.fileno(), header)
        at = len(header)
        running: deque[Future[None]] = deque()
        for tensor in ordered:
            end = at + tensor.nbytes
            for piece in tensor.pieces():
                if isinstance(piece, Block):
                    running.append(pool.submit(_write_piece, f.fileno(), tensor, piece, at, uncached))
                else:
                    _write_piece(f.fileno(), tensor, piece, at)
                at += piece.nbytes
                while len(running) > 2 * WORKERS:
                    running.popleft().result()
            if at != end:
                raise WeightError(f"`{tensor.name}` came to {at - end} bytes more than the {tensor.nbytes} announced")
        for block in running:
            block.result()


def _header(tensors: Sequence[Outgoing], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {METADATA: dict(metadata)}
    at = 0
    for t in tensors:
        end = at + t.nbytes
        entries[t.name] = {"dtype": CODE_OF[t.dtype], "shape": list(t.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_header(file: int, header: bytes) -> int:
    """Writes it, and gives the flag for blocks: UNCACHED, or 0 where the kernel or the file system does not have it."""
    try:
        _write(file, header, 0, UNCACHED)
    except (OSError, NotImplementedError):
        _write(file, header, 0)
        return 0
    return UNCACHED


def _write_piece(file: int, tensor: Outgoing, piece: Tensor | Bits | Block, start: int, flags: int = 0) -> None:
    value = piece.make() if isinstance(piece, Block) else piece
    bits, came = _bits(value, tensor.dtype)
    if came != tensor.dtype or tuple(value.shape[1:]) != tensor.shape[1:] or value.nbytes != piece.nbytes:
        raise WeightError(
            f"`{tensor.name}` came as {came} {list(value.shape)}, {piece.nbytes} bytes of "
            f"{tensor.dtype} {list(tensor.shape)} were announced"
        )
    _write(file, np.ascontiguousarray(bits).reshape(-1).view(np.uint8).data, start, flags)


def _bits(value: Tensor | Bits, announced: str) -> tuple[Bits, str]:
    """The bits of a value and its storage type, which bits alone do not tell beyond its size."""
    if isinstance(value, np.ndarray):
        return value, announced if value.itemsize == DTYPE_BYTES[announced] else f"{value.itemsize} bytes each"
    from archc.ir.weight_eval import dtype_name, to_bits

    return to_bits(value), dtype_name(value)


def _write(file: int, data: bytes | memoryview, start: int, flags: int = 0) -> None:
    """All of `data`, which one call may not take (2 GiB are too many)."""
    rest = memoryview(data)
    while rest:
        count = os.pwritev(file, [rest], start, flags)
        rest, start = rest[count:], start + count
