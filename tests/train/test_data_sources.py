"""Sources: what they read, what they refuse and where, what is held out, and what their hashes tell."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.kernels.errors import ArchcError, DataError, MissingPackage, UnknownName
from archc.train.corpus import standard_library_corpus
from archc.train.sources import Document, Reading, Source, registered_sources
from archc.train.sources import reading as reading_module
from archc.train.sources.base import is_held_out
from archc.train.sources.chat import chat_template
from archc.train.sources.rows import Datasets, Jsonl
from archc.train.sources.stdlib import StandardLibrary
from archc.train.sources.text import LONGEST, Text


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path_factory.mktemp("cache")))


def texts(source: Source, on_bad: Any = "stop") -> list[str]:
    return [document.text for document in source.documents(Reading(on_bad))]


def written(folder: Path, **files: str | bytes) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_the_registry_has_every_kind() -> None:
    assert [cls.name for cls in registered_sources()] == ["jsonl", "datasets", "stdlib", "text"]
    assert all(cls.__doc__ for cls in registered_sources())


# -- text --------------------------------------------------------------------------------------------------------------


def test_folders_files_and_globs_are_read_in_order(tmp_path: Path) -> None:
    written(tmp_path, b_txt="b", a__c_txt="c\r\nd", a__x_md="x")
    assert texts(Text(files=(str(tmp_path),))) == ["c\r\nd", "b"]
    assert texts(Text(files=(f"{tmp_path}/b.txt", f"{tmp_path}/a/*.md"))) == ["b", "x"]
    assert texts(Text(files=str(tmp_path), glob="*.md")) == ["x"]


@pytest.mark.parametrize("place", ["nowhere.txt", "*.nothing", ""])
def test_no_file_is_an_error(tmp_path: Path, place: str) -> None:
    with pytest.raises(ArchcError, match=r"no such file or folder|no file `\*.txt` in the folder"):
        texts(Text(files=(str(tmp_path / place),)))


def test_lines_are_documents_when_asked(tmp_path: Path) -> None:
    written(tmp_path, a_txt="\ufeffone\ntwo\r\nthree")
    assert texts(Text(files=(str(tmp_path),), documents_are="lines")) == ["one", "two", "three"]


@pytest.mark.parametrize("line", ["word " * 20 + "\n", "word " * 300_000, "wörd" * 300_000])
def test_a_long_text_is_cut_and_nothing_is_lost(tmp_path: Path, line: str) -> None:
    text = line * (2 * LONGEST // len(line) + 1)
    written(tmp_path, a_txt=text)
    found = texts(Text(files=(str(tmp_path),)))
    assert "".join(found) == text
    assert len(found) > 1
    assert max(map(len, found)) <= LONGEST
    if "\n" in line:
        assert all(one.endswith("\n") for one in found)


# -- bad lines ---------------------------------------------------------------------------------------------------------

BAD = {
    "invalid UTF-8": (b'{"text": "a"}\n{"text": "\xff"}\n', "byte 0xff, byte 11 of the line"),
    "broken JSON": (b'{"text": "a"}\n{"text": \n', "Expecting value"),
    "not an object": (b'{"text": "a"}\n["b"]\n', r'got `\["b"\]`'),
    "missing field": (b'{"text": "a"}\n{"tekst": "b"}\n', "expected `text`, got tekst"),
    "not a text": (b'{"text": "a"}\n{"text": 3}\n', "got `3`"),
    "empty document": (b'{"text": "a"}\n{"text": " "}\n', ""),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_stops_with_its_place_or_is_skipped_and_counted(
    tmp_path: Path, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw, detail = BAD[reason]
    file = written(tmp_path, a_jsonl=raw + b'{"text": "c"}\n') / "a.jsonl"
    with pytest.raises(DataError, match=rf"a.jsonl:2: {reason}.*{detail}"):
        texts(Jsonl(files=(str(file),)))

    reading = Reading("skip")
    assert [d.text for d in Jsonl(files=(str(file),)).documents(reading)] == ["a", "c"]
    assert {name: dict(counts) for name, counts in reading.skipped.items()} == {str(file): {reason: 1}}
    with caplog.at_level(logging.WARNING):
        reading.finish()
    assert [record.getMessage() for record in caplog.records] == [f"{file}: skipped 1 {reason}, first at line 2"]


def test_the_first_bad_lines_are_told_at_once_and_the_others_counted(tmp_path: Path) -> None:
    rows = ['{"text": "good"}', "{", '{"body": "b"}', "3", "", '{"text": ""}', '{"text": "good"}', "{", "{"]
    file = written(tmp_path, a_jsonl="\n".join(rows) + "\n") / "a.jsonl"
    documents = Jsonl(files=str(file)).documents(Reading(hint="leave them out"))
    assert next(documents).text == "good"
    with pytest.raises(DataError) as caught:
        next(documents)
    assert str(caught.value).splitlines() == [
        f"{file}:2: broken JSON: Expecting property name enclosed in double quotes at column 2",
        f"{file}:3: missing field: expected `text`, got body",
        f"{file}:4: not an object: got `3`",
        f"{file}:5: empty document",
        f"{file}:6: empty document",
        "and 2 more (leave them out)",
    ]
    assert (caught.value.at.file, caught.value.at.line) == (str(file), 2)


def test_very_many_bad_lines_are_not_all_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, a_jsonl='{"body": "b"}\n' * 1200) / "a.jsonl"
    with pytest.raises(DataError, match=r"and 995 more so far; not read to its end$"):
        texts(Jsonl(files=str(file)))
    monkeypatch.setattr(reading_module, "_LOOKED_AT", 3)
    file.write_text("{\n" + '{"text": "good"}\n{\n' * 3)
    with pytest.raises(DataError, match=r"a.jsonl:1: .*\nand 0 more so far; not read to its end$"):
        texts(Jsonl(files=str(file)))


def test_an_empty_line_is_an_empty_document(tmp_path: Path) -> None:
    file = written(tmp_path, a_jsonl='{"text": "a"}\n\n{"text": "b"}') / "a.jsonl"
    with pytest.raises(DataError, match=r"a.jsonl:2: empty document"):
        texts(Jsonl(files=(str(file),)))
    assert texts(Jsonl(files=(str(file),)), "skip") == ["a", "b"]


def test_a_lone_surrogate_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, a_jsonl='{"text": "\\ud800"}\n') / "a.jsonl"
    with pytest.raises(DataError, match=r"a.jsonl:1: invalid UTF-8: a lone surrogate"):
        texts(Jsonl(files=(str(file),)))


def test_bad_lines_of_text_files(tmp_path: Path) -> None:
    written(tmp_path, a_txt=b"one\ntw\xc3(o\nthree\n", b_txt=b" \n", c_txt=b"end \xe7\x8c")
    with pytest.raises(DataError, match=r"a.txt:2: invalid UTF-8: byte 0xc3, byte 3 of the line"):
        texts(Text(files=(str(tmp_path),)))
    reading = Reading("skip")
    assert [d.text for d in Text(files=(str(tmp_path),)).documents(reading)] == ["one\nthree\n"]
    assert {Path(name).name: dict(counts) for name, counts in reading.skipped.items()} == {
        "a.txt": {"invalid UTF-8": 1},
        "b.txt": {"empty document": 1},
        "c.txt": {"invalid UTF-8": 1, "empty document": 1},
    }


@given(
    st.lists(
        st.one_of(st.just(b"{"), st.just(b""), st.just(b"\xff"), st.integers(0, 9).map(lambda n: b'{"text": "%d"}' % n))
    )
)
def test_good_lines_all_come_and_bad_ones_are_all_counted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes]
) -> None:
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    file.write_bytes(b"".join(row + b"\n" for row in rows))
    reading = Reading("skip")
    found = [d.text for d in Jsonl(files=str(file)).documents(reading)]
    assert found == [json.loads(row)["text"] for row in rows if row[:2] == b'{"']
    assert sum(sum(counts.values()) for counts in reading.skipped.values()) == len(rows) - len(found)


# -- chats -------------------------------------------------------------------------------------------------------------

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi {content}"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Farewell."},
]
JINJA = """{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>
{{ m.content }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""


def chat_file(folder: Path, *chats: object) -> str:
    file = folder / "chats.jsonl"
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return str(file)


def learnt(document: Document) -> list[str]:
    return [piece.text for piece in document.pieces if piece.learn]


def test_answers_are_learnt_and_nothing_else(tmp_path: Path) -> None:
    (document,) = Jsonl(files=chat_file(tmp_path, CHAT), template="plain").documents(Reading())
    assert document.text == "Be kind.\n\nUser: Hi {content}\nAssistant: Hello.\nUser: Bye\nAssistant: Farewell.\n"
    assert learnt(document) == ["Hello.\n", "Farewell.\n"]
    assert document.marks


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    roles = {"system": "{content}", "user": "[{content}]", "assistant": "{content};"}
    (document,) = Jsonl(files=chat_file(tmp_path, CHAT), template=roles).documents(Reading())
    assert document.text == "Be kind.[Hi {content}]Hello.;[Bye]Farewell.;"
    assert learnt(document) == ["Hello.;", "Farewell.;"]


@pytest.mark.parametrize("place", ["", "chat_template.jinja", "tokenizer_config.json"])
def test_the_template_that_lies_with_a_tokenizer(tmp_path: Path, place: str) -> None:
    config = {"bos_token": {"content": "<s>"}}
    if place == "tokenizer_config.json":
        config["chat_template"] = JINJA  # type: ignore[assignment]
        place = ""
    else:
        (tmp_path / "chat_template.jinja").write_text(JINJA)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    source = Jsonl(files=chat_file(tmp_path, CHAT), template=str(tmp_path / place))
    (document,) = source.documents(Reading())
    assert document.text.startswith(
        "<s><|system|>\nBe kind.<|end|>\n<|user|>\nHi {content}<|end|>\n<|assistant|>\nHello.<|end|>"
    )
    assert learnt(document) == ["Hello.<|end|>\n", "Farewell.<|end|>\n"]
    assert not document.marks


def test_transformers_renders_the_same(tmp_path: Path) -> None:
    chats = pytest.importorskip("transformers.utils.chat_template_utils")
    whole, _ = chats.render_jinja_template([CHAT], chat_template=JINJA, bos_token="<s>")
    (tmp_path / "chat_template.jinja").write_text(JINJA)
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    assert chat_template(str(tmp_path)).document(CHAT).text == whole[0]


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        ("hi", "not a chat: expected a list of messages"),
        ([], "not a chat"),
        (["hi"], "not a chat: message 1 is no object"),
        (CHAT[:2], "no answer: no message of role `assistant`"),
        ([*CHAT, {"role": "tool", "content": "x"}], "unknown role: `tool`, known are system, user, assistant"),
        ([*CHAT, {"role": "user"}], "missing field: message 6 has no text `content`"),
    ],
)
def test_what_is_no_chat_is_told(tmp_path: Path, chat: object, message: str) -> None:
    source = Jsonl(files=chat_file(tmp_path, CHAT, chat), template="plain")
    with pytest.raises(DataError, match=rf"chats.jsonl:2: {message}"):
        texts(source)
    assert len(texts(source, "skip")) == 1


