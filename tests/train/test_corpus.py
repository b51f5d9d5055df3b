"""The corpus is text, without repeats, split by module, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archc.train import corpus as module
from archc.train.corpus import Corpus, Document, deduplicated, docstring_documents, split, standard_library_corpus


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A little library with a nested module, a test suite and a file that is not Python."""
    files = {
        "alpha.py": '"""Alpha does it."""\n\ndef f():\n    """Do\n\n        it.\n    """\n',
        "package/__init__.py": '"""A package."""\n',
        "package/beta.py": 'class B:\n    """Beta holds.\n\n    Alpha does it.\n    """\n',
        "package/tests/test_beta.py": '"""Not this."""\n',
        "site-packages/other.py": '"""Nor this."""\n',
        "template.py": "def ${name}(): pass\n",
        "empty.py": "x = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_documents_are_modules_with_docstrings(library: Path) -> None:
    assert list(docstring_documents(library)) == [
        Document("alpha", "Alpha does it.\n\nDo\n\nit."),
        Document("package", "A package."),
        Document("package.beta", "Beta holds.\n\nAlpha does it."),
    ]


def test_a_paragraph_is_kept_where_it_first_appears(library: Path) -> None:
    assert deduplicated(docstring_documents(library))[-1] == Document("package.beta", "Beta holds.")


def test_the_split_depends_on_names_alone() -> None:
    documents = [Document(f"module{i}", f"text {i}") for i in range(2000)]
    parts = split(documents)
    assert split(reversed(documents)).held_out[::-1] == parts.held_out
    assert 60 <= len(parts.held_out) <= 140
    assert {*parts.train, *parts.held_out} == set(documents)


def test_sha256_tells_texts_and_splits_apart() -> None:
    a, b = Document("a", "one"), Document("b", "two")
    variants = [Corpus((a, b), ()), Corpus((a,), (b,)), Corpus((b, a), ()), Corpus((a,), (Document("b", "too"),))]
    assert len({c.sha256 for c in variants}) == len(variants)


def test_the_cache_is_used_until_it_is_damaged(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(module.sysconfig, "get_path", lambda name: str(library))
    built = standard_library_corpus(cache=cache)
    (file,) = cache.iterdir()

    (library / "alpha.py").write_text('"""Changed."""')
    assert standard_library_corpus(cache=cache) == built

    stored = json.loads(file.read_text())
    stored["train"][0]["text"] = "tampered"
    file.write_text(json.dumps(stored))
    rebuilt = standard_library_corpus(cache=cache)
    assert "tampered" not in str(rebuilt)
    assert "Changed." in str(rebuilt)


@pytest.mark.slow
def test_the_corpus_of_this_python_is_large_and_clean(tmp_path: Path) -> None:
    corpus = standard_library_corpus(cache=tmp_path)
    size = {part: sum(len(d.text) for d in getattr(corpus, part)) for part in ("train", "held_out")}
    assert size["train"] > 1_000_000
    assert 0.02 < size["held_out"] / size["train"] < 0.10
    paragraphs = [" ".join(p.split()) for d in (*corpus.train, *corpus.held_out) for p in d.text.split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs)
    assert not {d.name for d in corpus.train} & {d.name for d in corpus.held_out}
