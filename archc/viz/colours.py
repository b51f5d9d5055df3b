"""One colour for each kind of block, the same on the terminal, on the page and in pictures.

Kinds take colours in the order in which they are registered, so that a new block has one without asking.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from archc.ir.op import registered_ops


@dataclass(frozen=True)
class Colour:
    """`fill` of a block, on light and on dark ground alike, and `ink` of the text on it."""

    fill: str
    ink: str = "#10141a"


# Told apart by people who see colours differently: after Okabe & Ito (2008), lightened where text stands on them.
_PALETTE = (
    Colour("#f0a03c"),
    Colour("#5cc29b"),
    Colour("#a78bea"),
    Colour("#d98ac2"),
    Colour("#6fb1ea"),
    Colour("#e8785a"),
    Colour("#e3d052"),
    Colour("#7fd3d8"),
)
PLAIN = Colour("#aab2bd")


def colour(kind: str) -> Colour:
    """The colour of a kind of block; `PLAIN` for joints, norms and whatever no spec can name."""
    return _colours().get(kind, PLAIN)


@functools.cache
def _colours() -> dict[str, Colour]:
    kinds = [op.kind for op in registered_ops() if op.Fields is not None]
    return {kind: _PALETTE[i % len(_PALETTE)] for i, kind in enumerate(kinds)}