@pytest.mark.parametrize(
    "template",
    ["{% for m in messages[-1:] %}{{ m.content }}{% endfor %}", "{{ raise_exception('no') }}", "{{ 1 / 0 }}"],
)
def test_a_template_that_does_not_fit_the_chat_is_told(tmp_path: Path, template: str) -> None:
    (tmp_path / "t.jinja").write_text(template)
    with pytest.raises(DataError, match=r"chats.jsonl:1: unlike its template"):
        texts(Jsonl(files=chat_file(tmp_path, CHAT), template=str(tmp_path / "t.jinja")))


def test_wrong_templates_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown chat template `plane`: did you mean `plain`"):
        chat_template("plane")
    with pytest.raises(ArchcError, match="does not parse"):
        (tmp_path / "t.jinja").write_text("{% for %}")
        chat_template(str(tmp_path / "t.jinja"))
    with pytest.raises(ArchcError, match="no chat template: looked for"):
        chat_template(str(tmp_path))
    with pytest.raises(ArchcError, match=r"of `user` must have \{content\} once: got `x`"):
        chat_template({"user": "x", "assistant": "{content}"})
    with pytest.raises(ArchcError, match="needs a text for `assistant`: got user"):
        chat_template({"user": "{content}"})


# -- datasets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> str:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"body": ["one", "", "three"], "n": [1, 2, 3], "chat": [CHAT] * 3})
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(str(tmp_path / "saved"))
    return str(tmp_path / "saved")


