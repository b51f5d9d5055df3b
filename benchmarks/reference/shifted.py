"""Shifted text for the reference experiment: the code of the standard library, without the docstrings that its usual
corpus is made of. Modules are chosen and held out by a hash of their names, as they are there."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from archc.train.corpus import Corpus, Document, split

_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "pydoc_data", "lib2to3"}
_SHARE = 45  # of a hundred modules: some two million characters, as the usual corpus has
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_corpus() -> Corpus:
    """Modules as they print without docstrings and comments."""
    return split(_modules(Path(sysconfig.get_path("stdlib"))))


def written(corpus: Corpus, folder: Path) -> Path:
    """The corpus as `train/*.txt` and `held_out/*.txt` below a folder, unless it is there."""
    done = folder / "sha256"
    if done.is_file() and done.read_text() == corpus.sha256:
        return folder
    for part, documents in (("train", corpus.train), ("held_out", corpus.held_out)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for document in documents:
            (folder / part / f"{document.name}.txt").write_text(document.text, encoding="utf-8")
    done.write_text(corpus.sha256)
    return folder


def _modules(root: Path) -> Iterator[Document]:
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        name = ".".join(relative.with_suffix("").parts)
        if (
            _SKIPPED.intersection(relative.parts[:-1])
            or hashlib.sha256(name.encode()).digest()[4] * 100 >= _SHARE * 256
        ):
            continue
        text = _code(path)
        if text:
            yield Document(name, text)


def _code(path: Path) -> str:
    """Nothing for a file that is not valid Python, as templates are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return ""
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    text = ast.unparse(ast.fix_missing_locations(tree))
    return text.encode("utf-8", "ignore").decode()
