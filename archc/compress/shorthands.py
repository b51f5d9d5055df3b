"""Shorter ways for a recipe to say passes: an entry of its list under a name that is no pass's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from archc.kernels.errors import ArchcError, Place, SpecError
from archc.passes import Pass
from archc.passes.prune import Prune
from archc.passes.prune_vocab import PruneVocab, id_ranges
from archc.train.tokenizers.kept import read_ids
from archc.yamlfile import Node, shown

Read: TypeAlias = tuple[list[tuple[Pass, Place]], list[SpecError]]  # passes and where they stand, and what is wrong


def _targets(node: Node, folder: Path) -> Read:
    """`{d_model: 3072, mlp.d_ff: 0.75}`: a `prune` for each, to a size or a share, by activations."""
    if not isinstance(node.value, dict) or not node.value:
        return [], [node.error(f"`targets`: expected sizes by dim, got {shown(node.data)}")]
    passes: list[tuple[Pass, Place]] = []
    errors: list[SpecError] = []
    for key, value in node.value.items():
        options = dict(_sized(value))
        if not options:
            errors.append(value.error(f"`{key}`: expected a size or a share below 1, got {shown(value.data)}"))
            continue
        kind, _, dim = key.rpartition(".")
        passes.append((Prune(dim=dim, kind=kind, **options), value.key_at))
    return passes, errors


def _sized(node: Node) -> Iterator[tuple[str, Any]]:
    size = node.data
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        yield "to", size
    elif isinstance(size, float) and 0 < size < 1:
        yield "keep", size


def _keep_tokens(node: Node, folder: Path) -> Read:
    """`kept.txt`: a `prune-vocab` that keeps the ids of a file, one or a range such as `0-255` a line, in its order."""
    if not isinstance(node.value, str):
        return [], [node.error(f"`keep-tokens`: expected a file of ids, got {shown(node.data)}")]
    file = folder / node.value
    if not file.is_file():
        return [], [node.error(f"{file}: no such file of ids")]
    try:
        return [(PruneVocab(keep=id_ranges(read_ids(file))), node.key_at)], []
    except ArchcError as error:
        return [], [node.error(str(error))]


SHORTHANDS: Mapping[str, Callable[[Node, Path], Read]] = {"targets": _targets, "keep-tokens": _keep_tokens}
