"""Paths of a space: `d_model`, `mlp.d_ff`, `layers.3.mlp.d_ff`, `layers.0-9,12.attention.rope.theta`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archc.ir.graph import LAYERS
from archc.kernels.errors import SearchError

_PLACES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True)
class Where:
    """What a path names: fields of an op of a `kind`, at `layers` of the base (all where there are none), or, without
    a kind, of the model."""

    kind: str
    fields: tuple[str, ...]
    layers: tuple[int, ...] = ()


def where(path: str) -> Where:
    """What a path names. Raises SearchError for one that is none."""
    parts = path.split(".")
    layers: tuple[int, ...] = ()
    if parts[0] == LAYERS:
        place, parts = (parts[1] if len(parts) > 1 else ""), parts[2:]
        layers = () if place == "*" else places(path, place)
    if not parts or not all(parts):
        raise SearchError(f"`{path}`: expected a path such as `d_model`, `mlp.d_ff` or `layers.3.mlp.d_ff`")
    return Where(parts[0], tuple(parts[1:]), layers) if len(parts) > 1 else Where("", (parts[0],), layers)


def places(path: str, text: str) -> tuple[int, ...]:
    """Positions of layers: `3`, `0-9`, `1,3,5`. Raises SearchError."""
    if not _PLACES.fullmatch(text):
        wanted = "`layers.*`, or positions such as `layers.3`, `layers.0-9` or `layers.1,3`"
        raise SearchError(f"`{path}`: expected {wanted}, got `layers.{text}`")
    found: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= dict.fromkeys(range(int(first), int(last or first) + 1))
    if not found:
        raise SearchError(f"`{path}`: `{text}` has no layer")
    return tuple(sorted(found))
