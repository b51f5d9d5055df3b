"""The layers of a model in order, a letter each, and which of them differ from the usual layer of their letter.

Two layers are equal where their ops, sizes, attributes and formats are: only equal layers fold, so that a model whose
layers were pruned one by one is not drawn as a regular one.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from archc.ir.graph import Graph, Node
from archc.ir.text_line import value_words
from archc.viz.fold import fold, fold_text

# What has at most so many layers, and at most this share of them, is worth saying where.
_FEW, _FEW_SHARE = 16, 0.25


@dataclass(frozen=True)
class Layer:
    """One block of a region. `mark` is its letter, and a prime (with a number from the second on) where it differs."""

    index: int
    block: str
    letter: str
    mark: str
    kind: str
    sizes: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"layer": self.index, "block": self.block, "kind": self.kind, "letter": self.letter, "mark": self.mark,
                "sizes": dict(self.sizes)}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """Layers that differ from the layer `than`: (what, theirs, its; empty where there is none).

    That is the first of those that their letter marks alone; `usual` says that these are more than any others."""

    mark: str
    layers: tuple[int, ...]
    changes: tuple[tuple[str, str, str], ...]
    than: int
    usual: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        changes = {what: {"here": here, "there": there} for what, here, there in self.changes}
        return {"mark": self.mark, "layers": list(self.layers), "than": self.than, "changes": changes}


@dataclass(frozen=True)
class Strip:
    """The layers of one region, and what is to be said of them."""

    layers: tuple[Layer, ...]
    variants: tuple[Variant, ...]

    @functools.cached_property
    def folded(self) -> str:
        """The marks with repeats folded: `6 x [3 x [M -] M * -] 4 x [M -]`."""
        marks = [layer.mark for layer in self.layers]
        return fold_text(marks, fold(marks))

    @property
    def letters(self) -> dict[str, str]:
        """The kind that each letter stands for, in order of appearance."""
        found: dict[str, str] = {}
        for layer in self.layers:
            found.setdefault(layer.letter, layer.kind)
        return found

    def few(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Kinds that stand in few layers, and in which."""
        for kind, times in Counter(layer.kind for layer in self.layers).items():
            if times <= _FEW and times <= _FEW_SHARE * len(self.layers):
                yield kind, tuple(layer.index for layer in self.layers if layer.kind == kind)


def strip(graph: Graph, region: str) -> Strip:
    """The layers of a region; none where the graph has no such region."""
    blocks = graph.blocks.get(region, ())
    nodes = [graph.block_nodes(region, block) for block in blocks]
    letters, keys = [block_letters(of) for of in nodes], [_key(of) for of in nodes]
    marks = _marks(letters, keys)
    layers = tuple(
        Layer(i, block, letters[i], marks[keys[i]], _kind(nodes[i]), _sizes(nodes[i])) for i, block in enumerate(blocks)
    )
    return Strip(layers, tuple(_variants(nodes, letters, keys, marks)))


def block_letters(nodes: Sequence[Node]) -> str:
    """The letter of a block; of a block of several ops that specs name, a letter each."""
    return "".join(node.op.usual_letter() for node in _mains(nodes)) or "."


def node_letter(node: Node) -> str:
    """The letter of an op that specs name; none for joints and norms."""
    return node.op.usual_letter() if node.op.Fields is not None else ""


def number_list(numbers: Sequence[int]) -> str:
    """Increasing numbers as people write them.

    >>> number_list([3, 4, 5, 9, 11]), number_list([2, 6, 10, 14, 15])
    ('3-5, 9, 11', '2, 6, ..., 14, 15')
    """
    parts, at = [], 0
    while at < len(numbers):
        end = _run_end(numbers, at)
        first, last = numbers[at], numbers[end]
        if end - at >= 2 and last - first == end - at:
            parts.append(f"{first}-{last}")
        elif end - at >= 3:
            parts.append(f"{first}, {numbers[at + 1]}, ..., {last}")
        else:
            parts.append(str(first))
            end = at
        at = end + 1
    return ", ".join(parts)


def _run_end(numbers: Sequence[int], at: int) -> int:
    """Where the run of equal steps that begins at `at` ends."""
    end = min(at + 1, len(numbers) - 1)
    while end + 1 < len(numbers) and numbers[end + 1] - numbers[end] == numbers[at + 1] - numbers[at]:
        end += 1
    return end


# -- equal and different -----------------------------------------------------------------------------------------------


def _mains(nodes: Sequence[Node]) -> list[Node]:
    """The nodes of a block that a spec names: its mixer, without norm and add."""
    return [node for node in nodes if node.op.Fields is not None]


def _kind(nodes: Sequence[Node]) -> str:
    return " + ".join(node.op.kind for node in _mains(nodes) or nodes)


def _key(nodes: Sequence[Node]) -> Any:
    """What equal layers share."""
    return tuple((node.role, node.op.key, node.op.sizes, node.formats, node.owner) for node in nodes)


def _marks(letters: Sequence[str], keys: Sequence[Any]) -> dict[Any, str]:
    """The mark of each key: the letter alone of its most frequent key, or the first of these."""
    counts: dict[str, Counter[Any]] = {}
    for letter, key in zip(letters, keys, strict=True):
        counts.setdefault(letter, Counter())[key] += 1
    marks: dict[Any, str] = {}
    for letter, count in counts.items():
        usual = count.most_common(1)[0][0]
        others = (key for key in count if key != usual)
        marks |= {usual: letter} | {key: f"{letter}'{n if n > 1 else ''}" for n, key in enumerate(others, 1)}
    return marks


def _variants(
    nodes: Sequence[Sequence[Node]], letters: Sequence[str], keys: Sequence[Any], marks: dict[Any, str]
) -> Iterator[Variant]:
    counts = Counter(keys)
    plain = {letter: key for key, letter in marks.items() if letter in letters}
    for key, mark in marks.items():
        if mark in plain:
            continue
        layers = tuple(i for i, each in enumerate(keys) if each == key)
        main = plain[letters[layers[0]]]
        rivals = (counts[k] for k in marks if k != main and marks[k].partition("'")[0] == marks[main])
        than, usual = keys.index(main), counts[main] > max(rivals)
        here, there = _described(nodes[layers[0]]), _described(nodes[than])
        names = dict.fromkeys(itertools.chain(here, there))
        changes = ((name, here.get(name, ""), there.get(name, "")) for name in names)
        yield Variant(mark, layers, tuple(change for change in changes if change[1] != change[2]), than, usual)


def _described(nodes: Sequence[Node]) -> dict[str, str]:
    """All that may tell two layers apart, by name: the mixer's own as they are, others' after their role."""
    mains = _mains(nodes)
    found: dict[str, str] = {}
    for node in nodes:
        before = "" if mains == [node] else f"{node.role}."
        found[f"{before}kind"] = node.op.kind
        found |= {f"{before}{role}": str(dim.size) for role, dim in node.op.dims.items()}
        found |= {f"{before}{name}": value_words(value) for name, value in node.op.attributes.items()}
        found |= {f"{before}{name}": format for name, format in node.formats}
        if node.owner:
            found[f"{before}parameters"] = f"those of {node.owner}"
    return found


def _sizes(nodes: Sequence[Node]) -> tuple[tuple[str, int], ...]:
    mains = _mains(nodes)
    before = {node.id: f"{node.role}." if len(mains) > 1 else "" for node in mains}
    return tuple((f"{before[node.id]}{role}", dim.size) for node in mains for role, dim in node.op.dims.items())
