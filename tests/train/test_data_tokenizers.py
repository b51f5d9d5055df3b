"""Every kind of tokenizer file keeps one contract; the library that a file belongs to is the oracle."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archc.kernels.errors import ArchcError, MissingPackage
from archc.train.bytes import ByteTokenizer
from archc.train.tokenizers import Tokenizer, find_tokenizer, load_tokenizer, tokenizer_formats
from archc.train.tokenizers.bpe import train_bpe

TEXTS = ["The cat sat on the mat, naïvely.\n", "12345 → 猫\t'quoted'\n\n  indented", "def f(x):\n    return x + 1\n"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: "<|" not in text)


def byte_folder(folder: Path) -> None:
    ByteTokenizer().save(folder)


def bpe_folder(folder: Path) -> None:
    train_bpe(TEXTS * 3, folder, vocab=300)


def sentencepiece_folder(folder: Path, **options: object) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=299,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **options,
    )
    (folder / "tokenizer.vocab").unlink()


def tiktoken_folder(folder: Path) -> None:
    pytest.importorskip("tiktoken")
    tokens = [bytes([i]) for i in range(256)] + [b"th", b"the", b" the", b"at", b"cat"]
    lines = [b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens)]
    (folder / "tokenizer.tiktoken").write_bytes(b"".join(lines))
    special = {"<|begin|>": 261, "<|end|>": 262}
    chosen = {"pattern": "cl100k", "special_tokens": special, "begin": "<|begin|>", "end": "<|end|>"}
    (folder / "tiktoken.json").write_text(json.dumps(chosen))


FOLDERS: dict[str, Callable[[Path], None]] = {
    "bytes": byte_folder,
    "huggingface": bpe_folder,
    "sentencepiece": sentencepiece_folder,
    "tiktoken": tiktoken_folder,
}


def test_every_format_is_tested() -> None:
    assert set(FOLDERS) == {kind.name for kind in tokenizer_formats()}


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    FOLDERS[request.param](made)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=TEXT)
def test_text_comes_back_whole_and_token_by_token(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    stream = tokenizer.stream()
    assert "".join([*map(stream.feed, tokens), stream.finish()]) == text
    assert all(0 <= token < tokenizer.vocab_size for token in tokens)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(TEXT, max_size=5))
def test_many_at_once_are_the_same_as_one_by_one(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert [made.tolist() for made in tokenizer.encode_many(texts)] == [tokenizer.encode(text) for text in texts]


def test_specials_are_in_the_vocabulary_and_decode_to_nothing(tokenizer: Tokenizer) -> None:
    begin, end = tokenizer.begin, tokenizer.end
    assert begin is not None and end is not None and begin != end
    assert max(begin, end) < tokenizer.vocab_size
    assert tokenizer.decode([begin, *tokenizer.encode("cat"), end]) == "cat"


def test_a_saved_tokenizer_is_the_same_and_is_found_as_file_and_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (kind,) = [kind for kind in tokenizer_formats() if list(kind.find(tmp_path))]
    file = next(kind.find(tmp_path))
    for again in (load_tokenizer(tmp_path), find_tokenizer(str(file))):
        assert again.hash == tokenizer.hash
        assert (again.begin, again.end, again.vocab_size) == (tokenizer.begin, tokenizer.end, tokenizer.vocab_size)
        assert again.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_hashes_tell_tokenizers_apart(tmp_path: Path) -> None:
    hashes = set()
    for name, fill in FOLDERS.items():
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
        hashes.add(load_tokenizer(tmp_path / name).hash)
    settings_file = tmp_path / "tiktoken" / "tiktoken.json"
    settings_file.write_text(settings_file.read_text().replace("cl100k", "gpt2"))
    hashes.add(load_tokenizer(tmp_path / "tiktoken").hash)
    assert len(hashes) == len(FOLDERS) + 1


def test_sentencepiece_agrees_with_its_library(tmp_path: Path) -> None:
    sentencepiece_folder(tmp_path, add_dummy_prefix=False)
    engine = sys.modules["sentencepiece"].SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    tokenizer = load_tokenizer(tmp_path)
    for text in [*TEXTS, " two  spaces"]:
        assert tokenizer.decode(engine.encode(text)) == engine.decode(engine.encode(text)) == text


def test_a_model_file_of_ranks_is_tiktokens(tmp_path: Path) -> None:
    tiktoken_folder(tmp_path)
    (tmp_path / "tokenizer.tiktoken").rename(tmp_path / "tokenizer.model")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode(" the cat") == [258, 32, 260]
    assert tokenizer.encode("<|end|>") == [262]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tiktoken.json", "{}", r"has ranks only: write how text is cut into .*tiktoken.json.*cl100k"),
        ("tiktoken.json", '{"pattern": "gpt2", "end": "<|x|>"}', r"`end` names no special token: got '<\|x\|>'"),
        ("tiktoken.json", '{"pattern": "gpt2", "special_tokens": [1]}', "`special_tokens` maps texts to ids"),
        ("tokenizer.tiktoken", "YQ== 0\nnot a rank\n", r"tokenizer.tiktoken:2: expected `base64 rank`"),
    ],
)
def test_what_is_wrong_with_ranks_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    tiktoken_folder(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ArchcError, match=message):
        load_tokenizer(tmp_path)


def test_a_broken_sentencepiece_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\xff\xff")
    with pytest.raises(ArchcError, match="is not a SentencePiece model"):
        load_tokenizer(tmp_path)


def test_a_file_of_no_known_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a b c")
    with pytest.raises(
        ArchcError, match="not a tokenizer of a kind that archc knows: bytes, huggingface, sentencepiece"
    ):
        find_tokenizer(str(tmp_path / "words.txt"))
    with pytest.raises(ArchcError, match="no such file or folder"):
        find_tokenizer(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("package", ["tokenizers", "sentencepiece", "tiktoken"])
def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    FOLDERS["huggingface" if package == "tokenizers" else package](tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf"needs `{package}`: pip install 'archc\[train\]'"):
        load_tokenizer(tmp_path)
