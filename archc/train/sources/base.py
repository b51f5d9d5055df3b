"""What a data source is: a frozen record in the registry `source`, whose fields are what a recipe says of it.

It yields documents; what it cannot read it tells its `Reading`, which stops or skips and counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias, dataclass_transform

from annotated_types import Gt, Lt
from typing_extensions import Doc

from archc.train.registry import Registry
from archc.train.sources.reading import Reading

Part: TypeAlias = Annotated[
    Literal["all", "train", "held_out"], Doc("all documents, those held out for measuring, or the others")
]
Share: TypeAlias = Annotated[
    Annotated[float, Gt(0), Lt(1)], Doc("share of the documents held out, chosen by a hash of their text")
]
Files: TypeAlias = Annotated[tuple[str, ...] | str, Doc("files, folders and globs, in this order")]

_RULES = 1  # raised whenever the same files give other documents


@dataclass(frozen=True)
class Piece:
    """A piece of a document's text; `learn` says whether the model is to learn to write it."""

    text: str
    learn: bool = True


@dataclass(frozen=True)
class Document:
    """A text in pieces. `marks` puts the tokenizer's begin and end around it: a chat template has its own."""

    pieces: tuple[Piece, ...]
    marks: bool = True

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(piece.text for piece in self.pieces)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Source(ABC):
    """Base of data sources."""

    name: ClassVar[str]
    places: ClassVar[tuple[str, ...]] = ("files",)  # fields that say where the data lies, which changes nothing of it

    part: Part
    held_out: Share

    @abstractmethod
    def read(self, reading: Reading) -> Iterator[Document]:
        """Every document, in order, whatever the part; no more of them in memory than one at a time."""

    @abstractmethod
    def content(self) -> Iterable[str]:
        """Hashes of the data that it reads."""

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """What must go well before anything is read, by the option that it is about: each may raise ArchcError."""
        return {}

    @property
    def size(self) -> int:
        """Bytes that there are to read, as `Reading.advance` counts them; 0 where that is not known."""
        return 0

    def split_key(self, document: Document) -> str:
        """What decides whether a document is held out: equal texts go the same way."""
        return document.text

    def documents(self, reading: Reading) -> Iterator[Document]:
        """The documents of the part, up to a bad one that stops: DataError is raised then, and tells the next ones."""
        for document in self.read(reading):
            if reading.failed:
                reading.look_on(len(document.text))
            elif self.part == "all" or (self.part == "held_out") == is_held_out(
                self.split_key(document), self.held_out
            ):
                yield document
        reading.check()

    @property
    def hash(self) -> str:
        """Identity of the documents: of the data and of the options, wherever the data lies."""
        fields = (f.name for f in dataclasses.fields(self) if f.name not in self.places)  # type: ignore[arg-type]
        options = {name: getattr(self, name) for name in fields}
        made = hashlib.sha256(json.dumps([_RULES, self.name, options], sort_keys=True).encode())
        for one in self.content():
            made.update(one.encode())
        return made.hexdigest()


source: Registry[Source] = Registry("data source")


def is_held_out(key: str, share: float) -> bool:
    """Whether a document is held out, by a hash of its key: a larger share holds out more, never others."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    return (number % 100 + number // 100 % 10_000 / 10_000) / 100 < share
