"""A tokenizer with fewer tokens: what it cuts, what lies beside it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archc.kernels.errors import ArchcError, UnsupportedError
from archc.train.bytes import ByteTokenizer
from archc.train.tokenizers import load_tokenizer
from archc.train.tokenizers.bpe import train_bpe
from archc.train.tokenizers.kept import closed_ids, keep_tokens, read_ids

pytest.importorskip("tokenizers")
WORDS = ["the", "then", "cat", "cats", "at", "hat", "that", "chat", " the", " cat", "heat", "teach", "reach"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bpe")
    train_bpe(["the cat sat at that hat; then cats chat: reach the heat, teach cats. " * 5], made, vocab=280)
    return made


def stored(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    return found


def closed(folder: Path, tokens: Iterable[str]) -> list[int]:
    """Ids of all letters and specials, and of the tokens with what the library's own merges make them of."""
    content = stored(folder)
    vocab = content["model"]["vocab"]
    made = {"".join(pair): tuple(pair) for pair in content["model"]["merges"]}
    wanted, open_ = {t for t in vocab if t not in made}, list(tokens)
    while open_:
        token = open_.pop()
        if token not in wanted:
            wanted.add(token)
            open_ += made[token]
    return sorted(vocab[t] for t in wanted)


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_of_kept_tokens_are_cut_alike(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    old = load_tokenizer(folder)
    merged = ["".join(pair) for pair in stored(folder)["model"]["merges"]]
    ids = data.draw(st.permutations(closed(folder, data.draw(st.sets(st.sampled_from(merged))))))
    new = keep_tokens(folder, ids, tmp_path)
    assert new.vocab_size == len(ids)
    for text in ("".join(data.draw(st.lists(st.sampled_from(WORDS), max_size=4))) for _ in range(10)):
        cut = old.encode(text)
        assert new.decode(new.encode(text)) == text
        if set(cut) <= set(ids):
            assert [ids[i] for i in new.encode(text)] == cut


def test_specials_keep_their_meaning(folder: Path, tmp_path: Path) -> None:
    """Also those that only the list of added tokens has; files beside it get the new ids."""
    source = tmp_path / "old"
    source.mkdir()
    load_tokenizer(folder).save(source)
    content = stored(source)
    content["added_tokens"].append(content["added_tokens"][1] | {"id": 280, "content": "<|turn|>"})
    one = {"id": "<|begin|>", "ids": [0], "tokens": ["<|begin|>"]}
    template = [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    content["post_processor"] = {
        "type": "TemplateProcessing", "single": template, "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|begin|>": one},
    }  # fmt: skip
    (source / "tokenizer.json").write_text(json.dumps(content))
    (source / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": [1, 280], "x": 1}))
    ids = [280, *(i for i in range(3, 259)), 2, 1, 0]
    new = keep_tokens(source, ids, tmp_path / "new")
    assert (new.begin, new.end) == (259, 258)
    assert new.encode("a<|turn|>") == [ids.index(content["model"]["vocab"]["a"]), 0]
    made = json.loads((tmp_path / "new" / "generation_config.json").read_text())
    assert made == {"bos_token_id": 259, "eos_token_id": [258, 0], "x": 1}
    from tokenizers import Tokenizer

    assert Tokenizer.from_file(str(tmp_path / "new" / "tokenizer.json")).encode("a").ids[0] == 259


def test_all_that_hinders_is_told_and_nothing_written(folder: Path, tmp_path: Path) -> None:
    content = stored(folder)
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    first, second = merges[0]
    gone = {vocab[first + second], vocab["<|begin|>"], vocab["z"]}
    with pytest.raises(UnsupportedError) as caught:
        keep_tokens(folder, [i for i in range(280) if i not in gone], tmp_path / "new")
    told = str(caught.value)
    assert f"(of {first + second!r})" in told
    assert "letters of the alphabet are not kept (1): 'z'" in told
    assert "'<|begin|>' (bos_token)" in told
    assert not (tmp_path / "new").exists()


def test_what_is_closed_is_taken(folder: Path, tmp_path: Path) -> None:
    """All of a long token's parts, letters and named specials join it, and nothing else does."""
    content = stored(folder)
    vocab = content["model"]["vocab"]
    longest = max((t for t in vocab if not t.startswith("<|")), key=len)
    ids = closed_ids(folder, [vocab[longest]])
    assert ids == sorted({*closed(folder, [longest])})
    assert keep_tokens(folder, ids, tmp_path).vocab_size == len(ids) < 280


def test_ids_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("# letters\n7\n\n3-5  # a range\n0\n")
    assert read_ids(file) == [7, 3, 4, 5, 0]
    file.write_text("7\n3-x\n")
    with pytest.raises(ArchcError, match=r"ids.txt:2: expected an id or a range such as 0-255, got `3-x`"):
        read_ids(file)


def test_bytes_stay_whole(tmp_path: Path) -> None:
    ByteTokenizer().save(tmp_path)
    assert keep_tokens(tmp_path, range(259), tmp_path / "new") == ByteTokenizer()
    with pytest.raises(UnsupportedError, match="bytes are kept all, in their order"):
        keep_tokens(tmp_path, range(200), tmp_path / "less")


def test_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    content = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UnsupportedError, match="of kind WordLevel: only BPE can lose tokens"):
        keep_tokens(tmp_path, [0], tmp_path / "new")
