"""`key.path=value` arguments laid over a YAML tree; what is wrong with them has its place in the argument.

A part of a path names a field, the number of an item, or an item of a list by what it is (`losses.mtp.weight=0.1`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from archc.kernels.errors import Place, SpecError, SpecErrors, quoted
from archc.yamlfile import Node, Text, read_yaml, shown

_FORM = re.compile(r"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)=(.*)", re.DOTALL)


def overridden(node: Node, arguments: Sequence[str]) -> tuple[Node, list[SpecError]]:
    """The tree with every argument laid over it in turn, and what is wrong with them; a wrong one changes nothing."""
    errors: list[SpecError] = []
    for number, argument in enumerate(arguments, start=1):
        try:
            node = _Override.of(argument, number).over(node)
        except SpecErrors as error:
            errors += [one for one in error.errors if isinstance(one, SpecError)]
        except SpecError as error:
            errors.append(error)
    return node, errors


@dataclass(frozen=True)
class _Override:
    text: Text
    number: int
    path: tuple[str, ...]
    value: Node

    @classmethod
    def of(cls, argument: str, number: int) -> _Override:
        # The argument's number stands for the line, so that places of several tell them apart.
        text = Text("argument", ("",) * (number - 1) + (argument,))
        match = _FORM.fullmatch(argument)
        if match is None or not match[2].strip():
            raise SpecError(text.place(number, 1), f"expected key.path=value, got {quoted(argument)}")
        key, written = match.groups()
        padded = "\n" * (number - 1) + " " * (len(key) + 1) + written
        try:
            value, errors = read_yaml(padded, file=text.file)
        except SpecErrors as error:
            raise SpecErrors([_moved(one, text) for one in error.errors if isinstance(one, SpecError)]) from None
        if errors:
            raise SpecErrors([_moved(one, text) for one in errors])
        return cls(text, number, tuple(key.split(".")), _placed(value, text))

    def over(self, node: Node) -> Node:
        return self._set(node, 0)

    def at(self, depth: int) -> Place:
        """The place of a part of the path."""
        return self.text.place(self.number, 1 + sum(len(part) + 1 for part in self.path[:depth]))

    def _set(self, node: Node, depth: int) -> Node:
        if depth == len(self.path):
            return replace(self.value, key_at=self.at(depth - 1))
        if isinstance(node.value, tuple):
            return self._in_list(node, node.value, depth)
        key = self.path[depth]
        if node.value == key:  # `schedule: cosine` is short for `schedule: {cosine: {}}`
            fields = {key: replace(node, value={})}
        elif node.value is None:
            fields = {}
        elif isinstance(node.value, dict):
            fields = node.value
        else:
            message = f"cannot set {quoted(key)} inside {shown(node.data)}"
            raise SpecError(self.at(depth), message, hint=f"{'.'.join(self.path[:depth])}={{{key}: ...}} replaces it")
        below = fields.get(key) or Node(None, self.at(depth), self.at(depth), self.text)
        return replace(node, value={**fields, key: self._set(below, depth + 1)})

    def _in_list(self, node: Node, items: tuple[Node, ...], depth: int) -> Node:
        key = self.path[depth]
        if key.isdigit() and int(key) < len(items):
            index, inside = int(key), depth + 1
        else:
            named = [i for i, item in enumerate(items) if item.value == key or item.child(key) is not None]
            if len(named) != 1:
                message = (
                    f"expected the number of an item, 0 to {len(items) - 1}, or what one item is: got {quoted(key)}"
                )
                raise SpecError(self.at(depth), message)
            index, inside = named[0], depth
        changed = self._set(items[index], inside)
        return replace(node, value=(*items[:index], changed, *items[index + 1 :]))


def _moved(error: SpecError, text: Text) -> SpecError:
    return SpecError(text.place(error.at.line, error.at.column), error.message, hint=error.hint)


def _placed(node: Node, text: Text) -> Node:
    """The node with places that show the argument as it was typed."""

    def moved(at: Place) -> Place:
        return text.place(at.line, at.column)

    value = node.value
    if isinstance(value, dict):
        value = {key: _placed(child, text) for key, child in value.items()}
    elif isinstance(value, tuple):
        value = tuple(_placed(child, text) for child in value)
    return Node(value, moved(node.at), moved(node.key_at), text, node.span)