def test_a_dataset_on_disk(saved: str) -> None:
    source = Datasets(folder=saved, split="train", field="body")
    assert texts(source, "skip") == ["one", "three"]
    with pytest.raises(DataError, match="saved:2: empty document"):
        texts(source)
    assert texts(replace(source, split="test")) == ["one"]
    with pytest.raises(ArchcError, match="`split` is one of train, test: got None"):
        texts(replace(source, split=None))
    with pytest.raises(DataError, match="missing field: expected `text`, got body, n, chat"):
        texts(replace(source, field=None))
    chats = list(replace(source, field="chat", template="plain").documents(Reading()))
    assert [learnt(chat) for chat in chats] == [["Hello.\n", "Farewell.\n"]] * 3
    with pytest.raises(ArchcError, match="not a dataset that `save_to_disk` wrote"):
        texts(Datasets(folder=str(Path(saved).parent)))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackage, match=r"needs `datasets`: pip install 'archc\[datasets\]'"):
        texts(Datasets(folder="somewhere"))


# -- the standard library, parts, hashes -------------------------------------------------------------------------------


def test_the_standard_library_is_split_as_the_corpus_is() -> None:
    corpus = standard_library_corpus()
    assert texts(StandardLibrary()) == [d.text for d in corpus.train]
    assert texts(StandardLibrary(part="held_out")) == [d.text for d in corpus.held_out]
    assert {is_held_out(d.name, 0.05) for d in corpus.train} == {False}
    assert {is_held_out(d.name, 0.05) for d in corpus.held_out} == {True}
    assert len({StandardLibrary(part=part).hash for part in ("all", "train", "held_out")}) == 3  # type: ignore[arg-type]


