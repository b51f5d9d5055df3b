"""A teacher's likeliest tokens, computed once for every sample and kept on disk: a teacher that needs no pass.

manifest.json   what they were computed from (hashes of teacher, tokenizer and stream), how many, how many bytes
ids.bin         uint16 or uint32 [samples, length, k]: the k likeliest tokens of each position
values.bin      float32 [samples, length, k]: their log-probabilities
norms.bin       float32 [samples, length, temperatures]: what makes probabilities of them at each temperature
tails.bin       float32 [samples, length, temperatures]: log-probability of all other tokens at each temperature

Building goes on where it was cut off, in `.NAME.partial` beside the folder, which is renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archc.hub.weights import weights_of
from archc.kernels.errors import ArchcError
from archc.progress import bar
from archc.train.batch import Batch
from archc.train.corpus import cache_folder
from archc.train.losses.base import TeacherNeeds
from archc.train.losses.chunked import CHUNK_ELEMENTS
from archc.train.targets import TopK, top_k
from archc.train.teachers import LiveTeacher, Teacher, TeacherOutputs, emitted_of, weights_hash

if TYPE_CHECKING:
    from archc.train.stream import Stream

VERSION = 1
MANIFEST, DONE = "manifest.json", "done"
_SAVE_S = 2.0  # what a killed building loses at most

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a cache holds and was computed from; `teacher`, `tokenizer` and `stream` are hashes."""

    version: int = VERSION
    teacher: str
    precision: str
    tokenizer: str
    stream: str
    samples: int
    length: int
    vocab: int
    k: int
    temperatures: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", tuple(self.temperatures))
        if self.samples < 1:
            raise ArchcError(f"a cache keeps samples: got {self.samples}")
        if not 0 < self.k < self.vocab:
            raise ArchcError(f"a cache keeps some tokens of a vocabulary of {self.vocab}: got top_k {self.k}")

    @property
    def hash(self) -> str:
        """Identity of a cache, to name its folder by."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    @property
    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of each array, by the name of its file."""
        ids = "uint16" if self.vocab <= 2**16 else "uint32"
        rows, kept, each = (self.samples, self.length), (self.k,), (len(self.temperatures),)
        found = {
            "ids": (ids, kept),
            "values": ("float32", kept),
            "norms": ("float32", each),
            "tails": ("float32", each),
        }
        return {f"{name}.bin": (dtype, (*rows, *last)) for name, (dtype, last) in found.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {n: np.dtype(t).itemsize * int(np.prod(s, dtype=np.int64)) for n, (t, s) in self.arrays.items()}


class TopKCache:
    """A teacher of which the likeliest tokens of numbered samples are kept. It has no hidden states and no graph."""

    graph = None
    weight_map = None

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._arrays = [np.memmap(folder / n, t, "r", shape=s) for n, (t, s) in manifest.arrays.items()]

    @classmethod
    def open(cls, folder: Path | str, wanted: Manifest) -> TopKCache:
        """The cache in a folder. Raises ArchcError that says what differs where it is not that of `wanted`, which may
        ask for fewer samples or temperatures than there are, and of other files than were written."""
        folder = Path(folder)
        found = _read_manifest(folder)
        more = {n: getattr(found, n) for n in ("samples", "temperatures") if _covers(found, wanted, n)}
        _check_same(folder, found, dataclasses.replace(wanted, **more))
        _check_files(folder, found)
        return cls(folder, found)

    @classmethod
    def build(
        cls, folder: Path | str, wanted: Manifest, teacher: Teacher, stream: Stream, *, batch: int = 8
    ) -> TopKCache:
        """The cache in a folder, computed from a live teacher where it is not there, `batch` samples at a time.

        What a building that was cut off has left is gone on with. Raises ArchcError for a folder that holds another
        cache, for the beginning of another one, and while another process builds it; OSError for a full disk.
        """
        folder = Path(folder)
        partial = folder.with_name(f".{folder.name}.partial")
        if not (folder / MANIFEST).is_file():
            partial.mkdir(parents=True, exist_ok=True)
            with _alone(partial):
                _fill(partial, wanted, teacher, stream, batch)
                partial.rename(folder)
        return cls.open(folder, wanted)

    @property
    def vocab(self) -> int:
        """The size of the teacher's vocabulary."""
        return self.manifest.vocab

    @property
    def hash(self) -> str:
        """Identity of what it holds."""
        return self.manifest.hash

    def check(self, needs: TeacherNeeds) -> None:
        """Raise ArchcError for what is not kept."""
        if needs.hidden or needs.taps:
            raise ArchcError(f"{self.folder} keeps a teacher's logits only: hidden states need it to run live")
        missing = sorted(needs.temperatures - set(self.manifest.temperatures))
        if missing:
            kept, asked = (", ".join(f"{t:g}" for t in some) for some in (self.manifest.temperatures, missing))
            raise ArchcError(f"{self.folder} is kept for temperature {kept}: got {asked}")

    def outputs(self, batch: Batch, needs: TeacherNeeds) -> TeacherOutputs:
        """What is kept of the samples of a batch. Raises ArchcError for samples that it does not hold."""
        self.check(needs)
        index = batch.index.cpu().numpy()
        if len(index) and not (index.min() >= 0 and index.max() < self.manifest.samples):
            raise ArchcError(f"{self.folder} holds samples 0 to {self.manifest.samples - 1}: got {index.max()}")
        if batch.tokens.shape[1] != self.manifest.length:
            raise ArchcError(
                f"{self.folder} holds samples of {self.manifest.length} tokens: got {batch.tokens.shape[1]}"
            )
        rows = [torch.from_numpy(np.ascontiguousarray(array[index])) for array in self._arrays]
        ids, *rest = (row.to(batch.tokens.device) for row in rows)
        return TeacherOutputs(rows=(ids.long(), *rest), targets=self._targets)

    def _targets(self, ids: Tensor, values: Tensor, norms: Tensor, tails: Tensor) -> TopK:
        return TopK(ids, values, norms, tails, self.manifest.temperatures)


def cached_teacher(
    model: Path | str,
    stream: Stream,
    *,
    tokenizer: str,
    samples: int,
    k: int,
    temperatures: Sequence[float] = (1.0,),
    dtype: str = "float32",
    device: str = "cpu",
    folder: Path | None = None,
    batch: int = 8,
) -> TopKCache:
    """The kept logits of the model in a folder on the first `samples` of a stream, computed if they are not there.

    They lie in `folder`, or in archc's cache folder under a name of their own; `tokenizer` is its hash. The model runs
    only where something is to be computed.
    """
    weights = weights_of(model)
    wanted = Manifest(
        teacher=weights_hash(weights),
        precision=dtype,
        tokenizer=tokenizer,
        stream=stream.hash,
        samples=samples,
        length=stream.length,
        vocab=weights.graph.dims["vocab"].size,
        k=k,
        temperatures=tuple(sorted(set(temperatures))),
    )
    folder = folder or cache_folder() / "topk" / wanted.hash[:24]
    if (folder / MANIFEST).is_file():
        return TopKCache.open(folder, wanted)
    teacher = LiveTeacher(weights.graph, emitted_of(weights, dtype, device), hash=wanted.teacher)
    return TopKCache.build(folder, wanted, teacher, stream, batch=batch)


# -- building ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Holds the folder for this process. Raises ArchcError where another one does."""
    held = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ArchcError(f"{partial}: another process is building it") from None
    finally:
        os.close(held)


def _fill(partial: Path, wanted: Manifest, teacher: Teacher, stream: Stream, batch: int) -> None:
    arrays, start = _begun(partial, wanted)
    saved = time.monotonic()
    with bar(f"logits of {wanted.samples} samples", wanted.samples) as advance:
        advance(start)
        for first in range(start, wanted.samples, batch):
            stop = min(first + batch, wanted.samples)
            for array, value in zip(arrays, _kept(wanted, teacher, stream.batch(range(first, stop))), strict=True):
                array[first:stop] = value
            advance(stop - first)
            if time.monotonic() - saved > _SAVE_S or stop == wanted.samples:
                _save(partial, arrays, stop)
                saved = time.monotonic()


@torch.no_grad()
def _kept(wanted: Manifest, teacher: Teacher, batch: Batch) -> list[Array]:
    """What is kept of a batch, `[batch, length, ...]` each; logits exist for a few positions at a time."""
    taught = teacher.outputs(batch, TeacherNeeds(frozenset(wanted.temperatures)))
    size = max(1, CHUNK_ELEMENTS // wanted.vocab)
    chunks = zip(*(torch.split(row.flatten(0, 1), size) for row in taught.rows), strict=True)
    each = [top_k(taught.targets(*chunk).log_probs(1.0), wanted.k, wanted.temperatures) for chunk in chunks]
    columns = zip(*((t.ids, t.values, t.norms, t.tails) for t in each), strict=True)
    return [torch.cat(column).view(*batch.tokens.shape, -1).cpu().numpy() for column in columns]


def _begun(partial: Path, wanted: Manifest) -> tuple[list[Array], int]:
    """The arrays of a building, and how many samples are done; its space on the disk is taken first."""
    if (partial / MANIFEST).is_file():
        _check_same(partial, _read_manifest(partial), wanted)
    else:
        for name, size in wanted.sizes.items():
            with (partial / name).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # writing to a map of a full disk would kill the process
        (partial / DONE).write_text("0")
        _write(partial / MANIFEST, json.dumps(asdict(wanted), indent=2) + "\n")
    _check_files(partial, wanted)
    arrays: list[Array] = [np.memmap(partial / n, t, "r+", shape=s) for n, (t, s) in wanted.arrays.items()]
    return arrays, int((partial / DONE).read_text())


def _save(partial: Path, arrays: Sequence[Array], done: int) -> None:
    for array in arrays:
        array.flush()  # type: ignore[attr-defined]
    _write(partial / DONE, str(done))


def _write(file: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    new = file.with_name(f"{file.name}.new")
    with new.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


# -- checking ----------------------------------------------------------------------------------------------------------


def _read_manifest(folder: Path) -> Manifest:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Manifest(**found)
    except FileNotFoundError:
        raise ArchcError(f"{folder}: no cache of logits, it has no {MANIFEST}") from None
    except (ValueError, TypeError) as error:
        raise ArchcError(f"{folder / MANIFEST}: corrupted: {error}: remove the folder to build it anew") from None


def _covers(found: Manifest, wanted: Manifest, name: str) -> bool:
    """Whether there are at least as many samples, or temperatures, as are wanted."""
    there, asked = getattr(found, name), getattr(wanted, name)
    return set(asked) <= set(there) if isinstance(there, tuple) else asked <= there


def _check_same(folder: Path, found: Manifest, wanted: Manifest) -> None:
    """Raise one ArchcError that says all that differs."""
    named = ((f.name, getattr(found, f.name), getattr(wanted, f.name)) for f in dataclasses.fields(Manifest))
    differ = [(name, a, b) for name, a, b in named if a != b]
    if differ:
        told = "; ".join(f"{name} {_short(a)}, this run has {_short(b)}" for name, a, b in differ)
        raise ArchcError(f"{folder}: stale: it was computed with {told}: remove it to compute it anew")


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _check_files(folder: Path, manifest: Manifest) -> None:
    wrong = []
    for name, size in manifest.sizes.items():
        got = (folder / name).stat().st_size if (folder / name).is_file() else None
        if got != size:
            wrong.append(f"{name} {'is missing' if got is None else f'has {got} bytes, expected {size}'}")
    if wrong:
        raise ArchcError(f"{folder}: damaged: {'; '.join(wrong)}: remove it to compute it anew")
