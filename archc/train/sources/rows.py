"""Rows with fields: jsonl files, and Hugging Face datasets on disk. A field holds a text, or the messages of a chat."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from typing_extensions import Doc

from archc.kernels.errors import ArchcError, Place, listed, quoted
from archc.kernels.optional import optional
from archc.train.sources.base import Document, Files, Part, Piece, Share, Source, source
from archc.train.sources.chat import ChatTemplate, NoAnswer, chat_template
from archc.train.sources.files import file_hash, find_files, lines, total_size
from archc.train.sources.reading import Reading

FieldName: TypeAlias = Annotated[str | None, Doc("the field of a row; none: `text`, of chats `messages`")]
TemplateName: TypeAlias = Annotated[
    str | dict[str, str] | None,
    Doc("rows are chats: plain, chatml, a text around {content} for each role, a chat_template.jinja or its folder"),
]


class Rows(Source):
    """Base of sources that have rows."""

    field: FieldName
    template: TemplateName

    @abstractmethod
    def rows(self, reading: Reading) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """Every row, and where it stands."""

    def read(self, reading: Reading) -> Iterator[Document]:
        """The documents that the rows hold."""
        template = self._template()
        name = self.field or ("text" if template is None else "messages")
        for at, row in self.rows(reading):
            if name not in row:
                reading.bad(at, "missing field", f"expected `{name}`, got {listed(list(row)) or 'none'}")
                continue
            try:
                document = _text(row[name]) if template is None else template.document(row[name])
                document.text.encode()
            except (_Unusable, NoAnswer) as error:
                reading.bad(at, *error.args)
            except UnicodeEncodeError:
                reading.bad(at, "invalid UTF-8", "a lone surrogate")
            else:
                yield document

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """That there is a template, where one is named."""
        return {"template": self._template}

    def template_hash(self) -> Iterable[str]:
        """Identity of the template, if it has one."""
        template = self._template()
        return [] if template is None else [template.hash]

    def _template(self) -> ChatTemplate | None:
        return None if self.template is None else chat_template(self.template)


class _Unusable(Exception):
    """Reason and detail of a row that is no document."""


def _text(value: object) -> Document:
    if not isinstance(value, str):
        raise _Unusable("not a text", f"got {quoted(json.dumps(value, default=str))}")
    if not value.strip():
        raise _Unusable("empty document")
    return Document((Piece(value),))


@source("jsonl")
class Jsonl(Rows):
    """Files of JSON lines, one document a line: a text in a field, or a chat."""

    places: ClassVar[tuple[str, ...]] = ("files", "template")

    files: Files
    field: FieldName = None
    template: TemplateName = None
    glob: Annotated[str, Doc("which files of folders are read")] = "*.jsonl"
    part: Part = "all"
    held_out: Share = 0.05

    def rows(self, reading: Reading) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """Every line that is a JSON object."""
        for path in self._paths():
            for at, line in lines(path, reading):
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    reading.bad(at, "broken JSON", f"{error.msg} at column {error.colno}")
                    continue
                except (ValueError, RecursionError) as error:
                    reading.bad(at, "broken JSON", str(error))
                    continue
                if isinstance(row, dict):
                    yield at, row
                else:
                    reading.bad(at, "not an object", f"got {quoted(line)}")

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """That there are files, and the template."""
        return {"files": self._paths, **super().checks()}

    def content(self) -> Iterable[str]:
        """Hashes of the files and the template."""
        return [*map(file_hash, self._paths()), *self.template_hash()]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return total_size(self._paths())

    def _paths(self) -> list[Path]:
        return find_files(self.files, self.glob)


@source("datasets")
class Datasets(Rows):
    """A Hugging Face dataset on disk, as `save_to_disk` writes it."""

    places: ClassVar[tuple[str, ...]] = ("folder", "template")

    folder: Annotated[str, Doc("what `save_to_disk` wrote")]
    field: FieldName = None
    template: TemplateName = None
    split: Annotated[str | None, Doc("which of its splits, where it has several")] = None
    part: Part = "all"
    held_out: Share = 0.05

    def rows(self, reading: Reading) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """Every row."""
        dataset, number = self._open(), 0
        for batch in dataset.iter(batch_size=256):
            columns = list(batch)
            for values in zip(*batch.values(), strict=True):
                number += 1
                yield Place(self.folder, number), dict(zip(columns, values, strict=True))

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """That there is the folder, and the template."""
        return {"folder": self._folder, **super().checks()}

    def _folder(self) -> Path:
        if not Path(self.folder).is_dir():
            raise ArchcError(f"{self.folder}: no such folder")
        return Path(self.folder)

    def _open(self) -> Any:
        datasets = optional("datasets", extra="datasets", purpose=f"reading {self.folder}")
        try:
            found = datasets.load_from_disk(self.folder)
        except (FileNotFoundError, ValueError) as error:
            raise ArchcError(f"{self.folder}: not a dataset that `save_to_disk` wrote: {error}") from error
        if not isinstance(found, Mapping):
            return found
        if self.split not in found:
            raise ArchcError(f"{self.folder}: `split` is one of {listed(list(found))}: got {self.split}")
        return found[self.split]

    def content(self) -> Iterable[str]:
        """Hashes of the folder's files and the template."""
        found = sorted(path for path in self._folder().rglob("*") if path.is_file())
        return [*(path.name + file_hash(path) for path in found), *self.template_hash()]
