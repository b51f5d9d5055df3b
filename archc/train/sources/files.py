"""Files of a source: which ones there are, their lines, their hashes."""

from __future__ import annotations

import codecs
import glob
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from archc.kernels.errors import ArchcError, Place
from archc.train.corpus import cache_folder
from archc.train.sources.reading import Reading

LONGEST_LINE = 64 * 2**20
BLOCK = 2**20
_SETTLED_S = 2.0  # a file that changed later than this may change again without its time telling


def find_files(places: tuple[str, ...] | str, pattern: str) -> list[Path]:
    """The files that places name: files themselves, what lies in folders and below and fits `pattern`, and globs."""
    found: list[Path] = []
    for place in (places,) if isinstance(places, str) else places:
        here = list(_expanded(place, pattern))
        if not here:
            what = f"no file `{pattern}` in the folder" if Path(place).is_dir() else "no such file or folder"
            raise ArchcError(f"{place}: {what}")
        found += here
    return found


def _expanded(place: str, pattern: str) -> Iterator[Path]:
    path = Path(place)
    if path.is_dir():
        yield from (file for file in sorted(path.rglob(pattern)) if file.is_file())
    elif path.exists():
        yield path
    else:
        yield from (Path(name) for name in sorted(glob.glob(place, recursive=True)) if Path(name).is_file())


def total_size(files: Iterable[Path]) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in files)


def blocks(path: Path, reading: Reading) -> Iterator[str]:
    """A UTF-8 file in blocks that end where lines do, a very long line in several. Bad lines are told and left out."""
    number, kept = 1, b""
    with path.open("rb") as file:
        while block := file.read(BLOCK) + file.readline(BLOCK):
            reading.advance(len(block))
            if number == 1 and not kept:
                block = block.removeprefix(codecs.BOM_UTF8)
            whole = block.endswith(b"\n") or len(block) < BLOCK
            block, kept = kept + block, b""
            try:
                text, used = codecs.utf_8_decode(block, "strict", whole)
                kept = block[used:]
            except UnicodeDecodeError:
                text = "".join(_good_lines(path, number, block, reading))
            if text:
                yield text
            number += block.count(b"\n")
    if kept:
        list(_good_lines(path, number, kept, reading))


def _good_lines(path: Path, number: int, block: bytes, reading: Reading) -> Iterator[str]:
    """The lines of a block, of which some are no UTF-8."""
    for offset, line in enumerate(block.split(b"\n")):
        try:
            yield line.decode("utf-8") + "\n" * (offset < block.count(b"\n"))
        except UnicodeDecodeError as error:
            _not_utf8(Place(str(path), number + offset), error, reading)


def lines(path: Path, reading: Reading) -> Iterator[tuple[Place, str]]:
    """The lines of a UTF-8 file without their ends; bad ones and empty ones are told and left out."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE):
            number += 1
            reading.advance(len(raw))
            at = Place(str(path), number)
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                raise ArchcError(f"{at}: a line of more than {LONGEST_LINE} bytes")
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            try:
                text = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                _not_utf8(at, error, reading)
                continue
            if text.strip():
                yield at, text
            else:
                reading.bad(at, "empty document")


def _not_utf8(at: Place, error: UnicodeDecodeError, reading: Reading) -> None:
    reading.bad(at, "invalid UTF-8", f"byte 0x{error.object[error.start]:02x}, byte {error.start + 1} of the line")


def file_hash(path: Path) -> str:
    """sha256 of a file, remembered in the cache folder as long as size, time and inode stay."""
    path = path.resolve()
    stat = path.stat()
    key = hashlib.sha256(repr((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)).encode()).hexdigest()
    remembered = cache_folder() / "hashes" / key
    if remembered.is_file():
        return remembered.read_text(encoding="ascii")
    with path.open("rb") as file:
        made = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - stat.st_mtime > _SETTLED_S and path.stat().st_mtime_ns == stat.st_mtime_ns:
        _remember(remembered, made)
    return made


def _remember(place: Path, text: str) -> None:
    """Write for the next time, atomically; a cache that cannot be written costs time, nothing else."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{place.name}.{os.getpid()}")
        partial.write_text(text, encoding="ascii")
        partial.replace(place)
    except OSError:
        return
