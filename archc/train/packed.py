"""Documents as tokens on disk, end to end: built once, memory-mapped, refused when they are not what they were.

manifest.json      what it was made from (hashes), how much there is, what was skipped
tokens-NNNNN.bin   token ids, uint16 or uint32, as many in each file but the last
learn-NNNNN.bin    uint8 beside them where some tokens are not learnt (chats): 1 is learnt
documents.bin      int64: where each document starts
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from archc.kernels.errors import ArchcError
from archc.train.corpus import cache_folder

if TYPE_CHECKING:
    from archc.train.sources import OnBad, Source
    from archc.train.tokenizers import Tokenizer

MANIFEST = "manifest.json"
DOCUMENTS = "documents.bin"
VERSION = 1

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a packed dataset is and was made from."""

    version: int
    source: str  # hash of the source: of its data and options
    about: str  # the source in words
    tokenizer: str  # hash of the tokenizer
    on_bad: str
    vocab: int
    dtype: str
    shard_tokens: int
    documents: int
    tokens: int
    learnt: int  # tokens that are learnt: all but those of prompts
    text_bytes: int  # UTF-8 bytes of the texts, marks left out
    skipped: dict[str, dict[str, int]]  # file: reason: count
    sizes: dict[str, int]  # bytes of each file
    content: str  # sha256 of tokens, learnt ones and document starts


