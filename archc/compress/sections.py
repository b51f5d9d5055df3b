"""Sections of a recipe beside its passes: what is measured before they run, and the text that they are fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from archc.importance.calibration import Sampling
from archc.importance.measuring import Measuring
from archc.kernels.errors import ArchcError, ParseError, SpecError
from archc.spec.choice import read_record
from archc.train.sources import source_at
from archc.train.tokenizers import find_tokenizer
from archc.yamlfile import Node

T = TypeVar("T", bound=Sampling)


def read_importance(node: Node | None, folder: Path) -> tuple[Path | Measuring | None, list[SpecError]]:
    """`importance:` as a file or as how it is measured, relative to a folder, and what is wrong with it."""
    if node is None or node.value is None:
        return None, []
    if isinstance(node.value, str):
        return folder / node.value, []
    how, errors = _read(node, Measuring, folder)
    return how, [*errors, *_unknown_estimators(node, how)]


def read_calibration(node: Node | None, folder: Path) -> tuple[Sampling | None, list[SpecError]]:
    """`calibration:`, the text that passes are fitted on, and what is wrong with it."""
    return (None, []) if node is None or node.value is None else _read(node, Sampling, folder)


def _read(node: Node, cls: type[T], folder: Path) -> tuple[T | None, list[SpecError]]:
    """A section with the fields of `cls`, and what is wrong: also text and tokenizers that are not there."""
    how, errors = read_record(node, cls)
    if how is None:
        return None, errors
    found: T = how.below(folder)
    problems = [_problem(node.find(("data", i)), _size, place) for i, place in enumerate(found.data)]
    if found.tokenizer is not None:
        problems.append(_problem(node.find(("tokenizer",)), find_tokenizer, found.tokenizer))
    return found, [error for error in problems if error is not None]


def _size(place: str) -> int:
    return source_at(place).size


def _problem(node: Node, attempt: Callable[[str], object], place: str) -> SpecError | None:
    """What an attempt with a place says against the value of a node."""
    try:
        attempt(place)
    except ArchcError as error:
        return node.error(str(error))
    return None


def _unknown_estimators(node: Node, how: Measuring | None) -> Iterator[SpecError]:
    try:
        _ = how and how.chosen
    except ParseError as error:
        yield SpecError(node.find(("estimators",)).inside(error.at.column - 1), error.message)
