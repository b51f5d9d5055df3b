"""Checkpoint folders: safetensors shards read lazily, written whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.hub.outputs import check_target
from archc.hub.safetensors_io import METADATA, Outgoing, Stored, read_header, write_file
from archc.ir.weight_formats import Shape
from archc.ir.weight_index import Index
from archc.ir.weight_moves import Bits
from archc.kernels.errors import WeightError, suggestion

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # as transformers long had it


class Checkpoint:
    """The tensors of a folder: names, shapes and storage types at once, values when asked for.

    The folder holds an index and its shards, or `model.safetensors`, or any safetensors files without an index.
    Raises one WeightError that lists everything wrong with the files."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        files, weight_map = _files(self.directory)
        self._stored = _collect(files, weight_map)

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape by name."""
        return {name: t.shape for name, t in self._stored.items()}

    @functools.cached_property
    def dtypes(self) -> dict[str, str]:
        """Storage type by name."""
        return {name: t.dtype for name, t in self._stored.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the files."""
        return tuple(self._stored)

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self._stored.values())

    @property
    def shards(self) -> dict[str, list[str]]:
        """The tensors of each file, by the file's name."""
        found: dict[str, list[str]] = {}
        for name, t in self._stored.items():
            found.setdefault(t.file.name, []).append(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def stored(self, name: str) -> Stored:
        """Where and how a tensor is stored."""
        if name not in self._stored:
            raise WeightError(f"{self.directory} has no tensor `{name}`{suggestion(name, self._stored)}")
        return self._stored[name]

    def read(self, name: str, rows: Index | None = None) -> Tensor:
        """A tensor, or some rows of its first axis; reads nothing else from the disk."""
        return self.stored(name).read(rows)

    def read_bits(self, name: str, rows: Index | None = None) -> Bits:
        """As `read`, in numpy: elements as integers of their size."""
        return self.stored(name).read_bits(rows)


# -- opening -----------------------------------------------------------------------------------------------------------


def _files(directory: Path) -> tuple[list[Path], Mapping[str, str] | None]:
    """The files of a checkpoint and, where an index says it, which tensor lies in which."""
    if not directory.is_dir():
        raise WeightError(f"{directory}: no such folder")
    index, single = directory / INDEX, directory / SINGLE
    if index.is_file():
        weight_map = _read_index(index)
        shards = sorted(set(weight_map.values()))
        if single.is_file() and SINGLE not in shards:
            raise WeightError(f"{directory}: has both {SINGLE} and an index of other files; remove one of them")
        missing = [s for s in shards if not (directory / s).is_file()]
        if missing:
            raise WeightError("\n".join(f"{index}: names the shard {s}, which is not there" for s in missing))
        return [directory / s for s in shards], weight_map
    files = [single] if single.is_file() else sorted(directory.glob("*.safetensors"))
    if not files:
        raise WeightError(f"{directory}: expected {SINGLE}, {INDEX} or other safetensors files")
    return files, None


def _read_index(index: Path) -> dict[str, str]:
    try:
        document = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as e:
        raise WeightError(f"{index}: corrupted: {e}") from None
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightError(f"{index}: expected an object `weight_map` from tensor names to files")
    wrong = sorted({str(shard)[:80] for shard in weight_map.values() if not is_file_name(shard)})
    if wrong:
        raise WeightError(
            "\n".join(f"{index}: {shard!r} is not the name of a safetensors file here" for shard in wrong)
        )
    return weight_map


def is_file_name(shard: Any) -> bool:
    """Whether this may name a shard: a plain file name, so that nothing outside the folder is opened or written."""
    if not isinstance(shard, str) or not shard.endswith(".safetensors"):
        return False
    return shard.isprintable() and not any(c in shard for c in "/\\:") and not shard.startswith(".")


def _collect(files: Sequence[Path], weight_map: Mapping[str, str] | None) -> dict[str, Stored]:
    """Every tensor of the files by name, held against the index. Lists all problems of all files."""
    found: list[Stored] = []
    problems: list[str] = []
    for file in files:
        try:
            found.extend(read_header(file))
        except WeightError as e:
            problems.append(str(e))
    if not problems:
        problems = _duplicates(found) + ([] if weight_map is None else _index_problems(found, weight_map))
    if problems:
        raise WeightError("\n".join(problems))
    return {t.name: t for t in found}


def _duplicates(found: Sequence[Stored]) -> list[str]:
    times = Counter(t.name for t in found)
    return [
        f"{t.file}: tensor `{t.name}` stands in {times[t.name]} files, expected one" for t in found if times[t.name] > 1
    ]


def _index_problems(found: Sequence[Stored], weight_map: Mapping[str, str]) -> list[str]:
    there = {(t.name, t.file.name) for t in found}
    named = set(weight_map.items())
    missing = [f"{INDEX}: names `{n}` in {shard}, which does not have it" for n, shard in sorted(named - there)]
    return missing + [f"{shard}: has `{n}`, which {INDEX} does not name there" for n, shard in sorted(there - named)]


# -- writing -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def staged(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder beside `target` to write into, which becomes `target` when the block ends well and else is removed.

    Raises ArchcError for a target that is there, unless it is an empty folder, or an output that `overwrite` says to
    replace (`check_target`)."""
    target = Path(target).absolute()
    check_target(target, overwrite)
    created = [p for p in target.parents if not p.exists()]
    staging = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    staging.mkdir(parents=True)
    try:
        yield staging
        _become(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in created:
                parent.rmdir()
        raise


def _become(staging: Path, target: Path) -> None:
    """Rename, with what lay there before moved out of the way and removed last."""
    if not target.exists():
        staging.rename(target)
        return
    old = staging.with_suffix(".replaced")
    target.rename(old)
    try:
        staging.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def write_tensors(
    directory: Path,
    tensors: Iterable[Outgoing],
    *,
    shard_bytes: int = SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Shards of at most `shard_bytes` (one tensor alone may be larger) and, for several, their index.

    Raises WeightError for a name that comes twice. Write into a `staged` folder: an error leaves what is there."""
    weight_map: dict[str, int] = {}
    total = shards = 0
    for shards, batch in enumerate(_batches(tensors, shard_bytes), start=1):
        for t in batch:
            if t.name in weight_map or t.name == METADATA:
                raise WeightError(f"tensor `{t.name}` comes twice, or has a name that the format keeps for itself")
            weight_map[t.name] = shards
        write_file(directory / _shard_name(shards, 0), batch, {"format": "pt", **(metadata or {})})
        total += sum(t.nbytes for t in batch)
    for i in range(1, shards + 1):
        (directory / _shard_name(i, 0)).rename(directory / _shard_name(i, shards))
    _write_index(directory, {name: _shard_name(i, shards) for name, i in weight_map.items()}, total)


def write_shards(directory: Path, tensors: Iterable[Outgoing], shards: Mapping[str, Sequence[str]]) -> None:
    """Files as `shards` lays them out, which names the tensors of each, and their index where there are several.

    Raises WeightError where those are not the tensors to write."""
    given = {t.name: t for t in tensors}
    if sorted(given) != sorted(name for names in shards.values() for name in names):
        raise WeightError(f"{directory}: the shards do not hold each of the {len(given)} tensors to write once")
    for file, names in shards.items():
        write_file(directory / file, [given[name] for name in names], {"format": "pt"})
    weight_map = {name: file for file, names in shards.items() for name in names}
    _write_index(directory, weight_map, sum(t.nbytes for t in given.values()))


def _write_index(directory: Path, weight_map: Mapping[str, str], total_bytes: int) -> None:
    """The index, which one file of the usual name goes without."""
    if set(weight_map.values()) - {SINGLE}:
        document = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (directory / INDEX).write_text(json.dumps(document, indent=2) + "\n")


def _shard_name(number: int, of: int) -> str:
    return SINGLE if of == 1 else f"model-{number:05d}-of-{of:05d}.safetensors"


def _batches(tensors: Iterable[Outgoing], shard_bytes: int) -> Iterator[list[Outgoing]]:
    """The tensors in groups that fill a shard each; one group, maybe empty, at least."""
    batch: list[Outgoing] = []
    size = 0
    for t in tensors:
        if batch and size + t.nbytes > shard_bytes:
            yield batch
            batch, size = [], 0
        batch.append(t)
        size += t.nbytes
    yield batch


def write_checkpoint(
    directory: str | Path,
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    *,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
) -> None:
    """A checkpoint folder from tensors in memory, or from an iterator that makes them: it holds one shard at a time."""
    items = tensors.items() if isinstance(tensors, Mapping) else tensors
    with staged(directory, overwrite=overwrite) as folder:
        write_tensors(folder, (Outgoing.of(name, t) for name, t in items), shard_bytes=shard_bytes)