class PackedDataset:
    """A folder of packed documents, opened."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.starts: Array = _mapped(folder / DOCUMENTS, "int64")  # of documents
        self._tokens = self._shards("tokens", manifest.dtype)
        self._learn = self._shards("learn", "uint8")

    # -- making and finding --------------------------------------------------------------------------------------------

    @staticmethod
    def build(
        source: Source, tokenizer: Tokenizer, folder: str | Path, *, on_bad: OnBad = "stop", progress: bool = True
    ) -> PackedDataset:
        """Tokenise a source into a new folder, whole or not at all; one that is there already is opened if it is that.

        Of several processes that ask for a folder one builds it and the others wait.
        Raises DataError for a bad line unless `on_bad` skips it, ArchcError for a folder that is something else.
        """
        from archc.train.packing import pack

        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            with _staged(folder) as partial:
                if partial is not None:
                    manifest = pack(source, tokenizer, partial, on_bad=on_bad, progress=progress)
                    (partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
        return PackedDataset.open(folder, source=source, tokenizer=tokenizer, on_bad=on_bad)

    @staticmethod
    def cached(
        source: Source,
        tokenizer: Tokenizer,
        *,
        on_bad: OnBad = "stop",
        cache: Path | None = None,
        progress: bool = True,
    ) -> PackedDataset:
        """The packed documents of a source, found by their hash in a cache folder or built into it."""
        key = hashlib.sha256(repr((VERSION, source.hash, tokenizer.hash, on_bad)).encode()).hexdigest()[:24]
        folder = (cache or cache_folder()) / "packed" / f"{source.name}-{key}"
        return PackedDataset.build(source, tokenizer, folder, on_bad=on_bad, progress=progress)

    @staticmethod
    def open(
        folder: str | Path,
        *,
        source: Source | None = None,
        tokenizer: Tokenizer | None = None,
        on_bad: OnBad | None = None,
    ) -> PackedDataset:
        """Open a folder. Raises ArchcError where files are missing, cut off or larger than they were, and where it was
        made from another source, by another tokenizer or by another treatment of bad lines than given."""
        folder = Path(folder)
        manifest = _read_manifest(folder)
        _check_files(folder, manifest)
        made = {"source": manifest.source, "tokenizer": manifest.tokenizer, "on_bad": manifest.on_bad}
        wanted = {
            "source": source.hash if source is not None else manifest.source,
            "tokenizer": tokenizer.hash if tokenizer is not None else manifest.tokenizer,
            "on_bad": on_bad or manifest.on_bad,
        }
        stale = [f"{name} {wanted[name][:12]}, it has {made[name][:12]}" for name in made if made[name] != wanted[name]]
        if stale:
            raise ArchcError(f"{folder}: stale: expected {'; '.join(stale)}: remove the folder to build it anew")
        return PackedDataset(folder, manifest)

    # -- what is in it -------------------------------------------------------------------------------------------------

    @property
    def hash(self) -> str:
        """Identity of the tokens, documents and what is learnt."""
        return self.manifest.content

    def __len__(self) -> int:
        """Tokens."""
        return self.manifest.tokens

    def tokens(self, start: int, stop: int) -> Array:
        """Token ids from `start` to `stop`."""
        return self._read(self._tokens, start, stop)

    def learn(self, start: int, stop: int) -> Array | None:
        """Which of these tokens are learnt, uint8; None where all are."""
        return self._read(self._learn, start, stop) if self._learn else None

    def segments(self, start: int, stop: int) -> Array:
        """Which document each of these tokens is of, counted from the first of them: int32."""
        first, last = np.searchsorted(self.starts, (start, stop - 1), side="right")
        bounds = np.concatenate([self.starts[first:last] - start, [stop - start]])
        return np.repeat(np.arange(len(bounds), dtype=np.int32), np.diff(bounds, prepend=0))

    def document(self, number: int) -> Array:
        """Token ids of a document."""
        stop = self.starts[number + 1] if number + 1 < len(self.starts) else len(self)
        return self.tokens(int(self.starts[number]), int(stop))

    def _shards(self, kind: str, dtype: str) -> Sequence[Array]:
        names = sorted(name for name in self.manifest.sizes if name.startswith(f"{kind}-"))
        return [_mapped(self.folder / name, dtype) for name in names]

    def _read(self, shards: Sequence[Array], start: int, stop: int) -> Array:
        size = self.manifest.shard_tokens
        number, at = divmod(start, size)
        if stop <= (number + 1) * size:
            return shards[number][at : at + stop - start]
        cuts = [start, *range((number + 1) * size, stop, size), stop]
        return np.concatenate([self._read(shards, a, b) for a, b in itertools.pairwise(cuts)])


def _mapped(file: Path, dtype: str) -> Array:
    """A file as an array, read where it is looked at; a plain one, which is quicker to cut than a memmap."""
    return np.asarray(np.memmap(file, dtype=dtype, mode="r"))


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path | None]:
    """A folder to write into, which becomes `folder` when the block ends well; None if another process made that."""
    from filelock import FileLock  # torch needs it, too

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / MANIFEST).is_file():
            yield None
            return
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ArchcError(f"{folder}: exists and is not a packed dataset")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            yield partial
            partial.rename(folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, error.filename or str(folder)) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _read_manifest(folder: Path) -> Manifest:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArchcError(f"{folder}: not a packed dataset, it has no {MANIFEST}") from None
    except ValueError as error:
        raise ArchcError(f"{folder / MANIFEST}: corrupted: {error}: remove the folder to build it anew") from error
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise ArchcError(f"{folder}: version {version} of the format, expected {VERSION}: remove it to build it anew")
    with contextlib.suppress(TypeError):
        return Manifest(**found)
    fault = sorted({f.name for f in fields(Manifest)} ^ set(found))
    raise ArchcError(f"{folder / MANIFEST}: corrupted: {', '.join(fault)}: remove the folder to build it anew")


def _check_files(folder: Path, manifest: Manifest) -> None:
    wrong = []
    for name, size in manifest.sizes.items():
        file = folder / name
        got = file.stat().st_size if file.is_file() else None
        if got != size:
            wrong.append(f"{name} {'is missing' if got is None else f'has {got} bytes, expected {size}'}")
    if wrong:
        raise ArchcError(f"{folder}: damaged: {'; '.join(wrong)}: remove the folder to build it anew")