def test_parts_are_disjoint_whole_and_of_the_asked_size(tmp_path: Path) -> None:
    rows = [str(i // 2) for i in range(8000)]  # every text twice
    file = written(tmp_path, a_txt="\n".join(rows)) / "a.txt"
    source = Text(files=str(file), documents_are="lines", held_out=0.1)
    parts = {part: texts(replace(source, part=part)) for part in ("all", "train", "held_out")}
    assert parts["all"] == rows
    assert not set(parts["train"]) & set(parts["held_out"])
    assert sorted(parts["train"] + parts["held_out"]) == sorted(rows)
    assert 0.08 < len(parts["held_out"]) / len(rows) < 0.12
    smaller = texts(replace(source, part="held_out", held_out=0.004))
    assert set(smaller) < set(parts["held_out"])
    assert 0.001 < len(smaller) / len(rows) < 0.008


def test_hashes_tell_data_and_options_but_not_places(tmp_path: Path) -> None:
    written(tmp_path, one__a_txt="text", two__a_txt="text", three__a_txt="texts")
    one = Text(files=str(tmp_path / "one"))
    assert one.hash == Text(files=str(tmp_path / "two" / "a.txt")).hash
    others = [Text(files=str(tmp_path / "three")), replace(one, documents_are="lines"), replace(one, part="held_out")]
    assert len({one.hash, *(other.hash for other in others)}) == 4
    file = Jsonl(files=chat_file(tmp_path, CHAT), template="plain")
    assert file.hash != replace(file, template="chatml").hash


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, a_txt="text") / "a.txt"
    os.utime(file, (1e9, 1e9))
    source = Text(files=str(file))
    first = source.hash
    with monkeypatch.context() as patched:
        patched.setattr("hashlib.file_digest", None)
        assert source.hash == first
    file.write_text("tezt")
    assert source.hash != first
