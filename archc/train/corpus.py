"""English text that every machine has: docstrings of the Python standard library, and `pydoc_data.topics`.

About 1.8 MB. It differs a little between Python releases, so the corpus carries a sha256 that runs record. A document
is one module (or one help topic); a paragraph that appears twice is kept once; whole modules are held out.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from archc.kernels.errors import ArchcError

HELD_OUT_PERCENT = 5
_RULES = 1  # raised whenever the text these rules produce changes: it names the cache file
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Document:
    """The text of one module or topic."""

    name: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Documents to train on and documents of other modules to measure on."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]

    @property
    def sha256(self) -> str:
        """Identity of the whole text and of the split."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            for document in part:
                digest.update(f"{document.name}\0{document.text}\0".encode("utf-8", "surrogatepass"))
            digest.update(b"\1")
        return digest.hexdigest()


def standard_library_corpus(*, cache: Path | None = None) -> Corpus:
    """The corpus of this Python, from `cache` (default: archc's cache folder) when it was built before."""
    path = (cache or cache_folder()) / f"stdlib-{sys.version.split()[0]}-{_RULES}.json"
    stored = _read(path)
    if stored is not None:
        return stored
    corpus = split(deduplicated([*docstring_documents(Path(sysconfig.get_path("stdlib"))), *topic_documents()]))
    if not corpus.train or not corpus.held_out:
        raise ArchcError("this Python has no docstrings to train on: its standard library has no .py files")
    _write(path, corpus)
    return corpus


def cache_folder() -> Path:
    """`$ARCHC_CACHE`, else `$XDG_CACHE_HOME/archc`, else `~/.cache/archc`."""
    own = os.environ.get("ARCHC_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archc"


def docstring_documents(root: Path) -> Iterator[Document]:
    """One document per module under `root` that has docstrings, in path order; test suites are left out."""
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _SKIPPED_FOLDERS.intersection(relative.parts[:-1]):
            continue
        text = "\n\n".join(_docstrings(path))
        if text:
            yield Document(".".join(relative.with_suffix("").parts).removesuffix(".__init__"), text)


def topic_documents() -> Iterator[Document]:
    """One document per help topic of `pydoc_data.topics`, if this Python has it."""
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:
        return
    for name, text in sorted(topics.items()):
        yield Document(f"pydoc_data.topics.{name}", text)


def deduplicated(documents: Iterable[Document]) -> list[Document]:
    """The documents with each paragraph kept where it first appears, whatever its spacing.

    >>> deduplicated([Document("a", "One.\\n\\nTwo."), Document("b", "Two.\\n\\nThree."), Document("c", " One. ")])
    [Document(name='a', text='One.\\n\\nTwo.'), Document(name='b', text='Three.')]
    """
    seen: set[str] = set()
    kept = []
    for document in documents:
        fresh = []
        for paragraph in re.split(r"\n\s*\n", document.text):
            key = " ".join(paragraph.split())
            if key and key not in seen:
                seen.add(key)
                fresh.append(paragraph.rstrip())
        if fresh:
            kept.append(Document(document.name, "\n\n".join(fresh)))
    return kept


def split(documents: Iterable[Document]) -> Corpus:
    """Hold out about HELD_OUT_PERCENT of the modules, chosen by a hash of their names alone."""
    parts: dict[bool, list[Document]] = {False: [], True: []}
    for document in documents:
        parts[_is_held_out(document.name)].append(document)
    return Corpus(train=tuple(parts[False]), held_out=tuple(parts[True]))


def _is_held_out(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100 < HELD_OUT_PERCENT


def _docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a source file, outer ones first; none for a file that is not valid Python, as templates are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        text = ast.get_docstring(node, clean=False) if isinstance(node, _DOCUMENTED) else None
        if text and text.strip():
            yield inspect.cleandoc(text)


def _read(path: Path) -> Corpus | None:
    """A corpus written before; None where there is none, or where the file no longer is what was written."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        corpus = Corpus(*(tuple(Document(**d) for d in stored[part]) for part in ("train", "held_out")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return corpus if corpus.sha256 == stored.get("sha256") else None


def _write(path: Path, corpus: Corpus) -> None:
    """Write for the next run, atomically; a cache that cannot be written costs time, not the run."""
    stored = {"sha256": corpus.sha256, **asdict(corpus)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(stored), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return
