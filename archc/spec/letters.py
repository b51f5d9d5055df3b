"""Which blocks a spec declares, under which letters, and how its layers name them.

A kind of block is declared once per variant that several layers use; a variant of one layer is that layer's
override. A spec that changes another one keeps that one's letters.
"""

from __future__ import annotations

import itertools
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from archc.ir.op import op_class
from archc.spec.model import Block
from archc.spec.pattern import write_pattern
from archc.spec.records import changes

_LETTERS = string.ascii_uppercase + string.ascii_lowercase.replace("x", "")
_NONE: Mapping[str, Block] = {}

Layer = str | dict[str, Any]


def letters_of(layers: Sequence[Block], known: Mapping[str, Block] = _NONE) -> dict[Block, str]:
    """The blocks to declare, each with its letter, in order of appearance.

    Of every kind the variant that most layers use, and other variants that at least two layers use while letters
    last; what is left are overrides of the former. `known` are the declared blocks of a spec that is changed: a block
    takes the letter of the known one of its kind that it differs least from.
    """
    declared = _declared(layers)
    letters = _nearest(declared, Counter(layers), known)
    left = {block: letter for letter, block in known.items() if letter not in letters.values()}
    letters |= {block: left[block] for block in layers if block in left and block not in letters}
    found: dict[Block, str] = {}
    for block in dict.fromkeys(layers):
        if block in letters or block in declared:
            found[block] = letters.get(block) or _letter(block, {*letters.values(), *found.values()}, known)
    return found


def _declared(layers: Sequence[Block]) -> list[Block]:
    uses = Counter(layers)
    main = {family: max(variants, key=lambda b: uses[b]) for family, variants in _families(uses).items()}
    wanted = [block for block in uses if main[_family(block)] == block]
    several = [block for block in uses if block not in wanted and uses[block] > 1]
    return wanted + several[: max(0, len(_LETTERS) - len(wanted))]


def _family(block: Block) -> Any:
    """What an override cannot change."""
    return block.kind, block.formats


def _families(blocks: Iterable[Block]) -> dict[Any, list[Block]]:
    found: dict[Any, list[Block]] = {}
    for block in blocks:
        found.setdefault(_family(block), []).append(block)
    return found


def _letter(block: Block, taken: Iterable[str], known: Iterable[str]) -> str:
    """A letter that is not taken: the usual one of the kind, even of a known block that is to go, or a fresh one."""
    usual, fresh = op_class(block.kind).usual_letter(), (name for name in _fresh() if name not in known)
    return next(name for name in itertools.chain([usual], fresh) if name not in taken)


def _fresh() -> Iterator[str]:
    """Names in the order they are given: letters, then words once those are used up."""
    yield from _LETTERS
    yield from (f"B{n}" for n in itertools.count(1))


def _nearest(blocks: Sequence[Block], uses: Mapping[Block, int], known: Mapping[str, Block]) -> dict[Block, str]:
    """Letters of known blocks for blocks of their kind: pairs that differ least first, then blocks used most."""
    pairs = [
        (_distance(old, block), -uses[block], at, letter, block)
        for at, block in enumerate(blocks)
        for letter, old in known.items()
        if old.kind == block.kind
    ]
    letters: dict[Block, str] = {}
    for *_, letter, block in sorted(pairs, key=lambda pair: pair[:4]):
        if block not in letters and letter not in letters.values():
            letters[block] = letter
    return letters


def _distance(old: Block, new: Block) -> int:
    """How many things a patch of one block to another says."""
    return _leaves(changes(old.fields, new.fields)) + len(set(old.formats) ^ set(new.formats))


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value.values())) if isinstance(value, dict) else 1


# -- how layers name them ----------------------------------------------------------------------------------------------


def layers_data(layers: Sequence[Block], letters: Mapping[Block, str]) -> str | list[Layer]:
    """What stands under `layers`: one pattern, or a list where some layers change fields."""
    base = {_family(block): block for block in reversed(list(letters))}
    uses = [_use(block, base, letters) for block in layers]
    if all(isinstance(use, str) for use in uses):
        return write_pattern([str(use) for use in uses])
    return list(_items(uses))


def _use(block: Block, base: Mapping[Any, Block], letters: Mapping[Block, str]) -> Layer:
    if block in letters:
        return letters[block]
    declared = base[_family(block)]
    return {"use": letters[declared], **changes(declared.fields, block.fields)}


def _items(uses: Sequence[Layer]) -> Iterator[Layer]:
    for override, same in groupby(uses, key=_override):
        run = list(same)
        if override is None:
            yield write_pattern([str(letter) for letter in run])
        else:
            yield override | ({"times": len(run)} if len(run) > 1 else {})


def _override(use: Layer) -> dict[str, Any] | None:
    return None if isinstance(use, str) else use
